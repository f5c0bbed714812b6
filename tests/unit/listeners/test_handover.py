"""One UDP port of two processes: which of them reads it, and which gets a datagram."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.listeners.handover import Handover, pack, unpack
from gateway.protocols.errors import RemoteProtocolError
from tests.support.time_outs import at_most

V4, V6 = ("192.0.2.1", 5000), ("2001:db8::1", 65_535, 7, 3)
hosts = st.ip_addresses().map(str)
ports = st.integers(0, 65_535)
numbers = st.integers(0, 2**32 - 1)
addresses = st.one_of(st.tuples(hosts, ports), st.tuples(hosts, ports, numbers, numbers))


class Port:
    """Takes the place of an endpoint."""

    def __init__(self) -> None:
        self.older: Callable[[int, Any, bytes], None] | None = None
        self.is_reading = True
        self.taken: list[tuple[int, Any, bytes]] = []
        self.changed = asyncio.Condition()

    def pause_udp(self) -> None:
        self._set(is_reading=False)

    def resume_udp(self) -> None:
        self._set(is_reading=True)

    def passed_on(self, index: int, address: Any, data: bytes, now: float) -> None:
        self.taken.append((index, address, data))
        asyncio.get_running_loop().create_task(self._notify())

    def _set(self, *, is_reading: bool) -> None:
        self.is_reading = is_reading
        asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(at_most(10)), self.changed:
            await self.changed.wait_for(holds)


@asynccontextmanager
async def process(folder: Path, number: int) -> AsyncIterator[tuple[Port, Handover]]:
    """A process of a slot, the one after `number - 1`."""
    port = Port()
    earlier = [folder / f"{n}.udp" for n in range(number - 1, 0, -1)]
    handover = Handover([port], folder / f"{number}.udp", lambda: earlier)
    await handover.open()
    try:
        yield port, handover
    finally:
        await handover.close()


async def test_the_successor_passes_on_datagrams_for_the_older_process(tmp_path: Path) -> None:
    async with process(tmp_path, 1) as (old, _), process(tmp_path, 2) as (new, _):
        assert not old.is_reading, "before the successor reads"
        assert old.older is None and new.older is not None and new.is_reading
        new.older(0, V4, b"media")
        new.older(1, V6, b"")
        await old.until(lambda: len(old.taken) == 2)
        assert old.taken == [(0, V4, b"media"), (1, V6, b"")]


async def test_a_process_reads_again_if_its_successor_ends(tmp_path: Path) -> None:
    async with process(tmp_path, 1) as (old, _):
        async with process(tmp_path, 2):
            assert not old.is_reading
        await old.until(lambda: old.is_reading)


async def test_the_third_process_finds_the_first_when_the_second_ends(tmp_path: Path) -> None:
    async with (
        process(tmp_path, 1) as (first, _),
        process(tmp_path, 2) as (second, middle),
        process(tmp_path, 3) as (third, _),
    ):
        assert (first.is_reading, second.is_reading) == (False, False)
        await middle.close()
        async with asyncio.timeout(at_most(10)):
            while not first.taken:
                if third.older is not None:
                    third.older(0, V4, b"x")
                await asyncio.sleep(0.01)
        assert first.taken[0] == (0, V4, b"x")
        assert not first.is_reading


async def test_the_socket_of_a_dead_process_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "1.udp").touch()
    async with process(tmp_path, 2) as (port, _):
        assert port.older is None


async def test_datagrams_too_long_for_a_frame_are_dropped(tmp_path: Path) -> None:
    async with process(tmp_path, 1) as (old, _), process(tmp_path, 2) as (new, _):
        assert new.older is not None
        new.older(0, V4, bytes(2_048))
        new.older(0, V4, b"short")
        await old.until(lambda: len(old.taken) > 0)
        assert old.taken == [(0, V4, b"short")]


@given(st.integers(0, 127), addresses, st.binary(max_size=1500))
def test_a_frame_carries_a_whole_datagram(index: int, address: Any, data: bytes) -> None:
    assert unpack(pack(index, address, data)) == (index, address, data)


@pytest.mark.parametrize("address", [V4, V6])
def test_a_cut_frame_is_refused(address: Any) -> None:
    whole = pack(1, address, b"")
    for end in range(len(whole)):
        with pytest.raises(RemoteProtocolError):
            unpack(whole[:end])


@given(st.binary(max_size=80))
def test_any_bytes_are_a_frame_or_are_refused(data: bytes) -> None:
    try:
        index, address, rest = unpack(data)
    except RemoteProtocolError:
        return
    assert index < 128 and len(address) in (2, 4) and data.endswith(rest)
