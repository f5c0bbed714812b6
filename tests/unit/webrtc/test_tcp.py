"""Data that waits for clients of ICE-TCP is bounded; clients that read nothing are disconnected."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.viewer_memory import TIGHT_SECONDS, ViewerMemory
from gateway.webrtc import tcp
from gateway.webrtc.tcp import MAX_UNSENT, TcpConnection, TcpLimits
from tests.support.clock import Clock

CHECK = b"\0\1" + bytes(98)
MEDIA = [b"\x80" + bytes(1199)] * 10


class Owner:
    def __init__(self, memory: int, stall_seconds: float) -> None:
        self.tcp_limits = TcpLimits(ViewerMemory(memory), stall_seconds)

    def tcp_opened(self, connection: TcpConnection) -> bool:
        return True

    def receive_frame(self, connection: TcpConnection, packet: bytes, now: float) -> bool:
        return True

    def tcp_lost(self, connection: TcpConnection) -> None: ...


class Transport:
    """A transport whose client reads only when the test says so."""

    def __init__(self) -> None:
        self.waiting = 0
        self.aborted = False

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.1", 5000)

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def write(self, data: bytes) -> None:
        self.waiting += len(data)

    def abort(self) -> None:
        self.aborted = True


class Lab:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, memory: int = 0, stall_seconds: float = 30.0) -> None:
        self.clock = Clock(100.0)
        monkeypatch.setattr(tcp, "time", type("_Time", (), {"monotonic": self.clock}))
        self.owner = Owner(memory, stall_seconds)
        self.memory = self.owner.tcp_limits.memory

    def connect(self) -> tuple[TcpConnection, Transport]:
        connection, transport = TcpConnection(self.owner, ReadScheduler()), Transport()
        connection.connection_made(transport)  # type: ignore[arg-type]
        return connection, transport


def test_clients_that_read_nothing_share_the_memory_of_all_viewers(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch, memory=1_000_000)
    clients = [lab.connect() for _ in range(20)]
    for _ in range(200):
        for connection, _ in clients:
            connection.write(MEDIA)
    waiting = sum(transport.waiting for _, transport in clients)
    assert waiting == lab.memory.bytes and 650_000 < waiting < 750_000 + 12_020
    reader, its = lab.connect()
    for _ in range(100):
        assert reader.write(MEDIA) == len(MEDIA), "who reads is not affected"
        its.waiting = 0
    for connection, _ in (*clients, (reader, its)):
        connection.connection_lost(None)
    assert lab.memory.bytes == 0


def test_checks_are_sent_also_a_little_above_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch)
    connection, transport = lab.connect()
    while connection.write(MEDIA):
        pass
    assert MAX_UNSENT < transport.waiting < MAX_UNSENT + 12_021
    while connection.write([CHECK]):
        pass
    assert transport.waiting < MAX_UNSENT + 17_000


@pytest.mark.parametrize(("memory", "seconds"), [(0, 30.0), (100_000, TIGHT_SECONDS)], ids=["free", "tight"])
def test_a_client_that_reads_nothing_is_disconnected(
    monkeypatch: pytest.MonkeyPatch, memory: int, seconds: float
) -> None:
    lab = Lab(monkeypatch, memory=memory)
    lab.memory.bytes = memory * 4 // 5  # of other viewers
    connection, transport = lab.connect()
    for _ in range(int(seconds) + 1):
        connection.write(MEDIA)
        lab.clock.now += 1
    assert not transport.aborted
    transport.waiting -= 1
    connection.write(MEDIA)
    for _ in range(int(seconds) + 1):
        assert not transport.aborted, "it has read a little"
        lab.clock.now += 1
        connection.write([CHECK])
    assert transport.aborted


def test_without_a_time_limit_a_client_is_not_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch, stall_seconds=0.0)
    connection, transport = lab.connect()
    for _ in range(100):
        connection.write(MEDIA)
        lab.clock.now += 100
    assert not transport.aborted
