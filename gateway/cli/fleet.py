"""The commands that make this machine a member of a fleet with a database: invite, join, leave."""

import asyncio
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.cli import common

_POLL: Final = 0.2  # seconds


def invite(
    sources: common.Sources,
    hours: Annotated[float, typer.Option("--hours", min=0.01, max=168, help="How long the line is valid.")] = 1.0,
) -> None:
    """Print the line with which a machine joins this fleet. It is valid once.

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
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="The address of the line that `millrace invite` printed. -: from standard input."
        ),
    ],
    edge: Annotated[bool, typer.Option("--edge", help="Play streams only, and take no pushes.")] = False,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Whether to start the server now.")] = True,
) -> None:
    """Make this machine a member of a fleet, and start it.

    Secrets and shared settings come from the database, and are stored in fleet.toml in the data folder, which all
    commands read. A settings file and the environment override it.
    """
    from gateway.adapters.invitations import accept, as_toml
    from gateway.adapters.local.data_folder import data_folder, replace_file
    from gateway.adapters.stores import open_console
    from gateway.lib import log as logs
    from gateway.lib.process import with_python_path
    from gateway.settings import merge
    from gateway.settings.layers import FLEET

    if url == "-":  # the list of processes shows no secret then
        url = sys.stdin.readline().strip().rpartition(" ")[2].strip("'")
    address, _, key = url.partition("#")
    if not key:
        common.fail(common.USAGE, "the address has no key after #: use the whole line of `millrace invite`")
    overrides = [*(sources.overrides or ()), f"database={address}"]
    settings = merge(config=sources.config, profile=sources.profile, overrides=overrides).settings()
    logs.configure("warning", settings.log.format)
    folder = data_folder(settings.data.absolute())  # before the line is used up

    async def values() -> dict[str, object]:
        async with open_console(settings) as store:
            return await accept(store, key)

    shared = {"database": address, **asyncio.run(values())}
    replace_file(folder / FLEET, as_toml(shared, "The settings of the fleet, from `millrace join`."))
    server = "edge" if edge else "serve"
    typer.echo(f"this machine has joined ({folder / FLEET}); it starts with: millrace {server}", err=True)
    if start:
        command = [sys.executable, "-P", "-m", "gateway", server, *sources.arguments()]
        os.execve(sys.executable, command, with_python_path(os.environ))  # noqa: S606


def leave(sources: common.Sources) -> None:
    """End the server of this machine, and leave the fleet.

    Viewers and publishers move first. The settings of the fleet are forgotten.
    """
    from gateway.adapters.local.data_folder import EDGE_RUN, GATEWAY_RUN
    from gateway.settings.layers import FLEET

    settings = sources.settings()
    folder = settings.data.absolute()
    if not (folder / FLEET).is_file():
        common.fail(common.FAILED, f"there is no {folder / FLEET}: this machine has not joined a fleet")
    for run in (GATEWAY_RUN, EDGE_RUN):
        _end(folder / run, settings.serve.drain)
    (folder / FLEET).unlink()
    typer.echo(f"this machine has left; its own data stays in {folder}", err=True)


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
