"""A push through SRTLA on simulated links: from a caller to the sessions of our listener, by a clock of the test."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from gateway.lib.refusals import Refusals
from gateway.lib.tasks import Tasks
from gateway.protocols.srt.calling import REPEAT_SECONDS, Caller
from gateway.protocols.srt.connection import TICK_SECONDS, SrtConnection
from gateway.protocols.srt.statistics import LinkStatistics
from gateway.protocols.srt.url import LatencyRange
from gateway.srt import bonding, listener_sessions
from gateway.srt import link as srt_link
from gateway.srt.bonding import BondedLinkSession, BondingServer
from gateway.srt.link import Direction, SrtLink, SrtUser
from gateway.srt.listener_sessions import SrtServer
from gateway.srt.passphrase_guesses import PassphraseGuesses
from tests.support.link_conditions import Conditions, Way
from tests.support.srtla_sender import MAINTAIN_SECONDS, SrtlaBonding


class Clock:
    """The clock of the modules that ask for the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        for module in (bonding, listener_sessions, srt_link):
            monkeypatch.setattr(module, "time", self)

    def monotonic(self) -> float:
        return self.now


class _Receiver:
    """The request of the caller, which is always allowed, and its user. payloads: what came, in order."""

    direction = Direction.PUBLISH

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.link: SrtLink | None = None
        self.reason = ""

    async def check(self) -> str:
        return ""

    def refuse(self, reason: str) -> None: ...

    async def begin(self, link: SrtLink) -> SrtUser:
        self.link = link
        return self

    def abandon(self) -> None: ...

    def receive(self, payloads: list[bytes], now: float) -> None:
        self.payloads += payloads

    def tick(self, now: float) -> None: ...

    def closed(self, reason: str) -> None:
        self.reason = reason


class _Client:
    """The way of the listener to one address, as `UdpClient`."""

    def __init__(self, push: BondedPush, address: str) -> None:
        self.address = address
        self._push = push
        self.session = cast(BondedLinkSession, push.server.session(cast(Any, self), (address, 5000)))

    def accept(self) -> None: ...

    def send(self, datagrams: Sequence[bytes]) -> int:
        self._push.carry(datagrams, self.address, self._push.back)
        return len(datagrams)

    def close(self, reason: str) -> None:
        if self._push.clients.pop(self.address, None) is not None:
            self.session.closed(reason)


class BondedPush:
    """A caller, its links, and a listener. conditions: of all links. They may change.

    connection: of the caller, after `connect`. bonding: its links. received: what the listener got. clients: of the
    listener, by address.
    """

    def __init__(
        self, tasks: Tasks, clock: Clock, conditions: Conditions, *addresses: str, latency: float = 1.0
    ) -> None:
        self.clock = clock
        self.conditions = conditions
        self.received = _Receiver()
        guesses = PassphraseGuesses(Refusals(0))
        self.server = BondingServer(SrtServer(LatencyRange(), lambda *_: self.received, tasks, guesses))
        self.clients: dict[str, _Client] = {}
        self.forth, self.back = (Way(conditions, random.Random(conditions.seed + way)) for way in (0, 1))
        self.bonding = SrtlaBonding(*addresses)
        self._caller = Caller("x", latency, clock.now)
        self.connection: SrtConnection | None = None
        self._began = clock.now
        self._flying: list[tuple[float, int, Way, str, bytes]] = []
        self._count = 0
        self._maintain_at = self._call_at = self._second_at = clock.now

    async def connect(self) -> SrtConnection:
        """Registers the links, and shakes hands. Returns the connection of the caller."""
        while self.connection is None:
            assert self.clock.now - self._began < 10
            self._step()
            await asyncio.sleep(0)  # the listener judges the request in a task
        return self.connection

    async def connect_again(self) -> SrtConnection:
        """Ends the connection, and shakes hands with a new caller on the same links, as an encoder that restarts."""
        assert self.connection is not None
        self.connection.close(self.clock.now, "the encoder restarts")
        self.run(0.1)
        self._caller, self.connection = Caller("x", 1.0, self.clock.now), None
        self._began = self._call_at = self.clock.now
        return await self.connect()

    def run(self, seconds: float, each_tick: Callable[[float], None] = lambda now: None) -> None:
        """Moves the clock, and everything that is due."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self._step(each_tick)

    @property
    def statistics(self) -> LinkStatistics:
        """The state of the connection at the listener."""
        assert self.received.link is not None
        return self.received.link.statistics()

    def carry(self, datagrams: Sequence[bytes], address: str, way: Way) -> None:
        now = self.clock.now
        for datagram in datagrams:
            for at in way.arrivals(len(datagram), now, self._began, address):
                self._count += 1
                heapq.heappush(self._flying, (at, self._count, way, address, datagram))

    def _step(self, each_tick: Callable[[float], None] = lambda now: None) -> None:
        clock = self.clock
        clock.now = now = clock.now + TICK_SECONDS
        each_tick(now)
        if now >= self._maintain_at:
            self._maintain_at = now + MAINTAIN_SECONDS
            self.bonding.maintain(now)
        if self.connection is None and now >= self._call_at:
            self._call_at = now + REPEAT_SECONDS
            self.bonding.forward(self._caller.datagram, now)
        self._flush()
        while self._flying and self._flying[0][0] <= now:
            at, _, way, address, datagram = heapq.heappop(self._flying)
            if way is self.forth:
                self._listen(address, datagram, at)
            else:
                self.bonding.receive(address, datagram, at)
            self._flush()
        for link in self.server.srt.ticker:
            link.tick(now, float("inf"))
        if self.connection is not None:
            self.connection.tick(now)
        if now >= self._second_at:
            self._second_at = now + 1
            for client in tuple(self.clients.values()):
                client.session.tick(now)
        self._flush()

    def _listen(self, address: str, datagram: bytes, at: float) -> None:
        """Does what `UdpListener` does with a datagram."""
        client = self.clients.get(address)
        if client is None and self.server.opens(datagram, (address, 5000)):
            client = self.clients[address] = _Client(self, address)
        if client is not None:
            client.session.receive((datagram,), (at,))
        elif (answer := self.server.answer(datagram, (address, 5000))) is not None:
            self.carry((answer,), address, self.back)

    def _flush(self) -> None:
        """Carries what the caller and its links have to send."""
        sender, now = self.bonding, self.clock.now
        to_caller, sender.to_caller = sender.to_caller, []
        for datagram in to_caller:
            if self.connection is not None:
                self.connection.receive((datagram,), (now,))
                continue
            asked = self._caller.datagram
            self._caller.receive(datagram, now)
            if self._caller.datagram is not asked:
                self._call_at = now
            if self._caller.agreement is not None:
                self.connection = SrtConnection(self._caller.agreement, now)
        if self.connection is not None:
            out, self.connection.out = self.connection.out, []
            for datagram in out:
                sender.forward(datagram, now)
        to_links, sender.to_links = sender.to_links, []
        for address, datagram in to_links:
            self.carry((datagram,), address, self.forth)
