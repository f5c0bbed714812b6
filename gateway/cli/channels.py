"""`millrace channel …`: manages channels in the configured store, with or without a running gateway."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from gateway.cli import common
from gateway.cli.channel_changes import AUTHOR, channel_changes
from gateway.cli.keys import parse_expiry
from gateway.lib.rfc3339 import rfc3339

if TYPE_CHECKING:
    from gateway.adapters.stores import Stores
    from gateway.api.presenter import Presenter
    from gateway.channels.channel import Channel
    from gateway.channels.stream_key import SigningSecrets
    from gateway.settings import Settings

app = typer.Typer(help="Manage channels in the configured store.", no_args_is_help=True, rich_markup_mode=None)

IdArgument = Annotated[str, typer.Argument(metavar="ID|SLUG", help="The channel.")]
NameArgument = Annotated[str, typer.Argument(metavar="ID|SLUG|NAME", help="The channel; the name of only one.")]
NameOption = Annotated[str | None, typer.Option("--name", help="The name shown to people (videoname).")]
DescriptionOption = Annotated[str | None, typer.Option("--description")]
FieldOption = Annotated[
    list[str] | None,
    typer.Option(
        "--field", metavar="NAME=VALUE", help="A field by its name in the API, such as isHls=true; may be repeated."
    ),
]
_EXPIRES_HELP = (
    "The time until which a push may begin: seconds since 1970, a date (00:00 UTC of that day), "
    "a time with its zone, or never."
)
_YEAR_SECONDS: Final = 365 * 86_400
_SIMILAR: Final = 0.6  # the least similarity of a name that is proposed


@dataclass(frozen=True, slots=True)
class _CommandContext:
    """The objects that a command uses."""

    stores: Stores
    secrets: SigningSecrets
    presenter: Presenter
    settings: Settings


@asynccontextmanager
async def _open_context(sources: common.Sources) -> AsyncIterator[_CommandContext]:
    from gateway.adapters.local.credentials import signing_secret
    from gateway.adapters.local.host import known_ports
    from gateway.adapters.secret_resolver import resolve_secrets
    from gateway.adapters.stores import open_stores
    from gateway.api.presenter import Presenter

    settings = sources.settings()
    common.load_outputs()
    secrets = signing_secret(await resolve_secrets(settings))
    async with open_stores(settings) as stores:
        presenter = Presenter.of(settings, secrets, await stores.domains.get_domains(), known_ports(settings))
        yield _CommandContext(stores, secrets, presenter, settings)


_command = functools.partial(common.command_within, _open_context, app)


@_command()
async def create(
    context: _CommandContext,
    name: NameOption = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="EPOCH|ISO|never", help=_EXPIRES_HELP + " Default: in a year.")
    ] = None,
    description: DescriptionOption = None,
    field: FieldOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """Store a new channel, and print its push and play addresses.

    HTTP-FLV, HLS, LL-HLS and DASH are on; --field isHls=false switches HLS off.
    """
    from gateway.channels.channel import create_item

    expires = expires or rfc3339(time.time() + _YEAR_SECONDS, "seconds")
    body = {"isHls": True, "isCMAF": True, **_body(expires, name, description, field)}
    item = create_item(body, time.time(), context.secrets, context.settings.limits.item)
    _show(context, await channel_changes(context.stores).create(item, AUTHOR), as_json)
    if parse_expiry(expires) < int(time.time()):
        typer.echo("warning: this channel has expired already: nobody can push until it has a later date", err=True)


@_command("list")
async def list_(context: _CommandContext, as_json: common.JsonOption = False) -> None:
    """Print all channels: id, expiry, outputs, name."""
    from gateway.playback.formats import enabled_outputs

    channels = await context.stores.channels.list()
    if as_json:
        now = time.time()
        common.print_json([context.presenter.present(c, now) for c in channels])
        return
    rows = [(c.id, _expiry(c), ",".join(enabled_outputs(c)) or "-", c.name) for c in channels]
    common.print_rows(("ID", "EXPIRES", "OUTPUTS", "NAME"), rows)


@_command()
async def show(context: _CommandContext, id: NameArgument, as_json: common.JsonOption = False) -> None:
    """Print one channel, its key, and its push and play addresses."""
    _show(context, await _find(context, id, by_name=True), as_json)


@_command()
async def update(
    context: _CommandContext,
    id: IdArgument,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires", metavar="EPOCH|ISO|never", help=_EXPIRES_HELP + " Makes a new key and revokes the old one."
        ),
    ] = None,
    name: NameOption = None,
    description: DescriptionOption = None,
    field: FieldOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """Change fields of a channel. The other fields are kept. A live stream changes within 5 s."""
    from gateway.channels.channel import changes

    if expires is None and name is None and description is None and not field:
        common.fail(common.USAGE, "nothing to change: give --expires, --name, --description or --field")
    channel = await _find(context, id)
    body = _body(expires, name, description, field, channel.item)
    changed = changes(channel, body, context.secrets, context.settings.limits.item)
    _show(context, await channel_changes(context.stores).update(channel.id, changed, AUTHOR), as_json)


@_command()
async def delete(
    context: _CommandContext,
    id: IdArgument,
    media: Annotated[
        Literal["keep", "delete"],
        typer.Option(
            "--media",
            help="Recordings and videos on demand: keep them, with the protection of the channel, or delete them.",
        ),
    ] = "keep",
    final: Annotated[bool, typer.Option("--final", help="It does not go into the bin.")] = False,
    as_json: common.JsonOption = False,
) -> None:
    """Delete a channel, and revoke its key. It can be restored for some hours, without media that were deleted.

    Its live stream ends within 5 s. A running gateway deletes recordings that are finished later.
    """
    from gateway.app.parts.background_jobs import media_deletion
    from gateway.channels.names import is_channel_id

    rows = await context.stores.channels.get_many([id]) if is_channel_id(id) else {}
    if id not in rows:  # also a row that cannot be read is one
        id = (await _find(context, id)).id
    deletion = media_deletion(context.settings, context.stores) if media == "delete" else None
    if deletion is not None:
        await deletion.check()
    changes = channel_changes(context.stores, context.settings.recording.bin_hours)
    deleted = await changes.delete(id, AUTHOR, media=deletion is not None, final=final)
    files = await deletion.delete_once(deleted) if deletion is not None else 0
    if as_json:
        typer.echo(json.dumps({"id": id, "deleted": True, "media": media, "files": files}))
    else:
        typer.echo(f"deleted {id}" + (f" and {files} files" if media == "delete" else ""))


@_command()
async def sign(
    context: _CommandContext,
    id: IdArgument,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="EPOCH|ISO|never", help="A new expiry; by default the stored one is kept."),
    ] = None,
    as_json: common.JsonOption = False,
) -> None:
    """Make the key of a channel again.

    It has the current secret and algorithm, and the old key is revoked. If expiry, secret and algorithm are unchanged,
    the key is unchanged too. To revoke a leaked key, use --expires.
    """
    from gateway.channels.expiry import stored_outdate

    expires_at = None if expires is None else parse_expiry(expires)
    channel = await _find(context, id)
    changed: dict[str, Any] = {
        "key": context.secrets.sign(channel.id, channel.expires if expires_at is None else expires_at)
    }
    if expires is not None:
        changed["outdate"] = stored_outdate(expires)
    _show(context, await channel_changes(context.stores).update(channel.id, changed, AUTHOR), as_json)


def _body(
    expires: str | None,
    name: str | None,
    description: str | None,
    pairs: list[str] | None,
    stored: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Returns the fields of the options. stored: the fields that the channel has. Exits for an unknown field."""
    body: dict[str, Any] = {}
    for pair in pairs or ():
        field, equals, value = pair.partition("=")
        if not (field and equals):
            common.fail(common.USAGE, f"--field {common.plain(pair)}: expected name=value")
        _check_name(field, stored)
        body[field] = _parse_value(field, value)
    if name is not None:
        body["videoname"] = name
    if description is not None:
        body["description"] = description
    if expires is not None:
        parse_expiry(expires)
        body["outdate"] = expires
    return body


