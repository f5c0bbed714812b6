"""`millrace user …`: manages the console's users, with or without a running gateway."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import common

if TYPE_CHECKING:
    from gateway.ports.users import ConsoleUser, Users

app = typer.Typer(help="Manage the users of the console.", no_args_is_help=True, rich_markup_mode=None)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What the user signs in with.")]
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, its first line.")
]


@app.command()
def add(
    name: NameArgument,
    password_stdin: StdinOption = False,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
) -> None:
    """Create a user; the password is asked for twice."""
    password = _password(password_stdin)

    async def work(users: Users) -> None:
        _report(await users.add(name, password, time.time()), "created", as_json)

    _run(config, profile, work)


@app.command("list")
def list_(
    as_json: common.JsonOption = False, config: common.ConfigOption = None, profile: common.ProfileOption = None
) -> None:
    """Print the users: name, when created, when the password was set."""

    async def work(users: Users) -> None:
        found = await users.list()
        if as_json:
            typer.echo(json.dumps([_shown(user) for user in found], ensure_ascii=False, indent=2))
            return
        for user in found:
            typer.echo(common.plain(f"{user.name:<24}  {_when(user.created)}  {_when(user.changed)}"))

    _run(config, profile, work)


@app.command()
def password(
    name: NameArgument,
    password_stdin: StdinOption = False,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
) -> None:
    """Set another password, which ends the user's sessions."""
    given = _password(password_stdin)

    async def work(users: Users) -> None:
        _report(await users.change(name, given, time.time()), "changed", as_json)

    _run(config, profile, work)


@app.command()
def delete(
    name: NameArgument,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
) -> None:
    """Delete a user, which ends the user's sessions."""

    async def work(users: Users) -> None:
        await users.delete(name)
        said = json.dumps({"name": name, "deleted": True}, ensure_ascii=False)
        typer.echo(said if as_json else common.plain(f"deleted {name}"))

    _run(config, profile, work)


def _password(from_stdin: bool) -> str:
    """Returns the password. It is never an argument, because process lists and shell histories show arguments."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        common.fail(common.USAGE, "there is no terminal to ask on: use --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt="Once more"))


def _run(config: Path | None, profile: str | None, work: Callable[[Users], Awaitable[None]]) -> None:
    settings = common.settings(config, profile)

    async def main() -> None:
        from gateway.adapters.stores import open_console
        from gateway.ports.users import Users

        async with open_console(settings) as store:
            await work(Users(store))

    asyncio.run(main())


def _report(user: ConsoleUser, done: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_shown(user), ensure_ascii=False))
    else:
        typer.echo(common.plain(f"{done} {user.name}"))


def _shown(user: ConsoleUser) -> dict[str, Any]:
    return {"name": user.name, "created": _when(user.created), "changed": _when(user.changed)}


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
