"""`millrace user …`: manages the console's users, with or without a running gateway."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from gateway.cli import common
from gateway.cli.channel_changes import AUTHOR, channel_changes
from gateway.lib.rfc3339 import rfc3339

if TYPE_CHECKING:
    from gateway.channels.channel_events import Change
    from gateway.ports.users import ConsoleUser, Rights, Users

T = TypeVar("T")

app = typer.Typer(help="Manage the users of the console.", no_args_is_help=True, rich_markup_mode=None)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name for signing in.")]
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]


RoleOption = Annotated[
    str,
    typer.Option(
        "--role",
        metavar="ROLE",
        help="administrator; broadcaster: may only use the channels of --channel; observer: only reads all channels, or"
        " those of --channel.",
    ),
]
ChannelOption = Annotated[
    list[str] | None,
    typer.Option("--channel", metavar="ID", help="A channel of a broadcaster or observer; may be repeated."),
]


@common.command(app)
def add(
    sources: common.Sources,
    name: NameArgument,
    password_stdin: StdinOption = False,
    role: RoleOption = "broadcaster",
    channels: ChannelOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """Create a user. The command asks for the password twice."""
    rights = _rights(sources, role, channels)
    password = _read_password(password_stdin)
    user = _run(sources, lambda users: users.add(name, password, time.time(), rights))
    _record(sources, "created", user.name)
    _report(user, "created", as_json)
    _tell_empty_rights(user)


@common.command(app, "set")
def set_(
    sources: common.Sources,
    name: NameArgument,
    role: RoleOption,
    channels: ChannelOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """Set the role and all channels of a user. The user's sessions end."""
    rights = _rights(sources, role, channels)
    user = _run(sources, lambda users: users.change(name, None, time.time(), rights))
    _record(sources, "changed", user.name, "role")
    _report(user, "changed", as_json)
    _tell_empty_rights(user)


@common.command(app, "list")
def list_(sources: common.Sources, as_json: common.JsonOption = False) -> None:
    """Print the users.

    Columns: name, creation time, time of the last password change, role and channels.
    """
    users_list = _run(sources, lambda users: users.list())
    rows = [_to_json(user) for user in users_list]
    if as_json:
        common.print_json(rows)
        return
    for user, row in zip(users_list, rows, strict=True):
        text = f"{user.name:<24}  {row['created']}  {row['changed']}  {user.rights.role}"
        typer.echo(common.plain("  ".join([text, *user.rights.channels])))


@common.command(app)
def password(
    sources: common.Sources, name: NameArgument, password_stdin: StdinOption = False, as_json: common.JsonOption = False
) -> None:
    """Set a new password and end the user's sessions."""
    new_password = _read_password(password_stdin)
    user = _run(sources, lambda users: users.change(name, new_password, time.time()))
    _record(sources, "changed", user.name, "password")
    _report(user, "changed", as_json)


@common.command(app, "reset-second-factor")
def reset_second_factor(sources: common.Sources, name: NameArgument, as_json: common.JsonOption = False) -> None:
    """Remove the second factor of a user. For one who has lost the phone and the recovery codes."""
    from gateway.adapters.stores import open_console
    from gateway.ports.errors import NoSuchUser
    from gateway.ports.second_factors import SecondFactors
    from gateway.ports.users import Users

    async def main() -> bool:
        async with open_console(sources.settings()) as store:
            user = await Users(store).find(name)
            if user is None:
                raise NoSuchUser(name)
            return await SecondFactors(store).remove(user.name)

    if removed := asyncio.run(main()):
        _record(sources, "changed", name, "secondFactor")
    text = common.json_text({"name": name, "removed": removed})
    plain = f"removed the second factor of {name}" if removed else f"{name} had no second factor"
    typer.echo(text if as_json else common.plain(plain))


@common.command(app)
def delete(sources: common.Sources, name: NameArgument, as_json: common.JsonOption = False) -> None:
    """Delete a user with the second factor. The user's sessions end."""
    _run(sources, lambda users: users.delete(name))
    _record(sources, "deleted", name)
    text = common.json_text({"name": name, "deleted": True})
    typer.echo(text if as_json else common.plain(f"deleted {name}"))


def _read_password(from_stdin: bool) -> str:
    """Reads the password. It is never an argument, because process lists and shell histories show arguments."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        common.fail(common.USAGE, "no terminal for a password prompt: use --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt="Once more"))


def _rights(sources: common.Sources, role: str, channels: list[str] | None) -> Rights:
    """Returns the checked rights. Raises InvalidField, also for channels that do not exist."""
    from gateway.adapters.stores import open_stores
    from gateway.channels.stores import find_channel
    from gateway.ports.errors import InvalidField
    from gateway.ports.users import Rights

    rights = Rights.checked(role, channels or [])

    async def check() -> None:
        async with open_stores(sources.settings()) as stores:
            for id in rights.channels:
                if await find_channel(stores.channels, id) is None:
                    raise InvalidField("channel", f"there is no channel {id}")

    if rights.channels:
        asyncio.run(check())
    return rights


def _run(sources: common.Sources, request: Callable[[Users], Awaitable[T]]) -> T:
    """Returns the result of a request to the stored users."""
    settings = sources.settings()

    async def main() -> T:
        from gateway.adapters.stores import open_console
        from gateway.ports.users import Users

        async with open_console(settings) as store:
            return await request(Users(store))

    return asyncio.run(main())


def _record(sources: common.Sources, change: Change, name: str, *fields: str) -> None:
    """Writes the event of a changed user."""

    async def main() -> None:
        from gateway.adapters.stores import open_stores
        from gateway.channels.channel_events import settings_changed

        async with open_stores(sources.settings()) as stores:
            event = settings_changed("user", change, time.time(), AUTHOR, name=name, fields=fields)
            await channel_changes(stores).effects.record(event)

    asyncio.run(main())


def _report(user: ConsoleUser, verb: str, as_json: bool) -> None:
    if as_json:
        typer.echo(common.json_text(_to_json(user)))
    else:
        typer.echo(common.plain(f"{verb} {user.name}"))


def _tell_empty_rights(user: ConsoleUser) -> None:
    from gateway.ports.users import UserRole

    if user.rights.role is UserRole.BROADCASTER and not user.rights.channels:
        typer.echo("A broadcaster without --channel sees no channel.", err=True)


def _to_json(user: ConsoleUser) -> dict[str, str | list[str]]:
    times = {"created": rfc3339(user.created, "seconds"), "changed": rfc3339(user.changed, "seconds")}
    return {"name": user.name, "role": str(user.rights.role), "channels": list(user.rights.channels), **times}
