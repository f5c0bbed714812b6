"""The commands that make this machine a member of a fleet with a database: invite, join, leave."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli import common

if TYPE_CHECKING:
    from gateway.settings import Settings

_FILE: Final = "fleet.toml"  # in the data folder
_POLL: Final = 0.2  # seconds


def invite(
    sources: common.Sources,
    hours: Annotated[float, typer.Option("--hours", min=0.01, max=168, help="How long the line is valid.")] = 1.0,
) -> None:
    """Print the line that makes another machine a member of this fleet. It is valid once.

    The line has the database's address, with its password, and a key. Whoever has it can join: give it on a safe way.
    """
    from gateway.adapters.invitations import invite, shared_values
    from gateway.adapters.secret_resolver import resolve_secrets
    from gateway.adapters.stores import open_console
    from gateway.lib import log as logs

    merged = sources.merged()
    settings = merged.settings()
    address = settings.database.get_secret_value()
    if not address:
        common.fail(common.USAGE, "database is not set: only a fleet with PostgreSQL is joined by a line")
    logs.configure("warning", settings.log.format)

    async def key() -> str:
        values = shared_values(merged, await resolve_secrets(settings))
        async with open_console(settings) as store:
            return await invite(store, values, hours * 3600)

    found = asyncio.run(key())
    if settings.objects.startswith("file:"):
        typer.echo("objects is a folder: each machine will keep its own recordings", err=True)
    typer.echo(f"millrace join {shlex.quote(f'{address}#{found}')}")


def join(
    sources: common.Sources,
    url: Annotated[str, typer.Argument(metavar="URL", help="The address of the line that `millrace invite` printed.")],
    edge: Annotated[bool, typer.Option("--edge", help="Play streams only, and take no pushes.")] = False,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Whether to start the server now.")] = True,
) -> None:
    """Make this machine a gateway, or an edge, of a fleet, and start it.

    Secrets and shared settings come from the database, and are stored in fleet.toml in the data folder.
    """
    from gateway.adapters.invitations import accept, as_toml
    from gateway.adapters.local.data_folder import data_folder, replace_file
    from gateway.adapters.stores import open_console
    from gateway.lib import log as logs
    from gateway.settings import load

    if (used := sources.config_file()) is not None:
        common.fail(common.USAGE, f"the settings file {used} is in use: join without it, then add its options")
    address, _, key = url.partition("#")
    if not key:
        common.fail(common.USAGE, "the address has no key after #: use the whole line of `millrace invite`")
    settings = load(profile=sources.profile, overrides=[*(sources.overrides or ()), f"database={address}"])
    logs.configure("warning", settings.log.format)

    async def values() -> dict[str, object]:
        async with open_console(settings) as store:
            return await accept(store, key)

    folder = data_folder(settings.data.absolute())
    shared = {"database": address, "data": str(folder), **asyncio.run(values())}
    file = folder / _FILE
    replace_file(file, as_toml(shared, "The settings of the fleet, from `millrace join`. Add those of this machine."))
    server = "edge" if edge else "serve"
    typer.echo(f"the settings are in {file}; from now on: millrace {server} --config {file}", err=True)
    if start:
        os.execv(sys.executable, [sys.executable, "-m", "gateway", server, "--config", str(file)])  # noqa: S606


def leave(sources: common.Sources) -> None:
    """End the server of this machine, after its viewers and publishers have moved, and forget the fleet's settings."""
    from gateway.adapters.local.data_folder import EDGE_RUN, GATEWAY_RUN

    settings = _settings_of_member(sources)
    folder = settings.data.absolute()
    for run in (GATEWAY_RUN, EDGE_RUN):
        _end(folder / run, settings.serve.drain)
    (folder / _FILE).unlink(missing_ok=True)
    typer.echo(f"this machine has left; its own data stays in {folder}", err=True)


def _settings_of_member(sources: common.Sources) -> Settings:
    """Returns the settings of `join`, or of the command line if it has some."""
    from gateway.settings import load

    settings = sources.settings()
    file = settings.data / _FILE
    if sources.config_file() is not None:
        return settings
    if not file.is_file():
        common.fail(common.FAILED, f"there is no {file}: this machine has not joined a fleet")
    return load(config=file, profile=sources.profile, overrides=sources.overrides or ())


def _end(run: Path, drain: float) -> None:
    """Sends SIGTERM to the server that has the lock of a folder, and waits until it has ended."""
    from gateway.adapters.local.data_folder import LOCK, folder_lock
    from gateway.ports.errors import StoreUnusable

    if not (run / LOCK).is_file():
        return
    end, asked = time.monotonic() + drain + 30, False
    while True:
        try:
            with folder_lock(run):
                return
        except StoreUnusable:
            if not asked:
                os.kill(int((run / LOCK).read_text().strip()), signal.SIGTERM)
                asked = True
            if time.monotonic() > end:
                common.fail(common.FAILED, f"the server did not end within {drain + 30:.0f} s ({run})")
        time.sleep(_POLL)
