"""What HTTP costs: CPU microseconds a playlist request and a 100 kB segment. Run: python -m bench.bench_http

The server runs in a process of its own, behind the whole of playback's routing and protection; wrk asks it over
loopback, keep-alive. Measured is the server's CPU time, user and system.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from multiprocessing.connection import Connection as Pipe

import uvloop

from gateway.channels.channel import Channel
from gateway.channels.stream_key import SignatureUse, SigningSecrets
from gateway.http.connection_server import HttpLimits
from gateway.http.request import Request
from gateway.http.response import IMMUTABLE, Response
from gateway.http.server import HttpServer
from gateway.lib.quota import Quota
from gateway.lib.sockets import listen, port_of
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.stream import Stream
from gateway.playback.flv import FlvViewers
from gateway.playback.health import Health
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.pages import Pages
from gateway.playback.play import PlayAdmission
from gateway.playback.protection import PlaybackProtection
from gateway.playback.router import LivePlayback, MediaRoutes, PlaybackAccess, PlaybackRouter
from tests.support import builders
from tests.support.playback import SameResponder

FAR = 4_000_000_000
SECRETS = SigningSecrets("a-secret")
PLAYLIST = Response(
    200, b"#EXTINF:2.000,\n1700000000001.ts\n" * 24, "application/vnd.apple.mpegurl", cache="no-cache", compress=True
)
SEGMENT = Response(200, os.urandom(100_000), "video/mp2t", cache=IMMUTABLE)


class _Idle:
    async def run(self, stream: Stream) -> None:
        await stream.over()


def _answer(request: Request, stream: Stream, rest: str) -> Response:
    return SEGMENT if rest.endswith(".ts") else PLAYLIST


async def _ready() -> list[str]:
    return []


class _NoChannels:
    async def get(self, id: str) -> Channel:
        raise AssertionError("everything asked for is live")


def _handler() -> tuple[Hub, PlaybackRouter]:
    specs = [OutputSpec("hls", lambda s: _Idle(), lambda s: True)]
    hub = builders.hub(specs)
    for name, auth in (("open", "none"), ("signed", "sign")):
        builders.publish(hub, name, playAuth=auth).set_tracks(builders.VIDEO, builders.AUDIO, {})
    protection = PlaybackProtection(auth="none", referers=(), secrets=SECRETS, cloudfront=None, refusals_per_minute=30)
    routes = MediaRoutes.of(SameResponder(_answer), _answer)
    live = LivePlayback(hub, routes, FlvViewers(524_288), HttpViewers())
    return hub, PlaybackRouter(
        PlaybackAccess(PlayAdmission(channels=_NoChannels(), protection=protection, wait=20)),
        live,
        Pages(),
        Health(_ready),
    )


def _serve(pipe: Pipe) -> None:
    async def main() -> None:
        _, handler = _handler()
        server = HttpServer(handler, HttpLimits(16_384, 8_192, 10, 75, 60, Quota(4096)))
        sockets = listen("bench", "127.0.0.1", 0)
        await server.listen(sockets)
        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(pipe.fileno(), asked.set)
        pipe.send(port_of(sockets))
        while True:
            await asked.wait()
            asked.clear()
            pipe.recv()
            pipe.send((server.requests, time.process_time()))

    uvloop.run(main())


def measure(pipe: Pipe, url: str, connections: int, seconds: float) -> tuple[float, int]:
    """CPU microseconds a request, and how many there were."""

    def counters() -> tuple[int, float]:
        pipe.send(None)
        requests, cpu = pipe.recv()
        return requests, cpu

    load = ["wrk", "-t1", f"-c{connections}", f"-d{seconds + 1:.0f}s", url]
    with subprocess.Popen(load, stdout=subprocess.DEVNULL) as process:
        time.sleep(0.5)
        requests, cpu = counters()
        time.sleep(seconds)
        requests_then, cpu_then = counters()
        process.wait()
    done = requests_then - requests
    return (cpu_then - cpu) / max(1, done) * 1e6, done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-c", "--connections", type=int, default=32)
    parser.add_argument("-d", "--seconds", type=float, default=4)
    parser.add_argument("-n", "--rounds", type=int, default=3, help="the best of these counts: noise only adds")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed (Debian: apt-get install wrk)", file=sys.stderr)
        return 1
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,), daemon=True)
    server.start()
    base = f"http://127.0.0.1:{here.recv()}"
    sign = SECRETS.sign("signed", FAR, SignatureUse.PLAY)
    try:
        for what, path in (
            ("playlist", "/open/live.m3u8"),
            ("playlist, signed", f"/signed/live.m3u8?sign={sign}"),
            ("100 kB segment", "/open/1700000000001.ts"),
        ):
            rounds = [measure(here, base + path, options.connections, options.seconds) for _ in range(options.rounds)]
            cost = min(r[0] for r in rounds)
            requests = sum(r[1] for r in rounds)
            print(f"{what:18} {cost:6.1f} us CPU a request, {1e6 / cost:8,.0f} a CPU-second ({requests:,} asked)")
    finally:
        server.terminate()
        server.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
