"""What is due on a link is delivered in turns, so that a link with much work does not stop the others."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast
from unittest.mock import Mock

import pytest

from gateway.lib.tasks import Tasks
from gateway.srt import link as srt_link
from gateway.srt.link import LinkTicker, SrtLink
from tests.unit.protocols.srt.pair import connect

WORK = 0.003  # seconds that the media of one packet cost


class Clock:
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


class Connection:
    """A connection that always has as many packets that are due."""

    ended = ""

    def __init__(self, packets: int) -> None:
        self.out: list[bytes] = []
        self._packets = packets
        self.received = Mock(is_due=lambda now: packets > 1)

    def due(self, now: float, most: int) -> list[bytes]:
        return [b"x"] * min(most, self._packets)

    def tick(self, now: float) -> None: ...


class User:
    """Notes in `order` that it got payloads, and needs time for them."""

    def __init__(self, name: str, order: deque[str], clock: Clock, work: float = 0.0) -> None:
        self._name, self._order, self._clock, self._work = name, order, clock, work
        self.packets: list[int] = []

    def receive(self, payloads: list[bytes], now: float) -> None:
        self._order.append(self._name)
        self._clock.now += self._work * len(payloads)
        self.packets.append(len(payloads))

    def tick(self, now: float) -> None: ...

    def closed(self, reason: str) -> None: ...


def link(connection: Any, user: Any) -> SrtLink:
    return SrtLink(connection, Mock(), "192.0.2.1", Mock(), user)


async def test_others_get_their_packets_between_those_of_a_link_with_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, order, enough = Clock(), deque[str](), asyncio.Event()
    monkeypatch.setattr(srt_link, "time", clock)
    ticker, flood = LinkTicker(), User("flood", order, clock, WORK)
    ticker.add(link(Connection(1_000_000), flood))
    ticker.add(link(Connection(1), User("healthy", order, clock)))
    ticker.reads = (lambda: enough.set() if order.count("healthy") > 9 else None,)
    async with Tasks("turns") as tasks:
        tasks.start(ticker.run())
        await enough.wait()
    assert "".join(name[0] for name in order).startswith("fh" * 9)
    assert flood.packets[:9] == [8] + 8 * [1]  # as few as are known to fit into a turn


def test_nothing_is_lost_between_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(srt_link, "time", Clock())
    pair = connect()
    receiver = pair.receiver
    payloads = [n.to_bytes(2, "big") for n in range(60)]
    pair.sender.push(payloads, pair.now)
    receiver.receive(pair.sender.out, [pair.now] * len(pair.sender.out))
    got: list[bytes] = []
    user = Mock(receive=lambda payloads, now: got.extend(payloads))
    one = link(receiver, user)
    turns = 1
    while one.tick(Clock.now, until=0.0):
        turns += 1
    assert got == payloads and turns == 8


def test_a_link_that_ends_meanwhile_gets_nothing_more() -> None:
    got: list[int] = []
    one = link(Connection(1_000_000), None)

    def receive(payloads: list[bytes], now: float) -> None:
        got.append(len(payloads))
        one.user = None

    one.user = cast(Any, Mock(receive=receive))
    one.tick(1.0, until=float("inf"))
    assert got == [8]
