"""The pictures since the last key frame, for a new viewer.

Viewers share the payloads. The packets are made when they are sent.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TypeAlias

from gateway.packaging.rtp.clock import VIDEO_SSRC
from gateway.protocols.rtp.sender import group_runs, rtp_packet

# RTP packets that one call sends: all have the same length, except that the last one may be shorter.
Run: TypeAlias = tuple[bytes, ...]


class RtpBurst:
    """Pictures that a viewer gets when it joins.

    frames: timestamp and payloads of each picture. first: sequence number of the first packet.
    """

    __slots__ = ("_first", "_frames", "_starts", "_type")

    def __init__(self, frames: Sequence[tuple[int, list[bytes]]], payload_type: int, first: int) -> None:
        self._frames = frames
        self._type = payload_type
        self._first = first
        self._starts = [0, *accumulate(len(payloads) for _, payloads in frames)]

    def make_runs(self) -> Iterator[Run]:
        """Makes the runs of packets that are sent with one call each, in order."""
        for start, (stamp, payloads) in zip(self._starts, self._frames, strict=False):
            yield from group_runs(packets_of(payloads, self._type, self._first + start, stamp))

    def make_packet(self, sequence: int) -> bytes | None:
        """Returns the packet of this number; None if it is not one of the burst."""
        index = (sequence - self._first) & 0xFFFF
        if index >= self._starts[-1]:
            return None
        at = bisect_right(self._starts, index) - 1
        stamp, payloads = self._frames[at]
        number = index - self._starts[at]
        marker = number == len(payloads) - 1
        return rtp_packet(self._type, marker, sequence, stamp, VIDEO_SSRC, payloads[number])


def packets_of(payloads: Sequence[bytes], payload_type: int, first: int, stamp: int) -> list[bytes]:
    """Returns the packets of one picture. first: sequence number, modulo 65,536. Hot path."""
    last = len(payloads) - 1
    return [
        rtp_packet(payload_type, index == last, (first + index) & 0xFFFF, stamp, VIDEO_SSRC, payload)
        for index, payload in enumerate(payloads)
    ]
