"""The load clients, started and read: publishers, viewers, askers."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.harness import paths
from bench.harness.procs import BenchError, Process


def build(target: str = "all") -> None:
    """Builds the clients and the test streams (make skips what is there); "webrtc": those for WHIP and WHEP, too."""
    for program in ("make", "cc", "ffmpeg"):
        if not shutil.which(program):
            raise BenchError(f"{program} is not installed (Debian: make gcc libc6-dev ffmpeg)")
    command = ["make", "-s", "-C", str(paths.BENCH), f"OUT={paths.BUILD}", target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise BenchError(f"building the load clients failed: {done.stderr.strip()[-300:]}")


def url_list(urls: list[str]) -> Path:
    """A file with one URL a line, for -l; the caller removes it."""
    with tempfile.NamedTemporaryFile("w", suffix=".urls", delete=False) as f:
        f.write("\n".join(urls) + "\n")
        return Path(f.name)


class Client:
    """One load client with the list of its URLs."""

    def __init__(self, program: str, urls: list[str], *options: object) -> None:
        self.list = url_list(urls)
        where: list[object] = ["-u", urls[0]] if program == "httpload" else ["-l", self.list]
        command = [str(x) for x in (paths.BUILD / program, *where, *options)]
        self.process = Process(program, command, cwd=paths.BUILD, log=paths.LOGS / f"{program}.log", capture=True)

    def report(self, last_line: str) -> dict[str, Any]:
        if not last_line.startswith("{"):
            raise self.process.died()
        found: dict[str, Any] = json.loads(last_line)
        return found

    def until(self, events: dict[str, Callable[[], None]]) -> dict[str, Any]:
        """Reads its lines to the end, calls events[line] as each is printed, and returns its report."""
        last = ""
        while line := self.process.line():
            last = line.strip()
            if act := events.get(last):
                act()
        return self.report(last)

    def stop(self) -> None:
        self.process.stop(3)
        self.list.unlink(missing_ok=True)


class Publishers(Client):
    """rtmppush over one connection per URL, returned once all of them are live."""

    def __init__(self, urls: list[str], *, file: Path = paths.STREAM, chunk: int = 4096, cut_every: int = 0) -> None:
        options = ["-f", file, "-n", len(urls), "-c", chunk, *(["-k", cut_every] if cut_every else [])]
        super().__init__("rtmppush", urls, *options)
        word, _, live = self.process.line().strip().partition(" ")
        if word != "PUBLISHING" or (int(live) != len(urls) and not cut_every):
            error = (
                f"only {live or 0} of {len(urls)} publishers were accepted"
                if word == "PUBLISHING"
                else "rtmppush ended"
            )
            self.stop()
            raise BenchError(f"{error} (log: {self.process.log})")

    def finish(self) -> dict[str, Any]:
        """Ends them and returns their report; every one must still have been live."""
        report = self.report(self.process.finish(10))
        self.list.unlink(missing_ok=True)
        return report


class Viewers(Client):
    """viewload: n viewers over the URLs in turn."""

    def __init__(self, urls: list[str], n: int, seconds: int, *options: object, rate: int = 100, warm: int = 4) -> None:
        super().__init__("viewload", urls, "-n", n, "-t", seconds, "-r", rate, "-w", warm, *options)


class Askers(Client):
    """httpload: one URL over keep-alive connections."""

    def __init__(self, url: str, seconds: int, connections: int = 50) -> None:
        super().__init__("httpload", [url], "-t", seconds, "-c", connections)
