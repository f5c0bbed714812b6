"""Scheduled reads: bounded read sizes, turns of connections, and back-pressure of the protocol above."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from gateway.lib import scheduled_reads
from gateway.lib.certificates import Certificate
from gateway.lib.scheduled_reads import LARGEST_READ, ReadScheduler, ScheduledProtocol, ScheduledReads, ScheduledTls
from tests.support.rtmp import self_signed
from tests.support.time_outs import at_most


class _Transport:
    """A transport that records whether it is being read."""

    def __init__(self) -> None:
        self.socket: socket.socket
        self.reading = True
        self.closing = False
        self.written = b""

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str) -> socket.socket:
        return self.socket

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed twice"
        self.reading = True

    def write(self, data: bytes) -> None:
        self.written += data


class _Connection(ScheduledReads):
    """Needs `costs` seconds for each read, on a simulated clock."""

    def __init__(self, scheduler: ReadScheduler, clock: _Clock, costs: float, read_size: int = 100) -> None:
        super().__init__(scheduler, read_size)
        self._transport = _Transport()
        self.clock = clock
        self.costs = costs
        self.got: list[bytes] = []

    def bytes_received(self, data: bytes) -> None:
        self.got.append(data)
        self.clock.now += self.costs

    @property
    def reading(self) -> bool:
        return bool(self._transport.reading)

    def read(self, data: bytes) -> None:
        """Delivers data as the event loop does."""
        self.get_buffer(-1)[: len(data)] = data
        self.buffer_updated(len(data))


class _Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(scheduled_reads.time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    return _Clock(monkeypatch)


def test_a_read_is_never_larger_than_its_bound(clock: _Clock) -> None:
    connection = _Connection(ReadScheduler(), clock, 0.0)
    assert len(connection.get_buffer(1_000_000)) == 100
    connection.read(b"a" * 100)
    connection.read(b"b")
    assert connection.got == [b"a" * 100, b"b"]


def test_cheap_reads_continue_in_the_same_turn(clock: _Clock) -> None:
    scheduler = ReadScheduler()
    connection = _Connection(scheduler, clock, 0.0004)
    connection.read(b"a" * 100)
    connection.read(b"a" * 100)
    connection.read(b"a" * 99)  # the socket is empty: what was spent is forgotten
    connection.read(b"a" * 100)
    assert connection.reading and not len(scheduler)


async def test_a_connection_that_used_its_time_slice_waits_for_another_turn(clock: _Clock) -> None:
    scheduler = ReadScheduler()
    connection = _Connection(scheduler, clock, 0.0004)
    for _ in range(3):
        connection.read(b"a" * 100)
    assert not connection.reading and len(scheduler) == 1
    await asyncio.sleep(0)
    assert connection.reading and not len(scheduler)


async def test_a_single_expensive_read_makes_the_reader_wait(clock: _Clock) -> None:
    scheduler = ReadScheduler()
    connection = _Connection(scheduler, clock, 0.002)
    connection.read(b"a")
    assert not connection.reading


async def test_a_turn_resumes_connections_in_order_within_its_time(clock: _Clock) -> None:
    scheduler = ReadScheduler(turn_seconds=0.004)
    connections = [_Connection(scheduler, clock, 0.002) for _ in range(5)]
    for connection in connections:
        connection.read(b"a")
    seen = []
    for _ in range(3):
        await asyncio.sleep(0)
        seen.append([connection.reading for connection in connections].count(True))
    assert seen == [2, 4, 5]
    assert [connection.reading for connection in connections] == [True] * 5


async def test_an_error_in_one_connection_does_not_stop_others(clock: _Clock) -> None:
    scheduler, met = ReadScheduler(turn_seconds=0.004), []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: met.append(context["exception"]))

    def fails() -> None:
        raise RuntimeError("a fault of ours")

    scheduler.wait(fails, 0.001)
    connection = _Connection(scheduler, clock, 0.002)
    connection.read(b"a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert connection.reading and [str(error) for error in met] == ["a fault of ours"]
    connection.read(b"b")
    await asyncio.sleep(0)
    assert connection.reading


async def test_a_connection_more_expensive_than_a_turn_still_gets_turns(clock: _Clock) -> None:
    scheduler = ReadScheduler(turn_seconds=0.004)
    connections = [_Connection(scheduler, clock, 1.0) for _ in range(2)]
    for connection in connections:
        connection.read(b"a")
    await asyncio.sleep(0)
    assert [connection.reading for connection in connections] == [True, False]
    await asyncio.sleep(0)
    assert connections[1].reading


@pytest.fixture
def peer() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The socket of a connection, and its other end."""
    own, other = socket.socketpair()
    own.setblocking(False)
    with own, other:
        yield own, other