def _check_name(field: str, stored: Mapping[str, Any]) -> None:
    """Exits for a field that neither Millrace nor the channel has. The API stores such fields for other programs."""
    from gateway.channels import expiry, fields
    from gateway.settings.layers import nearest

    known = (*fields.FIELDS, expiry.FIELD)
    if field not in known and field not in stored:
        hint = nearest(field, known, _SIMILAR)
        common.fail(common.USAGE, f"--field {common.plain(field)}: there is no such field{hint}")


def _parse_value(field: str, text: str) -> Any:
    """Parses true, false, null, lists and objects as JSON. Numbers stay text, because API clients send them as text."""
    if text in ("true", "false", "null") or text.startswith(("[", "{")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            common.fail(common.USAGE, f"--field {common.plain(field)}: not JSON")
    return text


def _show(context: _CommandContext, channel: Channel, as_json: bool) -> None:
    fields = context.presenter.present(channel, time.time())
    if as_json:
        common.print_json(fields)
        return
    lines = [
        ("id", channel.id),
        ("name", channel.name),
        ("expires", _expiry(channel) + (" (expired)" if fields["expired"] else "")),
        ("server", fields["obsServer"]),
        ("key", fields["obsKey"]),
        ("push", fields["pushUrl"]),
        *((f"push {name}", url) for name, url in fields["pushUrls"].items() if url != fields["pushUrl"]),
        ("watch", context.presenter.page(channel, time.time())),
        *((f"play {name}", url) for name, url in fields["playUrls"].items()),
    ]
    common.print_table(lines)


async def _find(context: _CommandContext, text: str, *, by_name: bool = False) -> Channel:
    """Returns the channel with this id or slug. by_name: or the only one with this name. Raises NoSuchChannel."""
    from gateway.ports.errors import NoSuchChannel

    with suppress(NoSuchChannel):
        return await context.stores.channels.get(text)
    channels = await context.stores.channels.list() if text else []
    named = [c for c in channels if c.slug == text] or [c for c in channels if by_name and c.name == text]
    if len(named) > 1:
        ids = ", ".join(sorted(c.id for c in named))
        common.fail(common.FAILED, common.plain(f"{len(named)} channels have the name {text}: {ids}"))
    if not named:
        raise NoSuchChannel(text)
    return named[0]


def _expiry(channel: Channel) -> str:
    from gateway.channels.expiry import is_never

    if is_never(channel.expires):
        return "never"
    try:
        return rfc3339(channel.expires, "seconds")
    except (ValueError, OverflowError, OSError):  # a key of another program may have a year out of range
        return str(channel.expires)
