"""`millrace ivs …`: creates Amazon IVS channels and adds them as relay targets of local channels."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from gateway.cli import common
from gateway.cli.channel_changes import AUTHOR, channel_changes

if TYPE_CHECKING:
    from gateway.adapters.aws.ivs import AwsIvs
    from gateway.channels.channel import Channel
    from gateway.ports.stores import IvsChannelInfo
    from gateway.settings import Settings

app = typer.Typer(
    help="Create Amazon IVS channels and relay to them. AWS credentials and a region are needed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

IvsChannelType: TypeAlias = Literal["STANDARD", "BASIC", "ADVANCED_SD", "ADVANCED_HD"]
Latency: TypeAlias = Literal["LOW", "NORMAL"]
ArnArgument = Annotated[str, typer.Argument(metavar="ARN", help="The IVS channel.")]


@dataclass(frozen=True, slots=True)
class _CommandContext:
    """The objects that a command uses."""

    ivs: AwsIvs
    settings: Settings


@asynccontextmanager
async def _open_context(sources: common.Sources) -> AsyncIterator[_CommandContext]:
    from gateway.adapters.stores import open_aws

    settings = sources.settings()
    async with open_aws("IVS") as session:
        from gateway.adapters.aws.ivs import AwsIvs

        yield _CommandContext(AwsIvs(session), settings)


_command = functools.partial(common.command_within, _open_context, app)


@_command()
async def create(
    context: _CommandContext,
    name: Annotated[str, typer.Option("--name", help="Letters, digits, - and _, at most 128.")],
    type_: Annotated[
        IvsChannelType, typer.Option("--type", help="The type. It determines limits and price.")
    ] = "STANDARD",
    latency: Annotated[Latency, typer.Option("--latency")] = "LOW",
    channel: Annotated[
        str | None, typer.Option("--channel", metavar="ID", help="The local channel to relay to the IVS channel.")
    ] = None,
    authorized: Annotated[bool, typer.Option("--authorized", help="Players need a signed token.")] = False,
    as_json: common.JsonOption = False,
) -> None:
    """Create an IVS channel. Print its push address, its key (shown only once) and its play address."""
    from gateway.adapters.stores import open_stores

    if channel is not None:
        async with open_stores(context.settings) as stores:
            # First check that the channel can have one more relay target.
            _with_relay_target(await stores.channels.get(channel), "arn:aws:ivs:us-east-1:000000000000:channel/x")
    created = await context.ivs.create(name, type_, latency, authorized)
    _show(created, as_json, channel)
    if channel is not None:
        async with open_stores(context.settings) as stores:
            relay = _with_relay(await stores.channels.get(channel), created)
            await channel_changes(stores).update(channel, relay, AUTHOR)


@_command("list")
async def list_(context: _CommandContext, as_json: common.JsonOption = False) -> None:
    """Print the IVS channels of the region: ARN, type, latency, name."""
    channels = await context.ivs.list()
    if as_json:
        common.print_json([{"arn": c.arn, "name": c.name, "type": c.kind, "latency": c.latency} for c in channels])
        return
    for c in channels:
        typer.echo(common.plain(f"{c.arn}  {c.kind:<11}  {c.latency:<6}  {c.name}"))


@_command()
async def show(context: _CommandContext, arn: ArnArgument, as_json: common.JsonOption = False) -> None:
    """Print one IVS channel, without its key."""
    _show(await context.ivs.show(_arn(arn)), as_json, None)


@_command()
async def delete(
    context: _CommandContext,
    arn: ArnArgument,
    channel: Annotated[
        str | None,
        typer.Option("--channel", metavar="ID", help="The local channel whose relay to the IVS channel is removed."),
    ] = None,
    as_json: common.JsonOption = False,
) -> None:
    """Delete an IVS channel and its keys."""
    from gateway.adapters.stores import open_stores

    if channel is not None:
        async with open_stores(context.settings) as stores:
            if changed := _without_relay(await stores.channels.get(channel), _arn(arn)):
                await channel_changes(stores).update(channel, changed, AUTHOR)
    await context.ivs.delete(_arn(arn))
    typer.echo(json.dumps({"arn": arn, "deleted": True}) if as_json else f"deleted {arn}")


def _arn(text: str) -> str:
    from gateway.channels.relay_urls import is_ivs_channel

    if not is_ivs_channel(text):
        common.fail(common.USAGE, f"{common.plain(text)}: expected the ARN of an IVS channel")
    return text


def _with_relay_target(channel: Channel, arn: str) -> Any:
    """Returns the channel's `relayURL` with one more target, in the stored form: a list or a text.

    Raises InvalidField if the channel has too many targets.
    """
    from gateway.channels import fields, relay_urls

    stored = channel.item.get("relayURL")
    targets = [*(relay_urls.targets(stored) or ()), arn] if stored else [arn]
    value = targets if isinstance(stored, list) else ",".join(targets)
    fields.check("relayURL", value)
    return value


def _with_relay(channel: Channel, created: IvsChannelInfo) -> dict[str, Any]:
    """Returns the changes of the local channel: a relay to IVS, and the IVS playback address."""
    return {
        "isRelay": True,
        "relayURL": _with_relay_target(channel, created.arn),
        "ivsChannelArn": created.arn,
        "ivsPlaybackUrl": created.playback_url,
    }


def _without_relay(channel: Channel, arn: str) -> dict[str, Any]:
    """Returns the changes of the local channel that remove its relay to `arn`."""
    from gateway.channels import relay_urls

    stored = channel.item.get("relayURL")
    before = relay_urls.targets(stored) or ()
    remaining = [t for t in before if t != arn]
    changed: dict[str, Any] = {}
    if len(remaining) != len(before):
        changed |= {"relayURL": remaining if isinstance(stored, list) else ",".join(remaining)}
        if not remaining:
            changed["isRelay"] = False
    if channel.item.get("ivsChannelArn") == arn:
        changed |= {"ivsChannelArn": "", "ivsPlaybackUrl": ""}
    return changed


def _show(channel: IvsChannelInfo, as_json: bool, relayed_channel: str | None) -> None:
    if as_json:
        fields: dict[str, Any] = {"arn": channel.arn, "name": channel.name}
        fields |= {"type": channel.kind, "latency": channel.latency}
        fields |= {"authorized": channel.authorized, "ingestEndpoint": channel.endpoint}
        fields |= {"server": channel.server, "playbackUrl": channel.playback_url}
        fields |= {"streamKey": channel.key} if channel.key else {}
        fields |= {"channel": relayed_channel} if relayed_channel else {}
        common.print_json(fields)
        return
    lines = [
        ("arn", channel.arn),
        ("name", channel.name),
        ("type", f"{channel.kind}, latency {channel.latency}" + (", authorized" if channel.authorized else "")),
        ("server", channel.server),
        *([("key", channel.key)] if channel.key else []),
        ("play", channel.playback_url),
        *([("relayed", f"from channel {relayed_channel}")] if relayed_channel else []),
    ]
    common.print_table(lines)
