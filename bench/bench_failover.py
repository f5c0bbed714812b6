"""How long a picture is away when a gateway goes and its encoder comes back through HAProxy to another.

    python -m bench.bench_failover [--rounds 7] [--how kill|drain] [--viewer edge|gateway] [--form flv|hls]

Two gateways (and an edge) on this machine behind the real HAProxy with proxy/haproxy/haproxy.cfg. An encoder sends 25
numbered pictures a second; a viewer plays through HAProxy and comes again whenever it is ended, as players do. In each
round the gateway that holds the stream is killed (SIGKILL) or drained (SIGTERM), the encoder connects again as soon as
its connection has ended, each second where it is refused, and the gateway is started again before the next round.

noticed: from the fault until the encoder's connection has ended. back: from the encoder's first connect() after that
until the viewer has the first picture that it sent then; accepted: the part of it until the push was accepted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from tests.support.farm import Farm, farm
from tests.support.gateway import Channel
from tests.support.haproxy import PLAYERS, Front, haproxy, wire
from tests.support.names import name_server
from tests.support.rtmp import Peer, connected, picture

FPS = 25
GOP = 25  # pictures
MARK = b"\x65PICTURE"  # a key frame whose number follows in eight digits


@dataclass
class Start:
    """A push that was accepted: when the one before it was lost and the first connect() after that was called, when it
    was accepted, the number of its first picture, and how often it had been refused."""

    lost: float
    connecting: float
    accepted: float
    first: int
    refused: int


class Encoder:
    """Publishes numbered pictures for ever. number: of the next one."""

    def __init__(self, front: Front, channel: Channel) -> None:
        self._port, self._key = front.ports["rtmp"], channel.obs_key
        self.number = 0
        self.starts: list[Start] = []
        self._started = asyncio.Condition()

    async def start(self, count: int) -> Start:
        """The push of this number (from 0), once it has been accepted."""
        async with self._started:
            await self._started.wait_for(lambda: len(self.starts) > count)
            return self.starts[count]

    async def run(self) -> None:
        lost = time.monotonic()
        while True:
            await self._push(lost)
            lost = time.monotonic()

    async def _push(self, lost: float) -> None:
        """One push, from the first connect() until it is cut."""
        connecting, refused = time.monotonic(), 0
        while True:
            began = time.monotonic()
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                async with connected(self._port) as peer:
                    if (await peer.publish(self._key)).code == "NetStream.Publish.Start":
                        async with self._started:
                            self.starts.append(Start(lost, connecting, time.monotonic(), self.number, refused))
                            self._started.notify_all()
                        await self._send(peer)
                        return
            refused += 1
            await asyncio.sleep(max(0.0, began + 1 - time.monotonic()))

    async def _send(self, peer: Peer) -> None:
        await peer.chunk_size(65536)
        await peer.headers()
        hearing = asyncio.create_task(_ended(peer))
        began, start = time.monotonic(), self.number
        try:
            while not hearing.done():
                key = (self.number - start) % GOP == 0
                body = bytearray(picture(self.number, key=key, size=4000))
                if key:
                    body[9 : 9 + len(MARK) + 8] = MARK + b"%08d" % self.number
                with contextlib.suppress(ConnectionError):
                    await peer.body(9, bytes(body), (self.number - start) * 1000 // FPS)
                self.number += 1
                due = began + (self.number - start) / FPS
                await asyncio.wait([hearing], timeout=max(0.001, due - time.monotonic()))
        finally:
            hearing.cancel()


async def _ended(peer: Peer) -> None:
    """Returns once the server has closed."""
    with contextlib.suppress(EOFError):
        while True:
            await peer.read(timeout=3600)


class Viewer:
    """Plays for ever. seen: the number of the last key frame that came, and when; `until(number)` waits for it."""

    def __init__(self, play: Callable[[], AsyncIterator[bytes]]) -> None:
        self._play = play
        self.number, self.when = -1, 0.0
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        while True:
            rest = b""
            with contextlib.suppress(OSError, EOFError, TimeoutError, ValueError, AssertionError):
                async with contextlib.aclosing(self._play()) as playing:
                    async for data in playing:
                        rest += data
                        for found in re.finditer(MARK + rb"([0-9]{8})", rest):
                            await self._saw(int(found[1]))
                        rest = rest[-len(MARK) - 8 :]
            await asyncio.sleep(0.1)

    async def _saw(self, number: int) -> None:
        if number > self.number:
            async with self._changed:
                self.number, self.when = number, time.monotonic()
                self._changed.notify_all()

    async def until(self, number: int) -> float:
        """When the first key frame from this number on was there."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.number >= number)
            return self.when


