"""`millrace backup` and `millrace restore`: the stores of this machine in one file."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import common

FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="A tar file; compressed if its name ends with .gz or .tgz. -: a pipe.")
]
MediaOption = Annotated[bool, typer.Option("--media", help="Also the folder of recordings, pictures and films.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Move data that is there to a folder beside, and restore.")]


def backup(sources: common.Sources, file: FileArgument, media: MediaOption = False) -> None:
    """Save channels, keys, users, films, jobs, events, certificates and settings. The gateway may run meanwhile."""
    from gateway.adapters.backup import Places, write_backup

    settings, config = sources.settings(), sources.config_file()
    places = Places.of(settings)
    if media and places.media is None:
        common.fail(common.USAGE, f"objects is {settings.objects}: a bucket has backups of its own")
    if file == "-":
        text = write_backup(places, sys.stdout.buffer, config, compress=False, media=media)
    else:
        unfinished = Path(file).with_name(f".{Path(file).name}.{os.getpid()}")
        try:
            with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
                compress = file.endswith((".gz", ".tgz"))
                text = write_backup(places, target, config, compress=compress, media=media)
                os.fsync(target.fileno())
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)
    typer.echo(text, err=True)
    if settings.signing.secret.get_secret_value():
        typer.echo("signing.secret is in your settings, not in the data folder: keep it, stream keys need it", err=True)


def restore(sources: common.Sources, file: FileArgument, force: ForceOption = False) -> None:
    """Bring back what `millrace backup` saved, while no gateway runs. A newer backup is refused."""
    from gateway.adapters.backup import Places
    from gateway.adapters.restore import restore_backup

    with sys.stdin.buffer if file == "-" else open(file, "rb") as source:
        for line in restore_backup(Places.of(sources.settings()), source, force=force):
            typer.echo(common.plain(line), err=True)
