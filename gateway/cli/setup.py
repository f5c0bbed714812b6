"""The commands that set up a machine: check-config, doctor, completion, token, backup and restore."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from gateway.cli import common

if TYPE_CHECKING:
    from gateway.settings import Settings


def check_config(sources: common.Sources, as_json: common.JsonOption = False) -> None:
    """Print every option with its value and its source. Secrets are masked. Exit 2 if something is wrong."""
    from gateway.settings import missing_files
    from gateway.settings.layers import OPTIONS, shown

    merged = sources.merged()
    settings = merged.settings()
    values = {name: common.plain(shown(settings, name)) for name in OPTIONS}
    if as_json:
        common.print_json(
            {name: {"value": _typed(value), "source": merged.values[name].source} for name, value in values.items()}
        )
        values = {}
    width = max(map(len, OPTIONS))
    column = min(40, max(map(len, values.values()), default=0))
    for name, value in values.items():
        typer.echo(f"{name:<{width}} = {value:<{column}}  # {common.plain(merged.values[name].source)}")
    if missing := missing_files(settings):
        common.fail(common.USAGE, *missing)


def _typed(shown: str) -> Any:
    """Returns a shown value as JSON has it; a masked secret stays a text."""
    try:
        return tomllib.loads(f"value = {shown}")["value"]
    except tomllib.TOMLDecodeError:
        return shown


def doctor(sources: common.Sources, as_json: common.JsonOption = False) -> None:
    """Report missing parts of this machine and ports in use. Exit 1 if something is missing."""
    settings = sources.settings()
    from gateway.app import doctor as checks

    raise typer.Exit(checks.main(settings, as_json))


token_app = typer.Typer(help="The admin token of this machine.", no_args_is_help=True, rich_markup_mode=None)


@common.command(token_app, "reset")
def reset_token(sources: common.Sources) -> None:
    """Make a new admin token and print it once. The old one, and its sessions, end.

    A running gateway accepts the new token within a second or two; a stopped one at its next start. All gateways of a
    fleet with one database have one token; the others accept the new one within ten seconds.
    """
    from gateway.adapters.local.credentials import new_admin_token, store_admin_token
    from gateway.adapters.shared_admin_token import HASH, KIND, shares_token
    from gateway.adapters.stores import open_console
    from gateway.lib import log as logs

    settings = sources.settings()
    if settings.admin.token.get_secret_value():
        common.fail(common.FAILED, "the settings have admin.token (see `millrace check-config`): change it there")
    if not settings.data.is_dir():
        common.fail(
            common.FAILED, f"there is no data folder {settings.data}: give the gateway's one with --set data=FOLDER"
        )
    token, file_text = new_admin_token()

    async def share() -> None:
        async with open_console(settings) as store:
            await store.put(KIND, KIND, {HASH: file_text})

    if shares_token(settings):
        logs.configure("warning", settings.log.format)
        asyncio.run(share())  # first, because a running gateway takes the token of the fleet
    store_admin_token(settings.data, file_text)
    typer.echo(token)


# zsh loads a file of `fpath` at the first completion, which must be answered too.
_ZSH_AUTOLOAD: Final = '\n[[ $zsh_eval_context[-1] == loadautofunc ]] && _millrace_completion "$@"'


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="bash|zsh|fish", help="The shell.")],
) -> None:
    """Print a script for a shell to complete commands.

    \b
    bash: millrace completion bash > ~/.local/share/bash-completion/completions/millrace
    zsh:  millrace completion zsh > "${fpath[1]}/_millrace"
    fish: millrace completion fish > ~/.config/fish/completions/millrace.fish
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    script = get_completion_script(prog_name="millrace", complete_var="_MILLRACE_COMPLETE", shell=shell)
    typer.echo(script + (_ZSH_AUTOLOAD if shell == "zsh" else ""))


FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="A tar file; compressed if its name ends with .gz or .tgz. -: a pipe.")
]
MediaOption = Annotated[bool, typer.Option("--media", help="Also the folder of recordings, pictures and films.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Move data that is there to <data>/before-restore-<time>, and restore.")
]


def backup(sources: common.Sources, file: FileArgument, media: MediaOption = False) -> None:
    """Save the data folder and the stores in one file.

    It has channels, keys, users, films, jobs, events, certificates and settings. The gateway may run meanwhile.
    """
    settings, config = sources.settings(), sources.config_file()
    if media and not settings.objects.startswith("file:"):
        common.fail(common.USAGE, f"objects is {settings.objects}: a bucket has backups of its own")
    with tempfile.TemporaryDirectory(prefix="millrace-stores-") as folder:
        _write_backup(settings, config, file, media, Path(folder))
    if settings.signing.secret.get_secret_value():
        typer.echo("signing.secret is in your settings, not in the data folder: keep it, stream keys need it", err=True)


def _write_backup(settings: Settings, config: Path | None, file: str, media: bool, folder: Path) -> None:
    """Writes the backup. folder: for copies of stores in PostgreSQL."""
    from gateway.adapters import database_backup
    from gateway.adapters.backup import Places, write_backup
    from gateway.lib import log as logs

    logs.configure("warning", settings.log.format)  # stdout may be the archive
    places = Places.of(settings)
    if database_backup.is_in_database(settings):
        asyncio.run(database_backup.save(settings, folder))
        places = database_backup.places_in(settings, folder)
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
        except OSError as error:
            if error.filename not in (None, unfinished, str(unfinished)):
                raise
            common.fail(common.FAILED, f"{common.plain(file)}: {error.strerror or error}")
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
    typer.echo(text, err=True)


def restore(sources: common.Sources, file: FileArgument, force: ForceOption = False) -> None:
    """Bring back what `millrace backup` saved. No gateway may run. A newer backup is refused."""
    from gateway.adapters import database_backup
    from gateway.adapters.backup import Places
    from gateway.adapters.restore import restore_backup
    from gateway.lib import log as logs

    settings = sources.settings()
    logs.configure("warning", settings.log.format)
    with (
        sys.stdin.buffer if file == "-" else open(file, "rb") as source,
        tempfile.TemporaryDirectory(prefix="millrace-stores-") as folder,
    ):
        in_database = database_backup.is_in_database(settings)
        if in_database and not force:
            asyncio.run(database_backup.check_empty(settings))
        places = database_backup.places_in(settings, Path(folder)) if in_database else Places.of(settings)
        lines = restore_backup(places, source, force=force)
        if in_database:
            lines.append(asyncio.run(database_backup.bring_back(settings, Path(folder))))
        for line in lines:
            typer.echo(common.plain(line), err=True)
