"""RTP packets (RFC 3550): header, order, times; and the sender reports that relate the times of two tracks."""

import struct
from dataclasses import dataclass
from typing import Final

from gateway.media.clock import VIDEO_CLOCK

_SENDER_REPORT: Final = 200  # the packet type
_MAX_HELD: Final = 32
_HALF: Final = 1 << 31
_MAX_OFF: Final = 10 * VIDEO_CLOCK
# By how much the timestamps of two reports may differ from their clocks: the time to encode a frame, and drift.
_INACCURATE: Final = VIDEO_CLOCK // 10
_INACCURACY: Final = 0.1  # of the time between the reports
_HEADER: Final = struct.Struct(">BBHI")
_REPORT: Final = struct.Struct(">III")


@dataclass(slots=True)
class RtpPacket:
    """An RTP packet (RFC 3550 §5.1).

    payload_type, marker, sequence, timestamp: of the header. Do not modify the object. (`frozen` would be slower.)
    """

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    payload: bytes


def parse_packet(data: bytes, *, empty: bool = False) -> RtpPacket | None:
    """Reads a packet. Returns None if the data is no RTP packet, or has no payload. Hot path.

    empty: whether packets without payload are returned, too. Browsers probe the network with packets of padding, and
    others send empty ones as signs of life. They have sequence numbers of their stream.
    """
    size = len(data)
    if size < 12:
        return None
    first, second, sequence, timestamp = _HEADER.unpack_from(data)
    if first >> 6 != 2:
        return None
    begin = 12 + 4 * (first & 15)
    if first & 0x10:  # a header extension
        if size < begin + 4:
            return None
        begin += 4 + 4 * (data[begin + 2] << 8 | data[begin + 3])
    end = size - data[-1] if first & 0x20 else size  # padding
    if begin >= end and not (empty and begin == end):
        return None
    return RtpPacket(second & 0x7F, second > 0x7F, sequence, timestamp, data[begin:end])


def header_extension(data: bytes, identifier: int) -> bytes | None:
    """Returns the data of one extension of an RTP packet; None if the packet lacks it. Hot path.

    identifier: of the extension, as negotiated. Reads the one-byte and the two-byte form (RFC 8285 §4.2, §4.3).
    """
    size = len(data)
    at = 12 + 4 * (data[0] & 15) if size else 0
    if size < at + 4 or not data[0] & 0x10:
        return None
    profile = data[at] << 8 | data[at + 1]
    end = at + 4 + 4 * (data[at + 2] << 8 | data[at + 3])
    at += 4
    if end > size or (profile != 0xBEDE and profile >> 4 != 0x100):
        return None
    long = profile != 0xBEDE
    while at < end:
        first = data[at]
        at += 1
        if not first:
            continue  # padding
        if long:
            if at >= end:
                return None
            found, length = first, data[at]
            at += 1
        else:
            found, length = first >> 4, (first & 15) + 1
            if found in (0, 15):
                return None  # reserved: the rest of the extensions must be ignored
        if found == identifier:
            return data[at : at + length] if at + length <= end else None
        at += length
    return None


def parse_sender_report(data: bytes) -> tuple[float, int] | None:
    """Returns wall clock (NTP seconds) and RTP timestamp of the first sender report of an RTCP packet."""
    at = 0
    while len(data) - at >= 8:
        size = 4 + 4 * (data[at + 2] << 8 | data[at + 3])
        if data[at] >> 6 != 2:
            return None
        if data[at + 1] == _SENDER_REPORT and len(data) - at >= 20:
            seconds, fraction, timestamp = _REPORT.unpack_from(data, at + 8)
            return (seconds + fraction / (1 << 32), timestamp) if seconds else None
        at += size
    return None


class PacketOrder:
    """Restores the order of packets that came over UDP. Waits for a missing packet until 32 later ones have come."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._held: dict[int, RtpPacket] = {}

    def push(self, packet: RtpPacket) -> list[RtpPacket]:
        """Returns the packets that are in order now. Late and repeated packets are dropped."""
        if self._next is None:
            self._next = packet.sequence
        ahead = (packet.sequence - self._next) & 0xFFFF
        if ahead >= 0x8000:
            if ahead < 0x10000 - 1_000:  # the sender began with new numbers
                self._next, self._held = packet.sequence, {}
            else:
                return []
        self._held[packet.sequence] = packet
        if packet.sequence != self._next and len(self._held) > _MAX_HELD:
            self._next = min(self._held, key=lambda number: (number - (self._next or 0)) & 0xFFFF)
        ready: list[RtpPacket] = []
        while (following := self._held.pop(self._next, None)) is not None:
            ready.append(following)
            self._next = (self._next + 1) & 0xFFFF
        return ready


class RtpClock:
    """The times of one track in ticks of 90 kHz, on a clock that all tracks of a session share.

    Times of pictures are exact, and those of sound are rounded to ticks.
    rate: ticks a second of the timestamps. Without other information, the first packet has the time of its arrival.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._last: int | None = None  # the last timestamp
        self._extended = 0  # the last timestamp without wraps
        self._begun = False  # a packet has come; before that, `anchor` may have announced a time
        self._base: tuple[int, int] | None = None  # an extended timestamp, and its time

    def stamp(self, timestamp: int, arrival: float) -> int:
        """Returns the time of a packet. arrival: the time on the shared clock."""
        extended = self._extend(timestamp)
        if self._base is None or (not self._begun and abs(self._time(extended) - arrival) > _MAX_OFF):
            self._base = (extended, round(arrival))  # no anchor, or a wrong one: some cameras announce times at random
        self._begun = True
        return self._time(extended)

    def time_of(self, timestamp: int) -> int | None:
        """Returns the time of a timestamp near the last one; None before the first packet."""
        if self._base is None or self._last is None:
            return None
        return self._time(self._extended + _distance(timestamp, self._last))

    def agrees(self, first: int, second: int, passed: float) -> bool:
        """Whether timestamps of two sender reports advanced as their NTP times did. passed: the ticks between these."""
        advanced = _distance(second, first) * VIDEO_CLOCK / self._rate
        return abs(advanced - passed) <= _INACCURATE + _INACCURACY * abs(passed)

    def anchor(self, timestamp: int, time: float) -> None:
        """Sets the time of `timestamp`. All later times follow from it."""
        if self._last is None:
            self._last = timestamp
        self._base = (self._extended + _distance(timestamp, self._last), round(time))

    def _time(self, extended: int) -> int:
        assert self._base is not None, "the callers set it"
        first, time = self._base
        return time + (2 * (extended - first) * VIDEO_CLOCK + self._rate) // (2 * self._rate)

    def _extend(self, timestamp: int) -> int:
        if self._last is not None:
            self._extended += _distance(timestamp, self._last)
        self._last = timestamp
        return self._extended


def _distance(timestamp: int, reference: int) -> int:
    return ((timestamp - reference + _HALF) & 0xFFFFFFFF) - _HALF
