"""What HTTP/2 costs a gateway beside HTTP/1.1: LL-HLS players over TLS.

    python -m bench.bench_http2 [--players 200] [--seconds 20] [--rounds 2]

One encoder pushes a stream with pictures and sound. Each player waits for each part of both playlists and fetches it,
by two connections of HTTP/1.1 or two streams of one connection of HTTP/2. The rounds alternate. The figure is CPU
seconds of the gateway for a player-minute, without what it needs for nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

from hpack import Encoder, NeverIndexedHeaderTuple

from bench.harness.limits import set_limits
from bench.harness.procs import BenchError
from gateway.protocols.http2.frames import END_HEADERS, END_STREAM, PREFACE, FrameKind, Setting, frame
from tests.support.clients import Program
from tests.support.gateway import Gateway

AGENT = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Version/18.1 Mobile Safari/604.1"
FIELDS = {"user-agent": AGENT, "accept": "*/*", "accept-language": "en-GB", "priority": "u=3, i"}
RENDITIONS = ("video", "audio")
BIG_WINDOW = 2**30

Get: TypeAlias = Callable[[str], Coroutine[Any, Any, bytes]]


class Http1:
    """A connection of HTTP/1.1."""

    async def connect(self, port: int, tls: ssl.SSLContext) -> None:
        tls.set_alpn_protocols(["http/1.1"])
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=2**22)

    async def get(self, path: str) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in FIELDS.items())
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:20]:
            raise BenchError(f"{path}: {head[:40]!r}")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return await self._reader.readexactly(size)

    def close(self) -> None:
        self._writer.transport.abort()


class Http2:
    """A connection of HTTP/2. It opens large windows, as browsers do."""

    async def connect(self, port: int, tls: ssl.SSLContext) -> None:
        tls.set_alpn_protocols(["h2"])
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=2**22)
        settings = Setting.INITIAL_WINDOW_SIZE.to_bytes(2, "big") + BIG_WINDOW.to_bytes(4, "big")
        window = frame(FrameKind.WINDOW_UPDATE, 0, 0, BIG_WINDOW.to_bytes(4, "big"))
        self._writer.write(PREFACE + frame(FrameKind.SETTINGS, 0, 0, settings) + window)
        self._encoder = Encoder()
        self._next = 1
        self._received: dict[int, tuple[bytearray, asyncio.Future[bytes]]] = {}
        self._reading = asyncio.create_task(self._read())

    async def get(self, path: str) -> bytes:
        id, self._next = self._next, self._next + 2
        pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost")]
        # As browsers do, the path is not kept in the table.
        block = self._encoder.encode([*pseudo, NeverIndexedHeaderTuple(":path", path), *FIELDS.items()])
        self._writer.write(frame(FrameKind.HEADERS, END_HEADERS | END_STREAM, id, block))
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._received[id] = bytearray(), future
        return await future

    async def _read(self) -> None:
        while True:
            head = await self._reader.readexactly(9)
            payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
            id = int.from_bytes(head[5:], "big")
            if head[3] in (FrameKind.RST_STREAM, FrameKind.GOAWAY):
                raise BenchError("the gateway has refused a request")
            if id in self._received and head[3] in (FrameKind.DATA, FrameKind.HEADERS):
                body, future = self._received[id]
                if head[3] == FrameKind.DATA:
                    body += payload
                if head[4] & END_STREAM:
                    del self._received[id]
                    future.set_result(bytes(body))

    def close(self) -> None:
        self._reading.cancel()
        self._writer.transport.abort()


async def play(get: Get, base: str, rendition: str, counts: dict[str, int]) -> None:
    """Follows one playlist at its live edge."""
    seen = ""
    query = ""
    while True:
        playlist = (await get(f"{base}/{rendition}/index.m3u8{query}")).decode()
        lines = playlist.splitlines()
        first = next(int(line.partition(":")[2]) for line in lines if line.startswith("#EXT-X-MEDIA-SEQUENCE"))
        number = first + sum(line.startswith("#EXTINF") for line in lines)
        parts: list[str] = []
        for line in reversed(lines):
            if line.startswith("#EXTINF"):
                break
            if line.startswith("#EXT-X-PART:"):
                parts.insert(0, line.partition('URI="')[2].partition('"')[0])
        if parts and parts[-1] != seen:
            seen = parts[-1]
            part = await get(f"{base}/{rendition}/{seen}")
            counts["bytes"] += len(part)
        counts["requests"] += 2
        query = f"?_HLS_msn={number}&_HLS_part={len(parts)}"


async def watch(
    kind: type[Http1] | type[Http2], port: int, base: str, a: argparse.Namespace, gateway: Gateway
) -> float:
    """Returns CPU seconds of the gateway for a player-minute."""
    counts = {"bytes": 0, "requests": 0}
    connections: list[Http1 | Http2] = []
    playing = []
    for _ in range(a.players):
        renditions = [RENDITIONS] if kind is Http2 else [(name,) for name in RENDITIONS]
        for names in renditions:
            tls = ssl._create_unverified_context()
            connection = kind()
            await connection.connect(port, tls)
            connections.append(connection)
            playing += [asyncio.create_task(play(connection.get, base, name, counts)) for name in names]
    await asyncio.sleep(3)
    cpu, began, before = _cpu(gateway), time.monotonic(), dict(counts)
    await asyncio.sleep(a.seconds)
    used, took = _cpu(gateway) - cpu, time.monotonic() - began
    failed = [task for task in playing if task.done()]
    for task in playing:
        task.cancel()
    for connection in connections:
        connection.close()
    await asyncio.sleep(0.5)
    if failed:
        raise BenchError(f"{len(failed)} players failed: {failed[0].exception()}")
    done = {name: (counts[name] - before[name]) / took for name in counts}
    rates = f"{done['requests']:.0f} requests/s, {done['bytes'] / 1e6:.1f} MB/s"
    print(f"{kind.__name__}: {rates}, {used / took:.3f} of a core")
    return used / took


def _cpu(gateway: Gateway) -> float:
    fields = Path(f"/proc/{gateway.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def measure(a: argparse.Namespace, gateway: Gateway, base: str) -> float:
    """Returns the cost of HTTP/2 as a multiple of that of HTTP/1.1."""
    port = gateway.ports["https"]
    await asyncio.sleep(5)
    cpu, began = _cpu(gateway), time.monotonic()
    await asyncio.sleep(10)
    idle = (_cpu(gateway) - cpu) / (time.monotonic() - began)
    print(f"nobody: {idle:.3f} of a core")
    used: dict[type[Http1] | type[Http2], list[float]] = {Http1: [], Http2: []}
    for _ in range(a.rounds):
        for kind, found in used.items():
            found.append(await watch(kind, port, base, a, gateway))
    best = {kind: min(found) for kind, found in used.items()}
    for kind, value in best.items():
        print(f"{kind.__name__}: {(value - idle) / a.players * 60:.4f} CPU-s a player-minute")
    ratio = best[Http2] / best[Http1]
    print(
        f"HTTP/2 costs {ratio:.2f} times as much; the players alone {(best[Http2] - idle) / (best[Http1] - idle):.2f}"
    )
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--players", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    a = parser.parse_args()
    set_limits(4 * a.players)
    with tempfile.TemporaryDirectory(prefix="bench-http2-") as name:
        folder = Path(name)
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        command += " -keyout key.pem -out cert.pem"
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
        files = {"MILLRACE_TLS__CERT": str(folder / "cert.pem"), "MILLRACE_TLS__KEY": str(folder / "key.pem")}
        ports = {"MILLRACE_RTMPS__PORT": "0", "MILLRACE_HTTPS__PORT": "0", "MILLRACE_WSS__PORT": "0"}
        gateway = Gateway(folder, **files, **ports, MILLRACE_LIMITS__PLAYBACK_PER_ADDRESS="0")
        try:
            gateway.wait_ready()
            channel = gateway.channel(isHls=False, isFlv=False)
            picture = "-f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine"
            form = (
                "-c:v libx264 -preset ultrafast -tune zerolatency -g 60 -b:v 3M -maxrate 3M -bufsize 3M -c:a aac -f flv"
            )
            url = f"rtmp://127.0.0.1:{gateway.ports['rtmp']}/stream/{channel.obs_key}"
            with Program(["ffmpeg", "-v", "error", "-re", *picture.split(), *form.split(), url]):
                asyncio.run(measure(a, gateway, f"/{channel.id}"))
        finally:
            gateway.stop()


if __name__ == "__main__":
    main()