@pytest.fixture
async def merging(
    clock: _Clock, monkeypatch: pytest.MonkeyPatch, peer: tuple[socket.socket, socket.socket]
) -> _Connection:
    """A connection with merged reads, after its first read."""
    monkeypatch.setattr(scheduled_reads, "MERGED_SECONDS", 0.01)
    connection = _Connection(ReadScheduler(), clock, 0.0)
    connection._transport.socket, connection._transport.peer = peer
    connection.merge_reads(True)
    connection.read(b"a" * 100)
    assert connection.reading, "a full read: there may be more"
    connection.read(b"a" * 99)
    assert not connection.reading and len(connection._scheduler) == 1
    connection.got.clear()
    return connection


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(at_most(5)):
        while not condition():
            await asyncio.sleep(0.001)


async def test_merged_reads_take_what_has_arrived_and_pause_again(merging: _Connection) -> None:
    await asyncio.sleep(0)
    assert not merging.got, "not before its time"
    for data in (b"b" * 250, b"c"):
        merging._transport.peer.send(data)
        await _until(lambda expected=data: merging.got and merging.got[-1][-1:] == expected[-1:])
    assert merging.got == [b"b" * 100, b"b" * 100, b"b" * 50, b"c"]
    assert not merging.reading and len(merging._scheduler) == 1


async def test_merged_reads_of_an_empty_socket_wait_again(merging: _Connection) -> None:
    turns = []
    wait = merging._scheduler.wait_to_merge
    merging._scheduler = SimpleNamespace(wait_to_merge=lambda *call: (turns.append(call), wait(*call)))  # type: ignore[assignment]
    await _until(lambda: len(turns) > 2)
    assert not merging.got and not merging.reading


async def test_the_loop_reads_again_when_reads_are_no_longer_merged(merging: _Connection) -> None:
    merging._transport.peer.send(b"b")
    merging.merge_reads(False)
    await _until(lambda: merging.reading)
    assert not merging.got


async def test_the_loop_notices_the_end_of_a_connection_with_merged_reads(merging: _Connection) -> None:
    merging._transport.peer.close()
    await _until(lambda: merging.reading)
    assert not merging.got


async def test_merged_reads_leave_a_closing_connection(merging: _Connection) -> None:
    scheduler = merging._scheduler
    merging._transport.peer.send(b"b")
    merging._transport.closing = True
    await _until(lambda: not len(scheduler))
    assert not merging.got and not merging.reading


async def test_expensive_merged_reads_leave_time_for_others(merging: _Connection) -> None:
    order: list[object] = []

    def receive(data: bytes) -> None:
        order.append(len(data))
        merging.clock.now += scheduled_reads.TURN_SECONDS
        asyncio.get_running_loop().call_soon(order.append, "others")

    merging.bytes_received = receive  # type: ignore[method-assign]
    merging._transport.peer.send(b"b" * 250)
    await _until(lambda: len(order) == 6)
    assert order == [100, 100, "others", "others", 50, "others"] and not merging.reading


async def test_merged_reads_respect_the_hold_of_the_owner(merging: _Connection) -> None:
    merging.hold_reading()
    merging.release_reading()
    assert not merging.reading, "it still rests"
    merging.hold_reading()
    merging._transport.peer.send(b"b")
    await _until(lambda: not len(merging._scheduler))
    assert not merging.reading and not merging.got
    merging.release_reading()
    assert merging.reading


async def test_an_owner_may_hold_and_release_within_a_merged_read(merging: _Connection) -> None:
    received = merging.got.append

    def hold_and_release(data: bytes) -> None:
        received(data)
        merging.hold_reading()
        merging.release_reading()

    merging.bytes_received = hold_and_release  # type: ignore[method-assign]
    merging._transport.peer.send(b"b")
    await _until(lambda: merging.got)
    assert not merging.reading and len(merging._scheduler) == 1


