"""gosrt's client: SRT in Go, independent of libsrt. It is built with Go once, at the version in gosrt_module/go.mod."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.clients import Program
from tests.support.media import Film

_MODULE = Path(__file__).parent / "gosrt_module"
_PROGRAM = Path(__file__).parents[2] / "build" / "gosrt" / "client"


def gosrt() -> str:
    """Returns the path of the program. Skips the test without Go or its modules, which Debian and PyPI lack."""
    if not _PROGRAM.exists():
        go = shutil.which("go", path="/usr/local/go/bin:/usr/bin")
        if go is None:
            pytest.skip("gosrt: Go is not installed")
        command = [go, "build", "-mod=readonly", "-o", str(_PROGRAM), "github.com/datarhei/gosrt/contrib/client"]
        built = subprocess.run(command, cwd=_MODULE, capture_output=True, text=True)
        if built.returncode:
            pytest.skip(f"gosrt cannot be built: {built.stderr[-300:]}")
    return str(_PROGRAM)


def gosrt_push(film: Film, url: str) -> Program:
    """ffmpeg that writes a film in real time to gosrt, which sends it. url: with `mode=caller` or `mode=listener`."""
    make = f"ffmpeg -nostdin -v error -re -i {shlex.quote(str(film.path()))} -c copy -f mpegts -"
    return Program(["sh", "-c", f"{make} | {gosrt()} -from - -to {shlex.quote(url)}"])


def gosrt_play(url: str, to: Path) -> Program:
    """gosrt that writes what it receives into a file."""
    return Program([gosrt(), "-from", url, "-to", f"file://{to}"])
