"""Datagrams of SRT at an established connection: ignored or understood; what is kept and sent is bounded."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from gateway.protocols.srt.connection import TICK_SECONDS, Agreement, SrtConnection
from gateway.protocols.srt.packets import HEAD, WHOLE, ControlType, control, encode_ranges
from gateway.protocols.srt.receive_buffer import WINDOW

_FIRST = 0x7FFF_FFF0  # numbers wrap
_PUSHED = 20
_MOST = 256  # datagrams of one input
_TICKS = 40


def _framed(*datagrams: bytes) -> bytes:
    return b"".join(len(datagram).to_bytes(2, "big") + datagram for datagram in datagrams)


def _data(number: int, stamp: int = 0, flags: int = 0) -> bytes:
    return HEAD.pack((_FIRST + number) & 0x7FFF_FFFF, WHOLE | flags, stamp, 7) + b"\x47" * 20


def _control(kind: int, content: bytes = b"", information: int = 0, subtype: int = 0) -> bytes:
    return control(kind, 7, 1000, content, information, subtype)


def _words(*words: int) -> bytes:
    return struct.pack(f">{len(words)}I", *(word & 0xFFFF_FFFF for word in words))


SEEDS = [
    _framed(*(_data(n, 100 * n) for n in range(10))),
    _framed(_data(0), _data(5), _data(4), _data(4), _data(8_000), _data(9_000), _data(1, 0xFFFF_FFFF)),
    _framed(
        _control(ControlType.ACK, _words(_FIRST + 3, 20_000, 5_000, 8_000, 1, 1, 1), 1), _control(ControlType.ACKACK)
    ),
    _framed(_control(ControlType.NAK, encode_ranges(_FIRST + n for n in (1, 2, 3, 5, 9)))),
    _framed(_control(ControlType.NAK, _words(0x8000_0000 | _FIRST - 5_000, _FIRST + 5_000, 0x8000_0000, 0x7FFF_FFFF))),
    _framed(_data(0), _data(100), _control(ControlType.DROP, _words(_FIRST, _FIRST + 8_000))),
    _framed(_control(ControlType.EXTENDED, bytes(72), subtype=3), _control(ControlType.KEEPALIVE, bytes(4))),
    _framed(_control(ControlType.SHUTDOWN, bytes(4)), _data(0)),
]


def _datagrams(data: bytes) -> Iterator[bytes]:
    at = 0
    for _ in range(_MOST):
        if at + 2 > len(data):
            return
        size = int.from_bytes(data[at : at + 2], "big") % 2048
        yield data[at + 2 : at + 2 + size]
        at += 2 + size


def fuzz(data: bytes) -> None:
    """Oracle: nothing is raised; no more payload than came; packets that wait and answers are bounded."""
    agreement = Agreement(1, 2, _FIRST, _FIRST, 100, 10.0, 10.0, 0, 0.12, 0.12)
    connection, now = SrtConnection(agreement, 10.0), 10.0
    connection.push([bytes(100)] * _PUSHED, now)
    came = delivered = sent = 0
    for datagram in _datagrams(data):
        now += 0.001
        came += len(datagram)
        connection.receive((datagram,), (now,))
        sent += len(connection.out)
    for _ in range(_TICKS):
        now += TICK_SECONDS
        delivered += sum(map(len, connection.due(now)))
        connection.tick(now)
        sent += len(connection.out)
        connection.out = []
    assert delivered <= came
    assert connection.received.free >= 0
    assert len(connection.received._missing) <= WINDOW
    assert 0 <= connection.statistics().loss_percent <= 100
    assert connection.sent.sent <= _PUSHED
    assert sent <= (_MOST + _TICKS) * 300
