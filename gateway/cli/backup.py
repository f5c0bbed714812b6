"""`millrace backup` and `millrace restore`: the stores of this machine in one file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from gateway.cli import common

if TYPE_CHECKING:
    from gateway.adapters.backup import Summary

FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="A tar file; compressed if its name ends with .gz or .tgz. -: a pipe.")
]


def backup(
    sources: common.Sources,
    file: FileArgument,
    media: Annotated[bool, typer.Option("--media", help="Also the folder of recordings, pictures and films.")] = False,
) -> None:
    """Save channels, keys, users, films, jobs, events, certificates and settings. The gateway may run meanwhile."""
    from gateway.adapters.backup import Places, write_backup

    settings = sources.settings()
    places = Places.of(settings)
    if media and places.media is None:
        common.fail(common.USAGE, f"objects is {settings.objects}: a bucket has backups of its own")
    compress = file.endswith((".gz", ".tgz"))
    config = sources.config_file()
    if file == "-":
        _report(write_backup(places, sys.stdout.buffer, config, compress=False, media=media), "saved")
    else:
        path = Path(file)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
                summary = write_backup(places, target, config, compress=compress, media=media)
                target.flush()
                os.fsync(target.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        _report(summary, "saved")
    if settings.signing.secret.get_secret_value():
        typer.echo("signing.secret is in your settings, not in the data folder: keep it, stream keys need it", err=True)


def restore(
    sources: common.Sources,
    file: FileArgument,
    force: Annotated[
        bool, typer.Option("--force", help="If the data folder has data already, move this away and restore.")
    ] = False,
) -> None:
    """Bring back what `millrace backup` saved, while no gateway runs. A newer backup is refused."""
    from gateway.adapters.backup import Places
    from gateway.adapters.restore import restore_backup

    places = Places.of(sources.settings())
    source: IO[bytes]
    with sys.stdin.buffer if file == "-" else open(file, "rb") as source:
        _report(restore_backup(places, source, force=force), "restored")


def _report(summary: Summary, verb: str) -> None:
    typer.echo(f"{verb}: {summary.stores} databases, {summary.files} files, {summary.media} of media", err=True)
    for note in summary.notes:
        typer.echo(common.plain(note), err=True)
