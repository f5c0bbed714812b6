"""The command `copy`: moves the stores of a gateway to another kind of database."""

import asyncio
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from gateway.cli import common

_MOST_SHOWN = 5  # keys of records that differ


def copy(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="URL",
            help="sqlite:///<data folder>, dynamodb://<prefix of the tables' names> or postgresql://user@host/name. "
            "PGPASSWORD or ~/.pgpass may have the password.",
        ),
    ],
    target: Annotated[str, typer.Option("--to", metavar="URL", help="Likewise. Missing tables and files are created.")],
    only: Annotated[
        str, typer.Option("--only", metavar="PARTS", help="Comma-separated: channels, users, films, jobs, events.")
    ] = "channels,users,films,jobs,events",
) -> None:
    """Copy all records to another database.

    They are channels, users, films, jobs and events. The command compares them afterwards.

    Media and secrets are not copied. An interrupted copy can be repeated: it changes only what differs. Exit 1 if the
    target differs afterwards, such as from a gateway that still runs.
    """
    from gateway.adapters.copying import PARTS, SCHEMES
    from gateway.lib import log as logs

    logs.configure("warning", "auto")  # of the stores

    wanted = only.split(",")
    if unknown := [name for name in wanted if name not in PARTS]:
        common.fail(common.USAGE, f"--only: no part {unknown[0]}; there are {', '.join(PARTS)}")
    for option, url in (("--from", source), ("--to", target)):
        if url.partition("://")[0] not in SCHEMES:
            common.fail(common.USAGE, f"{option}: expected an address that begins with {', '.join(SCHEMES)}")
    if source == target:
        common.fail(common.USAGE, "--from and --to are one place")
    if not asyncio.run(_copy(source, target, wanted)):
        raise typer.Exit(common.FAILED)


async def _copy(source: str, target: str, wanted: list[str]) -> bool:
    """Returns whether the target has all records."""
    from gateway.adapters.copying import PARTS, copy, differing, open_place

    equal = True
    async with open_place(source, create=False) as old, open_place(target, create=True) as new:
        for name in wanted:
            digests = await copy(PARTS[name], old, new, _counter(name))
            wrong = await differing(PARTS[name], old, new, digests)
            _show(f"{name}: {len(digests):,} copied, {f'{len(wrong):,} differ' if wrong else 'all equal'}", final=True)
            for key in wrong[:_MOST_SHOWN]:
                typer.echo(common.plain(f"  {key}"), err=True)
            equal = equal and not wrong
    return equal


def _counter(name: str) -> Callable[[int], None]:
    return lambda count: _show(f"{name}: {count:,}")


def _show(line: str, *, final: bool = False) -> None:
    """Shows a line on stderr. A terminal shows each state in one line, a file only the final ones."""
    if sys.stderr.isatty():
        typer.echo(f"\r\x1b[K{line}", err=True, nl=final)
    elif final:
        typer.echo(line, err=True)
