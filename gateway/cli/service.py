"""`millrace install-service`: Millrace as a service of systemd, with a user and folders of its own."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.cli import common
from gateway.lib.whole_file import replace_file

_SETTINGS: Final = "etc/millrace/millrace.toml"
_UNIT: Final = "etc/systemd/system/millrace.service"
# The templates in config/service, their places below the root, and their modes.
FILES: Final = {
    "millrace.service": (_UNIT, 0o644),
    "sysusers.conf": ("etc/sysusers.d/millrace.conf", 0o644),
    "tmpfiles.conf": ("etc/tmpfiles.d/millrace.conf", 0o644),
    "root.sh": ("usr/local/sbin/millrace", 0o755),
    "millrace.toml": (_SETTINGS, 0o640),
}
_HIDDEN: Final = tuple(f"/{folder}/" for folder in ("home", "root", "tmp", "var/tmp"))  # by the unit
_PATH: Final = re.compile(r"[A-Za-z0-9._+@/-]+")  # blanks, quotes and % mean something in a unit
_SYSTEMD: Final = Path("/run/systemd/system")  # exists if systemd runs


def install_service(
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="The user of the service.")] = "millrace",
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="The data folder.")] = Path("/var/lib/millrace"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the files and commands.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the service. Data and settings stay.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="With --remove: delete data, settings and user too.")] = False,
    root: Annotated[
        Path, typer.Option("--root", metavar="DIR", help="Install below this folder, as packages do; start nothing.")
    ] = Path("/"),
) -> None:
    """Install a service of systemd that starts on boot. Run it again after an upgrade."""
    if not data.is_absolute() or (purge and not remove):
        common.fail(common.USAGE, "--data needs an absolute path, and --purge needs --remove")
    if not remove and (not _PATH.fullmatch(str(data)) or f"{data}/".startswith(_HIDDEN)):
        expected = f"expected letters, digits and ._+@-/, outside of {', '.join(_HIDDEN)}"
        common.fail(common.USAGE, f"--data {data}: {expected}")
    here, program = root == Path("/"), Path(sysconfig.get_path("scripts"), "millrace")
    at = [] if here else [f"--root={root}"]
    make_user = [["systemd-sysusers", *at, "millrace.conf"], ["systemd-tmpfiles", *at, "--create", "millrace.conf"]]
    start = [["systemctl", "daemon-reload"], ["systemctl", "enable", "--now", "millrace"]] if here else []
    texts = {root / place: _text(template, user, data, program) for template, (place, _) in FILES.items()}
    if dry_run:
        typer.echo("\n".join(f"# {path}\n{text}" for path, text in texts.items()))
        typer.echo("\n".join(f"# {' '.join(command)}" for command in (*make_user, *start)))
        return
    if here and not _SYSTEMD.is_dir():
        common.fail(common.FAILED, "systemd does not run here; in a container, start `millrace serve`")
    if here and os.geteuid() != 0:
        common.fail(common.FAILED, "install-service needs root: use sudo")
    if remove:
        _remove(texts, root, user, data, purge)
        return
    if here and str(Path(sys.executable).resolve()).startswith(_HIDDEN):
        common.fail(common.FAILED, f"a service cannot use {sys.executable}: install Millrace outside of home folders")
    written = [path for path, text in texts.items() if _write(path, text, replace=path != root / _SETTINGS)]
    for place, mode in FILES.values():
        (root / place).chmod(mode)
    _run(*make_user, *start)
    if here and root / _UNIT in written:
        _run(["systemctl", "restart", "millrace"])
    typer.echo("\n".join([*(f"wrote {path}" for path in written), f"The settings are in {root / _SETTINGS}"]))


def _text(template: str, user: str, data: Path, program: Path) -> str:
    from gateway.settings.layers import config_folder

    state = Path("/var/lib")
    writable = f"ReadWritePaths={data}"
    if data.is_relative_to(state):  # systemd creates it, and gives it to the user
        writable = f"StateDirectory={data.relative_to(state)}\nStateDirectoryMode=0750"
    text = (config_folder() / "service" / template).read_text()
    for word, value in (("USER", user), ("DATA", data), ("PROGRAM", program), ("WRITABLE", writable)):
        text = text.replace(f"@{word}@", str(value))
    return text


def _write(path: Path, text: str, *, replace: bool) -> bool:
    """Writes a file unless it has this text already. Returns whether it did. replace: also a file with another text."""
    if path.exists() and (not replace or path.read_text() == text):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, [text.encode()])
    return True


def _remove(files: Iterable[Path], root: Path, user: str, data: Path, purge: bool) -> None:
    stored = root / data.relative_to("/")
    if purge and stored.exists() and any(stored.iterdir()) and not (stored / "signing.secret").exists():
        common.fail(common.FAILED, f"{stored} is no data folder of Millrace")
    if root == Path("/") and (root / _UNIT).exists():
        _run(["systemctl", "disable", "--now", "millrace"])
    for path in files:
        if purge or path != root / _SETTINGS:
            path.unlink(missing_ok=True)
    if root == Path("/"):
        _run(["systemctl", "daemon-reload"])
    if not purge:
        typer.echo(f"removed; these stay: {root / _SETTINGS}, {stored}")
        return
    shutil.rmtree(stored, ignore_errors=True)
    _run(["userdel", "--prefix", str(root), user])
    typer.echo("removed, with all data")


def _run(*commands: list[str]) -> None:
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            common.fail(common.FAILED, f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
