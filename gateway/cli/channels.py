"""`millrace channel …`: channels in the configured store, with or without a running gateway."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import common
from gateway.cli.keys import expiry

if TYPE_CHECKING:
    from gateway.adapters.stores import Stores
    from gateway.api.presenter import Presenter
    from gateway.channels.channel import Channel
    from gateway.channels.stores import ChannelStore
    from gateway.channels.stream_key import SigningSecrets
    from gateway.settings import Settings

app = typer.Typer(help="Manage channels in the configured store.", no_args_is_help=True, rich_markup_mode=None)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The channel.")]
NameOption = Annotated[str | None, typer.Option("--name", help="The name shown to people (videoname).")]
DescriptionOption = Annotated[str | None, typer.Option("--description")]
FieldOption = Annotated[
    list[str] | None,
    typer.Option(
        "--field", metavar="NAME=VALUE", help="A field by its name in the API, such as isHls=true; may be repeated."
    ),
]
_EXPIRES_HELP = (
    "Until when it may be pushed: seconds since 1970, a date (00:00 UTC of that day) or a time with its zone."
)


class MediaOnDelete(StrEnum):
    """What happens to the recordings and VODs of a deleted channel."""

    KEEP = "keep"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class _CommandContext:
    """The objects that a command works with."""

    store: ChannelStore
    stores: Stores
    secrets: SigningSecrets
    presenter: Presenter
    settings: Settings


@app.command()
def create(
    expires: Annotated[str, typer.Option("--expires", metavar="EPOCH|ISO", help=_EXPIRES_HELP)],
    name: NameOption = None,
    description: DescriptionOption = None,
    field: FieldOption = None,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
) -> None:
    """Store a new channel and print where to push and play."""
    from gateway.channels.channel import create_item

    body = _body(expires, name, description, field)

    async def work(context: _CommandContext) -> None:
        item = create_item(body, time.time(), context.secrets, context.settings.limits.item)
        _show(context, await context.store.add(item), as_json)

    _run(config, profile, work)


@app.command("list")
def list_(
    as_json: common.JsonOption = False, config: common.ConfigOption = None, profile: common.ProfileOption = None
) -> None:
    """Print all channels: id, expiry, outputs, name."""
    from gateway.playback.formats import enabled_outputs

    async def work(context: _CommandContext) -> None:
        channels = await context.store.list()
        if as_json:
            now = time.time()
            typer.echo(json.dumps([context.presenter.present(c, now) for c in channels], ensure_ascii=False, indent=2))
            return
        for channel in channels:
            line = f"{channel.id}  {_until(channel)}  {','.join(enabled_outputs(channel)) or '-':<12}  {channel.name}"
            typer.echo(common.plain(line))

    _run(config, profile, work)


@app.command()
def show(
    id: IdArgument,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
) -> None:
    """Print one channel, its key, and where to push and play."""

    async def work(context: _CommandContext) -> None:
        _show(context, await context.store.get(id), as_json)

    _run(config, profile, work)


@app.command()
def update(
    id: IdArgument,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires", metavar="EPOCH|ISO", help=_EXPIRES_HELP + " Makes a new key, which revokes the old one."
        ),
    ] = None,
    name: NameOption = None,
    description: DescriptionOption = None,
    field: FieldOption = None,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
) -> None:
    """Change fields of a channel; the others stay."""
    from gateway.channels.channel import changes

    body = _body(expires, name, description, field)
    if not body:
        common.fail(common.USAGE, "nothing to change: give --expires, --name, --description or --field")

    async def work(context: _CommandContext) -> None:
        channel = await context.store.get(id)
        _show(
            context,
            await context.store.update(id, changes(channel, body, context.secrets, context.settings.limits.item)),
            as_json,
        )

    _run(config, profile, work)


@app.command()
def delete(
    id: IdArgument,
    media: Annotated[
        MediaOnDelete,
        typer.Option(
            "--media",
            help="What becomes of recordings and films: keep them, as protected as the channel is, or delete them.",
        ),
    ] = MediaOnDelete.KEEP,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
) -> None:
    """Delete a channel, which revokes its key. A running gateway deletes recordings that are finished later."""

    async def work(context: _CommandContext) -> None:
        from gateway.app.background_jobs import media_deletion

        deletion = media_deletion(context.settings, context.stores) if media is MediaOnDelete.DELETE else None
        if deletion is not None:
            await deletion.check()
        deleted = await context.store.delete(id, time.time(), media=deletion is not None)
        files = await deletion.once(deleted) if deletion is not None else 0
        if as_json:
            typer.echo(json.dumps({"id": id, "deleted": True, "media": str(media), "files": files}))
        else:
            typer.echo(f"deleted {id}" + (f" and {files} files" if media is MediaOnDelete.DELETE else ""))

    _run(config, profile, work)


@app.command()
def sign(
    id: IdArgument,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="EPOCH|ISO", help="A new expiry; without it the stored one stays."),
    ] = None,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
) -> None:
    """Make the key of a channel again, with the current secret and algorithm; the old one is revoked.

    An unchanged expiry, secret and algorithm make an unchanged key: give --expires to revoke a key that became known.
    """
    until = None if expires is None else expiry(expires)

    async def work(context: _CommandContext) -> None:
        channel = await context.store.get(id)
        changed = {"key": context.secrets.sign(id, channel.expires if until is None else until)}
        if expires is not None:
            changed["outdate"] = expires
        _show(context, await context.store.update(id, changed), as_json)

    _run(config, profile, work)


def _body(expires: str | None, name: str | None, description: str | None, pairs: list[str] | None) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for pair in pairs or ():
        field, equals, value = pair.partition("=")
        if not (field and equals):
            common.fail(common.USAGE, f"--field {common.plain(pair)}: expected name=value")
        body[field] = _value(field, value)
    if name is not None:
        body["videoname"] = name
    if description is not None:
        body["description"] = description
    if expires is not None:
        expiry(expires)
        body["outdate"] = expires
    return body


def _value(field: str, text: str) -> Any:
    """Parses true, false, null, lists and tables as JSON. Numbers stay text, as the original's clients send them."""
    if text in ("true", "false", "null") or text.startswith(("[", "{")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            common.fail(common.USAGE, f"--field {common.plain(field)}: not JSON")
    return text


def _run(config: Path | None, profile: str | None, work: Callable[[_CommandContext], Awaitable[None]]) -> None:
    settings = common.settings(config, profile)
    common.load_outputs()

    async def main() -> None:
        async with _command_context(settings) as context:
            await work(context)

    asyncio.run(main())


@asynccontextmanager
async def _command_context(settings: Settings) -> AsyncIterator[_CommandContext]:
    from gateway.adapters.local.credentials import signing_secret
    from gateway.adapters.local.host import known_ports, shown_host
    from gateway.adapters.secret_resolver import resolved
    from gateway.adapters.stores import open_stores
    from gateway.api.presenter import Presenter
    from gateway.channels.addresses import Addresses
    from gateway.ingest.registry import push_addresses

    secrets = signing_secret(await resolved(settings))
    async with open_stores(settings) as stores:
        addresses = Addresses.of(
            await stores.domains.get_domains(),
            known_ports(settings),
            shown_host(settings.rtmp.host),
            shown_host(settings.http.host),
            settings.playback.public_url,
        )
        presenter = Presenter(addresses, secrets, push_addresses, settings.playback.auth, settings.playback.sign_ttl)
        yield _CommandContext(stores.channels, stores, secrets, presenter, settings)


def _show(context: _CommandContext, channel: Channel, as_json: bool) -> None:
    shown = context.presenter.present(channel, time.time())
    if as_json:
        typer.echo(json.dumps(shown, ensure_ascii=False, indent=2))
        return
    lines = [
        ("id", channel.id),
        ("name", channel.name),
        ("expires", _until(channel) + (" (expired)" if shown["expired"] else "")),
        ("server", shown["obsServer"]),
        ("key", shown["obsKey"]),
        ("push", shown["pushUrl"]),
        *((f"play {name}", url) for name, url in shown["playUrls"].items()),
    ]
    for name, value in lines:
        typer.echo(f"{name:<12}{common.plain(value)}")


def _until(channel: Channel) -> str:
    try:
        return datetime.fromtimestamp(channel.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # a key of another program may have a year out of range
        return str(channel.expires)