async def test_a_held_connection_is_not_resumed_in_its_turn(clock: _Clock) -> None:
    scheduler = ReadScheduler()
    connection = _Connection(scheduler, clock, 0.002)
    connection.read(b"a")
    connection.hold_reading()
    await asyncio.sleep(0)
    assert not connection.reading
    connection.release_reading()
    connection.release_reading()
    assert connection.reading


async def test_a_released_connection_still_waits_for_its_turn(clock: _Clock) -> None:
    scheduler = ReadScheduler()
    connection = _Connection(scheduler, clock, 0.002)
    connection.hold_reading()
    connection.read(b"a")  # bytes that were on their way
    connection.release_reading()
    assert not connection.reading
    await asyncio.sleep(0)
    assert connection.reading


async def test_a_closing_connection_is_not_resumed(clock: _Clock) -> None:
    scheduler = ReadScheduler()
    connection = _Connection(scheduler, clock, 0.002)
    connection.read(b"a")
    connection._transport.closing = True
    await asyncio.sleep(0)
    assert not connection.reading


class _Library(asyncio.Protocol):
    """A protocol like those of libraries: it collects data and pauses after a "p"."""

    def __init__(self) -> None:
        self.got = b""
        self.largest = 0
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.paused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.largest = max(self.largest, len(data))
        if data.endswith(b"p"):
            self.transport.pause_reading()
            self.paused.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_library_protocol_gets_every_byte_in_bounded_pieces(new_loop: Any) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        made: list[_Library] = []

        def factory() -> ScheduledProtocol:
            made.append(_Library())
            return ScheduledProtocol(made[0], ReadScheduler(), 1000)

        server = await loop.create_server(factory, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        sent = bytes(range(100)) * 5000
        writer.write(sent + b"p")
        await writer.drain()
        while not made:
            await asyncio.sleep(0)
        library = made[0]
        await library.paused
        assert library.got == sent + b"p"
        assert library.largest <= 1000
        assert not library.transport.is_reading()
        assert library.transport.get_extra_info("peername")[0] == "127.0.0.1"
        writer.write(b"more")
        await writer.drain()
        library.transport.write(b"answer")
        assert await reader.readexactly(6) == b"answer"
        assert library.got == sent + b"p", "paused"
        library.transport.resume_reading()
        writer.close()
        await library.lost
        assert library.got == sent + b"pmore"
        server.close()

    loop = new_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(run(), at_most(20)))
    finally:
        loop.close()


def test_connections_with_a_shared_buffer_never_mix_their_bytes() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        made: list[_Library] = []

        def factory() -> ScheduledProtocol:
            made.append(_Library())
            return ScheduledProtocol(made[-1], ReadScheduler(), LARGEST_READ)

        server = await loop.create_server(factory, "127.0.0.1", 0)
        clients = []
        for letter in (b"a", b"b"):
            client = socket.create_connection(server.sockets[0].getsockname()[:2])
            client.setblocking(False)
            await loop.sock_sendall(client, letter * 300_000)
            client.close()
            clients.append(client)
        while len(made) < 2:
            await asyncio.sleep(0)
        await asyncio.gather(*(library.lost for library in made))
        assert sorted(library.got for library in made) == [b"a" * 300_000, b"b" * 300_000]
        server.close()

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(run(), at_most(20)))
    finally:
        loop.close()


async def test_expensive_reads_become_smaller_and_cheap_reads_grow_again(clock: _Clock) -> None:
    scheduler = ReadScheduler()
    connection = _Connection(scheduler, clock, 0.002, read_size=65_536)
    sizes = []
    for _ in range(8):
        sizes.append(len(connection.get_buffer(-1)))
        connection.read(b"a" * sizes[-1])
        await asyncio.sleep(0)
    assert sizes == [65_536, 32_768, 16_384, 8192, 4096, 2048, 1024, 1024]
    connection.costs = 0.0
    connection.read(b"a" * 1024)
    connection.read(b"a" * 2048)
    assert len(connection.get_buffer(-1)) == 4096
    connection.read(b"a" * 100)
    assert len(connection.get_buffer(-1)) == 4096, "a short read says nothing"


