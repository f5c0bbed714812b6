"""TransportFeedback: tells a sender when its packets arrived, so that it can find the rate that the network carries.

Source: draft-holmer-rmcat-transport-wide-cc-extensions-01, §3. Both sides negotiate the header extension "…-01".
"""

import struct
from itertools import takewhile
from typing import Final

_TICKS: Final = 4_000  # a second: deltas are multiples of 250 µs
_REFERENCE_TICKS: Final = 256  # the reference time is a multiple of 64 ms
_KEPT: Final = 4_096  # packets
_KEPT_TICKS: Final = _TICKS // 2  # overtaken packets are reported again with later ones
_MAX_JUMP: Final = 8_192  # numbers; after a larger jump, the numbers begin anew
_MAX_RECEIVED: Final = 400  # packets in one feedback, so that it fits a datagram

_NOT_RECEIVED, _SMALL, _LARGE = 0, 1, 2  # §3.1.1
_MAX_RUN: Final = 0x1FFF  # §3.1.3
_HEADER: Final = struct.Struct(">BBHIIHHI")


class TransportFeedback:
    """Remembers at most 4,096 packets of all tracks of a transport, and writes feedback on them.

    A packet that was reported lost and comes within 0.5 s is reported again, with the packets after it.
    """

    __slots__ = ("_arrivals", "_begin", "_count", "_forgotten", "_highest")

    def __init__(self) -> None:
        self._arrivals: dict[int, int] = {}  # ticks by extended number, in order of arrival
        self._begin = 0  # the first number of the next feedback
        self._highest = self._forgotten = -1  # the highest number that has come, and that was forgotten; -1: none
        self._count = 0  # of the written RTCP packets, modulo 256

    def received(self, sequence: int, now: float) -> None:
        """Takes the number of a packet, from its header extension. now: monotonic seconds. Hot path."""
        highest = self._highest
        ahead = (sequence - highest) & 0xFFFF
        if highest < 0 or _MAX_JUMP < ahead <= 0x10000 - _MAX_JUMP:
            self._arrivals.clear()
            number = self._begin = self._highest = (highest | 0xFFFF) + 1 + 0x10000 + sequence
        elif 0 < ahead <= _MAX_JUMP:
            number = self._highest = highest + ahead
        else:
            number = highest - (-ahead & 0xFFFF)
            if number in self._arrivals or number <= self._forgotten:
                return  # repeated, or too old: the packets after it are forgotten
            self._begin = min(self._begin, number)
        self._arrivals[number] = int(now * _TICKS)
        if len(self._arrivals) > _KEPT:
            self._forget(next(iter(self._arrivals)))

    def write(self, sender: int, media: int, now: float) -> list[bytes]:
        """Returns RTCP packets on all packets since the last call; empty if none came.

        sender: our SSRC. media: one SSRC of the peer. Each packet may end with padding, so in a compound it has to be
        the last (RFC 3550 §6.4.1).
        """
        begin, end = self._begin, self._highest + 1
        if begin >= end:
            return []
        arrivals = self._arrivals
        numbers = sorted([number for number in arrivals if number >= begin])
        packets: list[bytes] = []
        if numbers and numbers[0] - begin > _MAX_JUMP:
            begin = numbers[0]  # too many packets came since the last call
        while numbers:
            statuses: list[tuple[int, int]] = []  # runs of equal ones: (status, count)
            deltas: list[int] = []
            reference = arrivals[numbers[0]] // _REFERENCE_TICKS
            last = reference * _REFERENCE_TICKS
            at = begin
            for number in numbers[:_MAX_RECEIVED]:
                delta = arrivals[number] - last
                if not -0x8000 <= delta <= 0x7FFF or number - begin > 0x7FFF:
                    break  # the rest needs another reference time, or another count
                last += delta
                if number > at:
                    statuses.append((_NOT_RECEIVED, number - at))
                status = _SMALL if 0 <= delta <= 0xFF else _LARGE
                if statuses and statuses[-1][0] == status:
                    statuses[-1] = (status, statuses[-1][1] + 1)
                else:
                    statuses.append((status, 1))
                deltas.append(delta)
                at = number + 1
            packets.append(self._packet((sender, media), begin, statuses, deltas, reference))
            begin = at
            numbers = numbers[len(deltas) :]
        self._begin = end
        oldest = int(now * _TICKS) - _KEPT_TICKS
        for number in list(takewhile(lambda number: arrivals[number] < oldest, arrivals)):
            self._forget(number)
        return packets

    def _forget(self, number: int) -> None:
        del self._arrivals[number]
        self._forgotten = max(self._forgotten, number)

    def _packet(
        self, ssrcs: tuple[int, int], begin: int, statuses: list[tuple[int, int]], deltas: list[int], reference: int
    ) -> bytes:
        body = bytearray()
        for chunk in _chunks(statuses):
            body += chunk.to_bytes(2, "big")
        for delta in deltas:
            if 0 <= delta <= 0xFF:
                body.append(delta)
            else:
                body += delta.to_bytes(2, "big", signed=True)
        padding = -len(body) % 4
        if padding:
            body += bytes(padding - 1) + bytes((padding,))
        words = (_HEADER.size + len(body)) // 4 - 1
        count = sum(count for _, count in statuses)
        last = (reference & 0xFFFFFF) << 8 | self._count
        self._count = (self._count + 1) & 0xFF
        # Version 2, padding, format 15; packet type 205.
        head = _HEADER.pack(0x8F | (0x20 if padding else 0), 205, words, *ssrcs, begin & 0xFFFF, count, last)
        return head + body


def _chunks(statuses: list[tuple[int, int]]) -> list[int]:
    """Returns packet chunks for runs of equal statuses: a run length where it covers more than a vector (§3.1.2)."""
    chunks: list[int] = []
    runs = [[status, count] for status, count in reversed(statuses)]
    while runs:
        status, count = runs[-1]
        if count >= (7 if status == _LARGE else 14) or len(runs) == 1:
            taken = min(count, _MAX_RUN)
            chunks.append(status << 13 | taken)
            _take(runs, taken)
            continue
        symbols = _take(runs, 14)
        if _LARGE not in symbols:  # §3.1.4: 14 symbols of one bit
            chunk = 0x8000 | sum(symbol << 13 - n for n, symbol in enumerate(symbols))
        else:  # 7 symbols of two bits
            runs += [[symbol, 1] for symbol in reversed(symbols[7:])]
            chunk = 0xC000 | sum(symbol << 12 - 2 * n for n, symbol in enumerate(symbols[:7]))
        chunks.append(chunk)
    return chunks


def _take(runs: list[list[int]], most: int) -> list[int]:
    """Removes and returns the first `most` symbols, or all if there are fewer."""
    taken: list[int] = []
    while runs and most:
        status, count = runs[-1]
        here = min(count, most)
        taken += [status] * here
        most -= here
        if here == count:
            runs.pop()
        else:
            runs[-1][1] -= here
    return taken
