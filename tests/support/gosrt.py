"""gosrt's client: SRT in Go, independent of libsrt. It is built with Go once, at the version in gosrt_module/go.mod."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.support.clients import Program
from tests.support.go_programs import go_program
from tests.support.media import Film


def gosrt() -> str:
    """Returns the path of the program. Skips the test if it cannot be built."""
    module = Path(__file__).with_name("gosrt_module")
    return str(go_program("gosrt-client", module, "github.com/datarhei/gosrt/contrib/client"))


def gosrt_push(film: Film, url: str) -> Program:
    """ffmpeg that writes a film in real time to gosrt, which sends it. url: with `mode=caller` or `mode=listener`."""
    make = f"ffmpeg -nostdin -v error -re -i {shlex.quote(str(film.path()))} -c copy -f mpegts -"
    return Program(["sh", "-c", f"{make} | {gosrt()} -from - -to {shlex.quote(url)}"])


def gosrt_play(url: str, to: Path) -> Program:
    """gosrt that writes what it receives into a file."""
    return Program([gosrt(), "-from", url, "-to", f"file://{to}"])