async def flv(front: Front, channel: Channel) -> AsyncIterator[bytes]:
    async with wire(front.ports["http"]) as client:
        await client.send(f"GET /{channel.id}/live.flv HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.head()).status == 200
        while data := await client.chunk():
            yield data


async def hls(front: Front, channel: Channel) -> AsyncIterator[bytes]:
    """Each TS segment as soon as the playlist names it, asked for five times a second."""
    known: set[str] = set()
    async with wire(front.ports["http"]) as client:
        while True:
            playlist = await client.get(f"/{channel.id}/live.m3u8")
            assert playlist.status == 200
            for name in (line for line in playlist.text.splitlines() if line.endswith(".ts")):
                if name not in known:
                    known.add(name)
                    # Payloads are cut every 184 bytes; the mark stands at the beginning of one or is found by its half.
                    body = (await client.get(f"/{channel.id}/{name}")).body
                    yield b"".join(_payload(body[at : at + 188]) for at in range(0, len(body), 188)) + bytes(64)
            await asyncio.sleep(0.2)


def _payload(packet: bytes) -> bytes:
    """Of one TS packet."""
    control = packet[3] >> 4 & 3
    start = 4 if control == 1 else 5 + packet[4]
    return packet[start:] if control & 1 else b""


FORMS: dict[str, Callable[[Front, Channel], AsyncIterator[bytes]]] = {"flv": flv, "hls": hls}


async def _round(site: Farm, channel: Channel, encoder: Encoder, viewer: Viewer, how: str) -> dict[str, Any]:
    await viewer.until(encoder.number)  # everything is as it should be
    holder = await asyncio.to_thread(site.holder, channel)
    pushes = len(encoder.starts)
    gone = time.monotonic()
    await asyncio.to_thread(site.kill if how == "kill" else site.drain, holder)
    start = await encoder.start(pushes)
    seen = await viewer.until(start.first)
    row = {
        "noticed_ms": round((start.lost - gone) * 1000),
        "accepted_ms": round((start.accepted - start.connecting) * 1000),
        "back_ms": round((seen - start.connecting) * 1000),
        "refused": start.refused,
    }
    process = site.gateways[holder].process
    await asyncio.to_thread(process.wait, 60)
    await asyncio.to_thread(site.gateway, holder)
    return row


async def measure(a: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    with contextlib.ExitStack() as stack:
        names = stack.enter_context(name_server())
        site = stack.enter_context(farm(names))
        variables = site.variables
        if a.viewer == "edge":
            site.edge()
            variables |= {"FRONT_PLAYERS": PLAYERS}
        front = stack.enter_context(haproxy(names.address, **variables))
        front.wait_up("rtmp-ready", *site.gateways)
        front.wait_up("playback-ready", *(site.edges or site.gateways))
        channel = site.channel(hls_time="1")
        encoder, viewer = Encoder(front, channel), Viewer(lambda: FORMS[a.form](front, channel))
        running = [asyncio.create_task(one.run()) for one in (encoder, viewer)]
        try:
            for number in range(1, a.rounds + 1):
                async with asyncio.timeout(90):
                    rows.append(await _round(site, channel, encoder, viewer, a.how))
                print(json.dumps({"round": number, "how": a.how, "viewer": a.viewer, "form": a.form} | rows[-1]))
                front.wait_up("rtmp-ready", *site.gateways)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--how", choices=("kill", "drain"), default="kill")
    parser.add_argument("--viewer", choices=("edge", "gateway"), default="edge")
    parser.add_argument("--form", choices=tuple(FORMS), default="flv")
    a = parser.parse_args()
    rows = asyncio.run(measure(a))
    for name in ("noticed_ms", "accepted_ms", "back_ms"):
        values = [row[name] for row in rows]
        print(f"{name:12} p50 {statistics.median(values):6.0f}   max {max(values):6.0f}")


if __name__ == "__main__":
    main()
