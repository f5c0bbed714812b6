"""Sends the sound of one stream to its WebRTC viewers: Opus, one or two units in each packet (RFC 7587)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.live.sink import EndReason
from gateway.media import opus
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind, TimedData, Tracks
from gateway.packaging.rtp.clock import AUDIO_RATE, AUDIO_SSRC, timestamp
from gateway.packaging.rtp.viewer import RtpViewer, first_shift
from gateway.protocols.rtp.packetizers.packetizer import MAX_PAYLOAD
from gateway.protocols.rtp.rtcp import SenderReport, ntp_time
from gateway.protocols.rtp.sender import rtp_packet

# From this number of viewers on, two units share a packet. This halves the CPU for sound, and delays it by one unit.
JOINED_FROM: Final = 32
_LONGEST_WAIT: Final = 0.06  # seconds for the next unit; after a gap, the waiting unit would be late
_LONGEST: Final = 960  # ticks, 20 ms: longer units do not wait for the next one
_LONGEST_PACKET: Final = 5760  # ticks, 120 ms (RFC 7587 §4.2); a larger step between two timestamps is a gap
_ROUNDING_TICKS: Final = 96  # 2 ms: times of a publisher may be rounded to milliseconds


class SoundFeed:
    """A sink of Opus units. source(sink) attaches it and returns the function that detaches it.

    count: counts sent bytes.
    """

    def __init__(self, source: Callable[[SoundFeed], Callable[[], None]], count: Callable[[int], None]) -> None:
        self._source = source
        self._count = count
        self._groups: dict[tuple[int, int], dict[RtpViewer, None]] = {}  # by payload type and shift
        self._sequence = 0  # sequence number of the next packet
        self._packets = self._octets = 0
        self._detach: Callable[[], None] | None = None
        self._stamp = 0  # timestamp of the last packet
        self._waiting: AccessUnit | None = None  # waits for the next unit, which shares its packet
        self._timer: asyncio.TimerHandle | None = None  # sends the waiting unit alone

    def join(self, viewer: RtpViewer) -> None:
        viewer.sound_shift = first_shift(self._sequence)
        self._groups.setdefault((viewer.types.audio, viewer.sound_shift), {})[viewer] = None
        if self._detach is None:
            self._detach = self._source(self)

    def leave(self, viewer: RtpViewer) -> None:
        """Removes a viewer. Idempotent."""
        key = (viewer.types.audio, viewer.sound_shift)
        members = self._groups.get(key, {})
        if members.pop(viewer, self) is None and not members:
            del self._groups[key]
        if not self._groups and self._detach is not None:
            detach, self._detach = self._detach, None
            self._take_waiting()
            detach()

    def report(self, wall: float, stamp: int) -> SenderReport:
        """Returns a sender report. stamp: the RTP timestamp of the moment `wall`, seconds since 1970."""
        return SenderReport(AUDIO_SSRC, ntp_time(wall), stamp, self._packets & 0xFFFFFFFF, self._octets & 0xFFFFFFFF)

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        """Drops the waiting unit. Tracks come at each start of the worker that encodes Opus."""
        self._take_waiting()

    def on_unit(self, unit: AccessUnit) -> None:
        if unit.track.kind is not Kind.AUDIO:
            return
        first = self._take_waiting()
        if first is not None:
            packet = _shared_packet(first, unit)
            if packet is not None:
                self._send(packet, timestamp(first, AUDIO_RATE))
                return
            self._send(first.payload, timestamp(first, AUDIO_RATE))
        elif sum(map(len, self._groups.values())) >= JOINED_FROM and 0 < _samples(unit) <= _LONGEST:
            self._waiting = unit
            self._timer = asyncio.get_running_loop().call_later(_LONGEST_WAIT, self._send_waiting)
            return
        self._send(unit.payload, timestamp(unit, AUDIO_RATE))

    def _take_waiting(self) -> AccessUnit | None:
        unit, self._waiting = self._waiting, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return unit

    def _send_waiting(self) -> None:
        """Sends the waiting unit alone, because no other one follows it."""
        unit = self._take_waiting()
        if unit is not None:
            self._send(unit.payload, timestamp(unit, AUDIO_RATE))

    def _send(self, payload: bytes, stamp: int) -> None:
        sequence = self._sequence
        # RFC 3551 §4.1: the marker is set in the first packet after a gap.
        marker = not 0 < (stamp - self._stamp) & 0xFFFFFFFF <= _LONGEST_PACKET
        self._stamp = stamp
        self._sequence = (sequence + 1) & 0xFFFF
        self._packets += 1
        self._octets += len(payload)
        for (type, shift), members in list(self._groups.items()):
            number = (sequence + shift) & 0xFFFF
            packets = (rtp_packet(type, marker, number, stamp, AUDIO_SSRC, payload),)
            for viewer in tuple(members):
                viewer.sender.send(packets)
            self._count(len(packets[0]) * len(members))

    def on_timed(self, timed: TimedData) -> None:
        """Does nothing, because WebRTC has no script data."""

    def on_end(self, reason: EndReason) -> None:
        """Does nothing, because the video feed or the session ends the viewers."""

    def on_failed(self, error: Exception) -> None:
        asyncio.get_running_loop().call_exception_handler({"message": "a sound feed failed", "exception": error})


def _samples(unit: AccessUnit) -> int:
    """Returns the ticks of a unit; 0 if it is no valid packet."""
    try:
        return opus.packet_samples(unit.payload)
    except InvalidData:
        return 0


def _shared_packet(first: AccessUnit, second: AccessUnit) -> bytes | None:
    """Returns the packet of two units; None if they do not follow each other, or one packet is not enough for them."""
    ticks = (timestamp(second, AUDIO_RATE) - timestamp(first, AUDIO_RATE)) & 0xFFFFFFFF
    if abs(ticks - _samples(first)) > _ROUNDING_TICKS:
        return None
    packet = opus.joined(first.payload, second.payload)
    return packet if packet is not None and len(packet) <= MAX_PAYLOAD else None
