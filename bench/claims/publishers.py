"""Encoders that push for ever, and the times for which a channel had no accepted push."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from tests.support.rtmp import VIDEO, Peer, connected, message, picture

FPS = 8
_PATIENCE = 12.0  # seconds in which a server must answer a push
_SILENT = 1.5  # seconds without an answer to a ping, after which an encoder connects again
_PAUSE = 0.25  # seconds before the next attempt


@dataclass(frozen=True, slots=True)
class Address:
    """Where a gateway takes pushes."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Outage:
    """The time for which a channel had no accepted push. tried: the gateways asked, with begin and end."""

    channel: str
    lost: float
    back: float
    tried: Sequence[tuple[str, float, float]]


@dataclass
class Channel:
    """A channel with one or two encoders."""

    id: str
    key: str
    pushes: int = 0
    lost: float = field(default_factory=time.monotonic)
    tried: list[tuple[str, float, float]] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)

    @property
    def is_live(self) -> bool:
        """Whether a push of it is accepted now."""
        return self.pushes > 0

    def accepted(self, began: float, node: str) -> None:
        now = time.monotonic()
        if not self.is_live:
            self.outages.append(Outage(self.id, self.lost, now, (*self.tried, (node, began, now))))
            self.tried.clear()
        self.pushes += 1

    def cut(self) -> None:
        self.pushes -= 1
        if not self.is_live:
            self.lost = time.monotonic()

    def refused(self, node: str, began: float) -> None:
        if not self.is_live:
            self.tried.append((node, began, time.monotonic()))


class Encoder:
    """Pushes to a gateway that it chooses at random, again whenever it is refused or cut.

    reasons: of refusals, with their number.
    """

    def __init__(self, channel: Channel, nodes: Sequence[Address], random: Random, pause: float = _PAUSE) -> None:
        self.channel = channel
        self.reasons: dict[str, int] = {}
        self._nodes, self._random, self._pause = nodes, random, pause
        self._peer: Peer | None = None

    async def run(self) -> None:
        while True:
            node, began = self._random.choice(self._nodes), time.monotonic()
            reason = "closed"
            with contextlib.suppress(OSError, EOFError, TimeoutError, ValueError, AssertionError):
                async with connected(node.port, host=node.host) as peer:
                    async with asyncio.timeout(_PATIENCE):
                        reason = (await peer.publish(self.channel.key)).code
                    if reason == "NetStream.Publish.Start":
                        self.channel.accepted(began, node.name)
                        try:
                            await self._push(peer)
                        finally:
                            self.channel.cut()
                        continue
            self.channel.refused(node.name, began)
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
            await asyncio.sleep(self._pause * self._random.uniform(0.8, 1.2))

    def drop(self) -> None:
        """Resets the connection, like an encoder that crashes."""
        if self._peer is not None:
            self._peer.writer.transport.abort()

    async def _push(self, peer: Peer) -> None:
        """Pushes until the connection ends or the server is silent."""
        self._peer = peer
        try:
            await peer.chunk_size(4096)
            await peer.headers()
            heard = [time.monotonic()]
            hearing = asyncio.create_task(_hear(peer, heard))
            try:
                await self._send(peer, hearing, heard)
            finally:
                hearing.cancel()
                await asyncio.gather(hearing, return_exceptions=True)
        finally:
            self._peer = None

    @staticmethod
    async def _send(peer: Peer, hearing: asyncio.Task[None], heard: list[float]) -> None:
        began, number = time.monotonic(), 0
        while not hearing.done() and time.monotonic() - heard[0] < _SILENT:
            await peer.body(VIDEO, picture(number, key=number % FPS == 0, size=200), number * 1000 // FPS)
            if number % (FPS // 2) == 0:
                await peer.send(message(4, b"\0\6" + number.to_bytes(4, "big"), csid=2, size=peer.size))
            number += 1
            await asyncio.wait([hearing], timeout=max(0.001, began + number / FPS - time.monotonic()))


async def _hear(peer: Peer, heard: list[float]) -> None:
    """Reads until the server closes. heard: the time of the last message."""
    with contextlib.suppress(EOFError):
        while True:
            await peer.read(timeout=3600)
            peer.heard.clear()
            heard[0] = time.monotonic()
