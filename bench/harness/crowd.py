"""A process with many HTTP-FLV viewers, with TLS or without, that count every picture of `bench.harness.numbered`.

    python -m bench.harness.crowd FILE

FILE is JSON: "rate", new viewers a second, and "viewers", a list of {"host", "port", "path", "tls", "name"}. It prints
JOINED when each viewer has a picture, and its report as one line of JSON at SIGTERM. A viewer whose connection ends
comes again after half a second. All times are of the monotonic clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import ssl
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from bench.harness import paths
from bench.harness.numbered import FlvPictures
from bench.harness.procs import BenchError, Process

_PAUSE = 1.0  # seconds without a picture that are reported with their time


@dataclass
class Viewer(asyncio.Protocol):
    """One viewer and what it saw. ends: when its connection ended, and why. missing: pictures that were left out."""

    target: dict[str, Any]
    pictures: int = 0
    missing: int = 0
    repeated: int = 0
    last: int = -1
    last_at: float = 0.0
    longest: float = 0.0  # seconds between two pictures
    pauses: list[tuple[float, float]] = field(default_factory=list)
    ends: list[tuple[float, str]] = field(default_factory=list)
    subject: int = 0  # serial number of the certificate
    _reader: FlvPictures | None = None
    _ended: asyncio.Future[str] | None = None
    _stopping: bool = False

    async def run(self, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        host, port = self.target["host"], self.target["port"]
        while True:
            self._reader, self._ended = FlvPictures(self._saw), loop.create_future()
            try:
                name = {"ssl": tls, "server_hostname": self.target["name"]} if tls else {}
                transport, _ = await loop.create_connection(lambda: self, host, port, **name)
                request = f"GET {self.target['path']} HTTP/1.0\r\nHost: {self.target['name']}\r\n\r\n"
                transport.write(request.encode())
                try:
                    reason = await self._ended
                finally:
                    transport.abort()
                status = self._reader.status
                self.ends.append((time.monotonic(), f"{status} {reason}".strip() if status != 200 else reason))
            except (OSError, ssl.SSLError) as error:
                self.ends.append((time.monotonic(), f"connect: {error}"))
            await asyncio.sleep(0.5)

    def data_received(self, data: bytes) -> None:
        assert self._reader is not None
        self._reader.receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        assert self._ended is not None
        if not self._ended.done():
            self._ended.set_result(str(exc or "closed"))

    def _saw(self, number: int) -> None:
        now = time.monotonic()
        if self.pictures:
            if number <= self.last:
                self.repeated += 1
                return
            self.missing += number - self.last - 1
            pause = now - self.last_at
            self.longest = max(self.longest, pause)
            if pause > _PAUSE:
                self.pauses.append((now, round(pause, 2)))
        self.pictures, self.last, self.last_at = self.pictures + 1, number, now


def _tls(ca: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca or None)
    context.check_hostname = bool(ca)
    if not ca:
        context.verify_mode = ssl.CERT_NONE
    return context


async def _run(spec: dict[str, Any]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    tls = _tls(spec.get("ca", ""))
    viewers = [Viewer(target) for target in spec["viewers"]]
    tasks = []
    for viewer in viewers:
        tasks.append(asyncio.create_task(viewer.run(tls if viewer.target["tls"] else None)))
        await asyncio.sleep(1 / spec["rate"])
    while not all(viewer.pictures for viewer in viewers) and not stop.is_set():
        await asyncio.sleep(0.1)
    print("JOINED", flush=True)
    gc.freeze()
    await stop.wait()
    now = time.monotonic()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(json.dumps(_report(viewers, now)), flush=True)


def _report(viewers: list[Viewer], now: float) -> dict[str, Any]:
    longest = sorted(max(viewer.longest, now - viewer.last_at) for viewer in viewers)
    return {
        "viewers": len(viewers),
        "pictures": sum(viewer.pictures for viewer in viewers),
        "missing": sum(viewer.missing for viewer in viewers),
        "repeated": sum(viewer.repeated for viewer in viewers),
        "disconnected": sum(len(viewer.ends) for viewer in viewers),
        "ends": [(at, viewer.target["port"], why) for viewer in viewers for at, why in viewer.ends][:100],
        "pauses": [(at, viewer.target["path"], long) for viewer in viewers for at, long in viewer.pauses][:100],
        "pause_p50_ms": round(statistics.median(longest) * 1000),
        "pause_max_ms": round(longest[-1] * 1000),
    }


class Crowd:
    """The process, from the side of the bench. Use as a context manager."""

    def __init__(self, viewers: list[dict[str, Any]], rate: int = 100, ca: str = "") -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".crowd", delete=False) as file:
            json.dump({"viewers": viewers, "rate": rate, "ca": ca}, file)
        self._file = Path(file.name)
        command = [sys.executable, "-m", "bench.harness.crowd", file.name]
        self._process = Process("crowd", command, cwd=paths.PROJECT, log=paths.LOGS / "crowd.log", capture=True)

    def wait_joined(self) -> None:
        """Returns when each viewer has a picture. Raises BenchError."""
        if self._process.line().strip() != "JOINED":
            raise self._process.died()

    @property
    def pid(self) -> int:
        return self._process.pid

    def finish(self) -> dict[str, Any]:
        """Ends the viewers and returns their report. Raises BenchError."""
        last = self._process.finish(30)
        if not last.startswith("{"):
            raise BenchError(f"the viewers made no report (log: {self._process.log})")
        report: dict[str, Any] = json.loads(last)
        return report

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop(3)
        self._file.unlink(missing_ok=True)


def viewer(host: str, port: int, path: str, *, tls: bool = False, name: str = "localhost") -> dict[str, Any]:
    """What one viewer asks for. name: of the server in TLS."""
    return {"host": host, "port": port, "path": path, "tls": tls, "name": name}


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_run(json.loads(Path(sys.argv[1]).read_text())))
