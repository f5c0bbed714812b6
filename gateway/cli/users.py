"""`millrace user …`: manages the console's users, with or without a running gateway."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import common

if TYPE_CHECKING:
    from gateway.ports.users import ConsoleUser, Users

app = typer.Typer(help="Manage the users of the console.", no_args_is_help=True, rich_markup_mode=None)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name for signing in.")]
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
    """Create a user. The command asks for the password twice."""
    password = _read_password(password_stdin)

    async def run_command(users: Users) -> None:
        _report(await users.add(name, password, time.time()), "created", as_json)

    _run(config, profile, run_command)


@app.command("list")
def list_(
    as_json: common.JsonOption = False, config: common.ConfigOption = None, profile: common.ProfileOption = None
) -> None:
    """Print the users: name, creation time, time of the last password change."""

    async def run_command(users: Users) -> None:
        rows = [_to_json(user) for user in await users.list()]
        if as_json:
            common.print_json(rows)
            return
        for row in rows:
            typer.echo(common.plain(f"{row['name']:<24}  {row['created']}  {row['changed']}"))

    _run(config, profile, run_command)


@app.command()
def password(
    name: NameArgument,
    password_stdin: StdinOption = False,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
) -> None:
    """Set a new password and end the user's sessions."""
    new_password = _read_password(password_stdin)

    async def run_command(users: Users) -> None:
        _report(await users.change(name, new_password, time.time()), "changed", as_json)

    _run(config, profile, run_command)


@app.command()
def delete(
    name: NameArgument,
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
) -> None:
    """Delete a user and end the user's sessions."""

    async def run_command(users: Users) -> None:
        await users.delete(name)
        text = json.dumps({"name": name, "deleted": True}, ensure_ascii=False)
        typer.echo(text if as_json else common.plain(f"deleted {name}"))

    _run(config, profile, run_command)


def _read_password(from_stdin: bool) -> str:
    """Reads the password. It is never an argument, because process lists and shell histories show arguments."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        common.fail(common.USAGE, "no terminal for a password prompt: use --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt="Once more"))


def _run(config: Path | None, profile: str | None, run_command: Callable[[Users], Awaitable[None]]) -> None:
    settings = common.settings(config, profile)

    async def main() -> None:
        from gateway.adapters.stores import open_console
        from gateway.ports.users import Users

        async with open_console(settings) as store:
            await run_command(Users(store))

    asyncio.run(main())


def _report(user: ConsoleUser, verb: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_to_json(user), ensure_ascii=False))
    else:
        typer.echo(common.plain(f"{verb} {user.name}"))


def _to_json(user: ConsoleUser) -> dict[str, str]:
    return {"name": user.name, "created": common.utc_time(user.created), "changed": common.utc_time(user.changed)}
