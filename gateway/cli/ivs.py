"""`millrace ivs …`: creates Amazon IVS channels and makes them relay targets of local channels."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import common

if TYPE_CHECKING:
    from gateway.adapters.aws.ivs import AwsIvs
    from gateway.channels.channel import Channel
    from gateway.channels.stores import ChannelStore
    from gateway.ports.stores import IvsChannelInfo

app = typer.Typer(
    help="Make Amazon IVS channels and relay to them (needs AWS credentials and a region).",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ArnArgument = Annotated[str, typer.Argument(metavar="ARN", help="The IVS channel.")]


class IvsChannelType(StrEnum):
    """Types of IVS channels."""

    STANDARD = "STANDARD"
    BASIC = "BASIC"
    ADVANCED_SD = "ADVANCED_SD"
    ADVANCED_HD = "ADVANCED_HD"


class Latency(StrEnum):
    """Latency modes of IVS channels."""

    LOW = "LOW"
    NORMAL = "NORMAL"


@app.command()
def create(
    name: Annotated[str, typer.Option("--name", help="Letters, digits, - and _, at most 128.")],
    type_: Annotated[
        IvsChannelType, typer.Option("--type", help="The type, which decides limits and price.")
    ] = IvsChannelType.STANDARD,
    latency: Annotated[Latency, typer.Option("--latency")] = Latency.LOW,
    channel: Annotated[
        str | None, typer.Option("--channel", metavar="ID", help="The channel here that is relayed to it from now on.")
    ] = None,
    authorized: Annotated[bool, typer.Option("--authorized", help="Players need a signed token.")] = False,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
) -> None:
    """Make an IVS channel; print where to push, the key (only now) and where to play."""

    async def work(ivs: AwsIvs, stores: _Stores) -> None:
        if channel is not None:
            async with stores() as store:
                # Checks before the creation that the channel can take one more target.
                _more_relays(await store.get(channel), "arn:aws:ivs:us-east-1:000000000000:channel/x")
        made = await ivs.create(name, type_.value, latency.value, authorized)
        _show(made, as_json, channel)
        if channel is not None:
            async with stores() as store:
                await store.update(channel, _tied(await store.get(channel), made))

    _run(config, profile, work)


@app.command("list")
def list_(
    as_json: common.JsonOption = False, config: common.ConfigOption = None, profile: common.ProfileOption = None
) -> None:
    """Print the IVS channels of the region: ARN, type, latency, name."""

    async def work(ivs: AwsIvs, stores: _Stores) -> None:
        found = await ivs.list()
        if as_json:
            shown = [{"arn": c.arn, "name": c.name, "type": c.kind, "latency": c.latency} for c in found]
            typer.echo(json.dumps(shown, ensure_ascii=False, indent=2))
            return
        for one in found:
            typer.echo(common.plain(f"{one.arn}  {one.kind:<11}  {one.latency:<6}  {one.name}"))

    _run(config, profile, work)


@app.command()
def show(
    arn: ArnArgument,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
) -> None:
    """Print one IVS channel; its key is not shown again."""

    async def work(ivs: AwsIvs, stores: _Stores) -> None:
        _show(await ivs.show(_arn(arn)), as_json, None)

    _run(config, profile, work)


@app.command()
def delete(
    arn: ArnArgument,
    channel: Annotated[
        str | None, typer.Option("--channel", metavar="ID", help="The channel here that is no longer relayed to it.")
    ] = None,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
) -> None:
    """Delete an IVS channel and its keys."""

    async def work(ivs: AwsIvs, stores: _Stores) -> None:
        if channel is not None:
            async with stores() as store:
                stored = await store.get(channel)
                if changed := _untied(stored, _arn(arn)):
                    await store.update(channel, changed)
        await ivs.delete(_arn(arn))
        typer.echo(json.dumps({"arn": arn, "deleted": True}) if as_json else f"deleted {arn}")

    _run(config, profile, work)


_Stores = Callable[[], Any]  # opens the configured ChannelStore: async with stores() as store


def _run(config: Path | None, profile: str | None, work: Callable[[AwsIvs, _Stores], Awaitable[None]]) -> None:
    from gateway.adapters.stores import open_aws

    settings = common.settings(config, profile)

    @asynccontextmanager
    async def stores() -> AsyncIterator[ChannelStore]:
        from gateway.adapters.stores import open_stores

        async with open_stores(settings) as opened:
            yield opened.channels

    async def main() -> None:
        async with open_aws("IVS") as session:
            from gateway.adapters.aws.ivs import AwsIvs

            await work(AwsIvs(session), stores)

    asyncio.run(main())


def _arn(text: str) -> str:
    from gateway.channels.relay_urls import is_ivs_channel

    if not is_ivs_channel(text):
        common.fail(common.USAGE, f"{common.plain(text)}: expected the ARN of an IVS channel")
    return text


def _more_relays(channel: Channel, arn: str) -> Any:
    """Returns the channel's `relayURL` with one more target, in its present form.

    Raises InvalidField where it is full.
    """
    from gateway.channels import fields, relay_urls

    stored = channel.item.get("relayURL")
    now = [*(relay_urls.targets(stored) or ()), arn] if stored else [arn]
    value = now if isinstance(stored, list) else ",".join(now)
    fields.check("relayURL", value)
    return value


def _tied(channel: Channel, made: IvsChannelInfo) -> dict[str, Any]:
    """Returns the changes of the local channel: a relay to IVS, and the address at which IVS plays it."""
    return {
        "isRelay": True,
        "relayURL": _more_relays(channel, made.arn),
        "ivsChannelArn": made.arn,
        "ivsPlaybackUrl": made.playback_url,
    }


def _untied(channel: Channel, arn: str) -> dict[str, Any]:
    """Returns the changes of the local channel when it is no longer relayed to `arn`."""
    from gateway.channels import relay_urls

    stored = channel.item.get("relayURL")
    before = relay_urls.targets(stored) or ()
    kept = [t for t in before if t != arn]
    changed: dict[str, Any] = {}
    if len(kept) != len(before):
        changed |= {"relayURL": kept if isinstance(stored, list) else ",".join(kept)}
        if not kept:
            changed["isRelay"] = False
    if channel.item.get("ivsChannelArn") == arn:
        changed |= {"ivsChannelArn": "", "ivsPlaybackUrl": ""}
    return changed


def _show(channel: IvsChannelInfo, as_json: bool, tied: str | None) -> None:
    if as_json:
        shown = {
            "arn": channel.arn,
            "name": channel.name,
            "type": channel.kind,
            "latency": channel.latency,
            "authorized": channel.authorized,
            "ingestEndpoint": channel.endpoint,
            "server": channel.server,
            "playbackUrl": channel.playback_url,
            **({"streamKey": channel.key} if channel.key else {}),
            **({"channel": tied} if tied else {}),
        }
        typer.echo(json.dumps(shown, ensure_ascii=False, indent=2))
        return
    lines = [
        ("arn", channel.arn),
        ("name", channel.name),
        ("type", f"{channel.kind}, latency {channel.latency}" + (", authorized" if channel.authorized else "")),
        ("server", channel.server),
        *([("key", channel.key)] if channel.key else []),
        ("play", channel.playback_url),
        *([("relayed", f"from channel {tied}")] if tied else []),
    ]
    for label, value in lines:
        typer.echo(f"{label:<12}{common.plain(value)}")
