"""Reading several datagrams in one call: addresses, order, bounds and times of arrival."""

from __future__ import annotations

import ctypes
import errno
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.listeners import datagrams
from gateway.listeners.datagrams import (
    MAX_BATCH,
    MAX_DATAGRAM,
    MAX_READ,
    Batch,
    KernelBatchReader,
    SingleReader,
    datagram_reader,
)

HAS_RECVMMSG = sys.platform == "linux" and sys.maxsize > 1 << 32

each_reader = pytest.mark.parametrize("reader", [SingleReader, *([KernelBatchReader] if HAS_RECVMMSG else [])])
needs_linux = pytest.mark.skipif(not HAS_RECVMMSG, reason="recvmmsg needs Linux with 64 bits")


@contextmanager
def bound(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setblocking(False)
        opened.bind((host, 0))
        yield opened


def contents(batches: list[Batch]) -> list[tuple[object, list[bytes]]]:
    return [(batch.address, batch.datagrams) for batch in batches]


@each_reader
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_datagrams_of_one_address_come_together_and_in_order(
    reader: type[SingleReader | KernelBatchReader], host: str
) -> None:
    with bound(host) as opened, bound(host) as first, bound(host) as second:
        found = reader(opened)  # type: ignore[call-arg]
        assert found.read() == ([], 0)
        for data in (b"1", b"", b"22"):
            first.sendto(data, opened.getsockname())
            second.sendto(data + b"!", opened.getsockname())
        batches, count = found.read()
        assert count == 6 and found.read() == ([], 0)
        assert contents(batches) == [
            (first.getsockname(), [b"1", b"", b"22"]),
            (second.getsockname(), [b"1!", b"!", b"22!"]),
        ]
        assert all(len(batch.arrivals) == 3 and batch.arrivals == sorted(batch.arrivals) for batch in batches)


@each_reader
def test_the_order_between_addresses_can_be_kept(reader: type[SingleReader | KernelBatchReader]) -> None:
    with bound() as opened, bound() as first, bound() as second:
        found = reader(opened, keeps_order=True)  # type: ignore[call-arg]
        for sender, data in ((first, b"1"), (first, b"2"), (second, b"3"), (first, b"4")):
            sender.sendto(data, opened.getsockname())
        batches, count = found.read()
        assert count == 4
        assert contents(batches) == [
            (first.getsockname(), [b"1", b"2"]),
            (second.getsockname(), [b"3"]),
            (first.getsockname(), [b"4"]),
        ]


@each_reader
def test_reads_and_batches_are_bounded(reader: type[SingleReader | KernelBatchReader]) -> None:
    with bound() as opened, bound() as sender:
        found = reader(opened)  # type: ignore[call-arg]
        sent = [bytes((n,)) for n in range(MAX_READ + 3)]
        for data in sent:
            sender.sendto(data, opened.getsockname())
        batches, count = found.read()
        assert count == MAX_READ and max(len(batch.datagrams) for batch in batches) == MAX_BATCH
        more, count = found.read()
        assert count == 3
        assert [data for batch in batches + more for data in batch.datagrams] == sent


@each_reader
def test_a_long_datagram_is_cut_and_those_beside_it_are_whole(reader: type[SingleReader | KernelBatchReader]) -> None:
    with bound() as opened, bound() as sender:
        found = reader(opened)  # type: ignore[call-arg]
        for size in (5, MAX_DATAGRAM + 500, MAX_DATAGRAM, 7):
            sender.sendto(bytes((size & 0xFF,)) * size, opened.getsockname())
        [batch], _ = found.read()
        assert [len(data) for data in batch.datagrams] == [5, MAX_DATAGRAM, MAX_DATAGRAM, 7]
        assert batch.datagrams[3] == bytes((7,)) * 7


@each_reader
def test_a_closed_socket_has_no_datagrams(reader: type[SingleReader | KernelBatchReader]) -> None:
    with bound() as opened:
        found = reader(opened)  # type: ignore[call-arg]
    assert found.read() == ([], 0)


@needs_linux
def test_a_datagram_arrives_when_the_kernel_gets_it() -> None:
    """The kernel begins to note arrivals a moment after a socket asks (a work queue); until then it gives the read."""
    with bound() as opened, bound() as sender:
        found = KernelBatchReader(opened)
        for _ in range(100):
            before = time.monotonic()
            sender.sendto(b"x", opened.getsockname())
            time.sleep(0.02)  # longer than clocks differ; the reader must not see it
            late = time.monotonic()
            [batch], _ = found.read()
            if batch.arrivals[0] < late:
                break
        assert before - 0.01 < batch.arrivals[0] < late


@needs_linux
@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_wall_clock_that_was_set_does_not_move_arrivals(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    with bound() as opened, bound() as sender:
        found = KernelBatchReader(opened)
        sender.sendto(b"x", opened.getsockname())
        wall = time.time() + step
        monkeypatch.setattr(time, "time", lambda: wall)
        before = time.monotonic()
        [batch], _ = found.read()
        assert before <= batch.arrivals[0] <= time.monotonic()


@needs_linux
def test_the_addresses_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagrams, "_MAX_ADDRESSES", 2)
    with bound() as opened:
        found = KernelBatchReader(opened)
        for _ in range(5):
            with bound() as sender:
                sender.sendto(b"x", opened.getsockname())
                [batch], _ = found.read()
                assert batch.address == sender.getsockname() and len(found._addresses) <= 2


@needs_linux
def test_without_recvmmsg_datagrams_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with bound() as opened:
        assert isinstance(datagram_reader(opened), KernelBatchReader)
        monkeypatch.setattr(ctypes, "CDLL", lambda *args, **options: object())
        assert isinstance(datagram_reader(opened), SingleReader)


@needs_linux
def test_where_recvmmsg_is_forbidden_datagrams_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sandbox:
        @staticmethod
        def recvmmsg(*_: object) -> int:
            ctypes.set_errno(errno.ENOSYS)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **options: Sandbox)
    with bound() as opened, bound() as sender:
        found = datagram_reader(opened)
        assert isinstance(found, SingleReader)
        sender.sendto(b"x", opened.getsockname())
        assert contents(found.read()[0]) == [(sender.getsockname(), [b"x"])]


@needs_linux
def test_a_datagram_that_waits_already_is_not_lost() -> None:
    with bound() as opened, bound() as sender:
        sender.sendto(b"x", opened.getsockname())
        batches, count = KernelBatchReader(opened).read()
        assert count == 1 and contents(batches) == [(sender.getsockname(), [b"x"])]
