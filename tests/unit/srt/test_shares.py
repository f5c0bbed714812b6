"""The links of a bonded group: their shares and states, and links that are gone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast
from unittest.mock import Mock

import pytest

from gateway.protocols.srt.statistics import LinkPath
from gateway.srt import bonding
from gateway.srt.bonding import GONE_SECONDS, BondedGroup
from gateway.srt.link import PATH_SECONDS


@dataclass(eq=False)
class Client:
    address: str

    def accept(self) -> None: ...


class Clock:
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(bonding, "time", clock)
    return clock


def group() -> BondedGroup:
    return BondedGroup(Mock(), b"id", cast(Any, Client("192.0.2.1")))


def join(one: BondedGroup, address: str) -> Any:
    client = cast(Any, Client(address))
    assert one.join(client)
    return client


def carry(one: BondedGroup, client: Any, size: int, now: float) -> None:
    link = one.links[client]
    link.second_bytes[-1] += size
    link.heard = now


def test_shares_are_those_of_the_bytes(clock: Clock) -> None:
    one = group()
    phone, modem = join(one, "192.0.2.1"), join(one, "198.51.100.1")
    carry(one, phone, 3_000, clock.now)
    carry(one, modem, 1_000, clock.now)
    assert one.shares(clock.now) == (
        LinkPath("192.0.2.1", 75.0, None, "up"),
        LinkPath("198.51.100.1", 25.0, None, "up"),
    )


def test_a_silent_link_is_down_and_stays_so_after_its_end_for_a_minute(clock: Clock) -> None:
    one = group()
    phone, modem = join(one, "192.0.2.1"), join(one, "198.51.100.1")
    clock.now += PATH_SECONDS + 1
    carry(one, phone, 1_000, clock.now)
    states = [(path.share_percent, path.state) for path in one.shares(clock.now)]
    assert states == [(100, "up"), (0, "down")]
    one.leave(modem, "nothing received for too long")
    assert [(path.peer, path.state) for path in one.shares(clock.now)] == [
        ("192.0.2.1", "up"),
        ("198.51.100.1", "down"),
    ]
    clock.now += GONE_SECONDS
    carry(one, phone, 1_000, clock.now)
    assert [path.peer for path in one.shares(clock.now)] == ["192.0.2.1"]


def test_a_link_that_returns_on_another_port_replaces_the_old_one(clock: Clock) -> None:
    one = group()
    phone, _ = join(one, "192.0.2.1"), join(one, "198.51.100.1")
    clock.now += PATH_SECONDS + 1
    carry(one, phone, 1_000, clock.now)
    join(one, "198.51.100.1")
    assert [(path.peer, path.state) for path in one.shares(clock.now)] == [("192.0.2.1", "up"), ("198.51.100.1", "up")]


def test_a_group_that_nobody_uses_has_no_shares() -> None:
    one = group()
    join(one, "192.0.2.1")
    assert one.shares(time.monotonic() + 60) == (LinkPath("192.0.2.1", 0.0, None, "down"),)