async def test_reads_grow_gradually_to_a_larger_bound(clock: _Clock) -> None:
    connection = _Connection(ReadScheduler(), clock, 0.0, read_size=4096)
    connection.read_at_most(16_384)
    assert len(connection.get_buffer(-1)) == 4096
    for size in (4096, 8192, 16_384):
        connection.read(b"a" * size)
    assert len(connection.get_buffer(-1)) == 16_384
    connection.read_at_most(1000)
    assert len(connection.get_buffer(-1)) == 1000


async def test_discarded_data_is_not_handled_but_waits_for_turns(clock: _Clock) -> None:
    scheduler = ReadScheduler()
    connection = _Connection(scheduler, clock, 1.0)
    connection.hold_reading()
    connection.discard_reads()
    assert connection.reading
    connection.read(b"a")
    assert connection.reading, "there was no more"
    connection.read(b"a" * LARGEST_READ)
    assert connection.got == []
    assert not connection.reading and len(scheduler) == 1
    await asyncio.sleep(0)
    assert connection.reading


async def test_a_lost_connection_is_not_resumed(clock: _Clock) -> None:
    connection = _Connection(ReadScheduler(), clock, 0.002)
    connection.read(b"a")
    connection._transport = None
    await asyncio.sleep(0)
    connection.hold_reading()
    connection.release_reading()


async def test_a_library_protocol_keeps_no_reference_to_a_lost_transport() -> None:
    library = _Library()
    reads = ScheduledProtocol(library, ReadScheduler(), 1000)
    transport = _Transport()
    reads.connection_made(transport)  # type: ignore[arg-type]
    library.transport.write(b"before")
    gone = weakref.ref(transport)
    reads.connection_lost(None)
    del transport
    gc.collect()
    assert gone() is None
    assert library.transport.is_closing()
    library.transport.write(b"after")
    library.transport.abort()
    library.transport.pause_reading()
    library.transport.resume_reading()


class _App(ScheduledReads):
    """The protocol above TLS."""

    def __init__(self, scheduler: ReadScheduler) -> None:
        super().__init__(scheduler, 1000)
        self.got = b""
        self.largest = 0
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.read_at_most(2000)

    def bytes_received(self, data: bytes) -> None:
        self.got += data
        self.largest = max(self.largest, len(data))
        if self.got.endswith(b"\xff"):
            self._transport.write(b"answer")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


class _Tls(ScheduledTls):
    """Records the size of each read from the socket."""

    def __init__(self, app: _App, context: ssl.SSLContext, scheduler: ReadScheduler) -> None:
        super().__init__(app, context, scheduler, 5000, 5.0)
        self.encrypted: list[int] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def bytes_received(self, data: bytes) -> None:
        self.encrypted.append(len(data))
        super().bytes_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.ended.set_result(None)


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_every_byte_arrives_in_bounded_pieces_over_tls(new_loop: Any, tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path)
    context = Certificate.read(cert, key).context
    client = ssl.create_default_context(cafile=str(cert))
    client.check_hostname = False

    async def run() -> None:
        loop = asyncio.get_running_loop()
        scheduler = ReadScheduler()
        apps: list[_App] = []
        below: list[_Tls] = []

        def factory() -> _Tls:
            apps.append(_App(scheduler))
            below.append(_Tls(apps[-1], context, scheduler))
            return below[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        sent = bytes(range(100)) * 5000 + b"\xff"
        writer.write(sent)
        assert await reader.readexactly(6) == b"answer"
        assert apps[0].got == sent
        assert apps[0].largest <= 2000
        assert max(below[0].encrypted) <= 5000
        writer.close()
        await apps[0].lost
        await below[0].ended
        # A handshake that fails ends below, and the protocol above never hears of it.
        plain, out = await asyncio.open_connection("127.0.0.1", port)
        out.write(b"GET / HTTP/1.1\r\n\r\n")
        await plain.read()
        out.close()
        await below[1].ended
        assert not apps[1].lost.done()
        server.close()

    loop = new_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(run(), at_most(20)))
    finally:
        loop.close()
