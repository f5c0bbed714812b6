"""RTP timestamps and synchronisation sources (SSRC) of this process.

They are the same for all streams, so that a viewer can change to another stream.
"""

import secrets
import time
from typing import Final

from gateway.live.stream import Stream
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.track import AccessUnit

AUDIO_RATE: Final = 48_000
# RFC 3550 §5.1: random. One value serves all viewers, because each of them has an RTP session of its own.
VIDEO_SSRC: Final = secrets.randbits(31) | 1 << 31
VIDEO_RTX_SSRC: Final = VIDEO_SSRC ^ 1
AUDIO_SSRC: Final = VIDEO_SSRC ^ 2
_OFFSET: Final = {VIDEO_CLOCK: secrets.randbits(32), AUDIO_RATE: secrets.randbits(32)}


def timestamp(unit: AccessUnit, rate: int) -> int:
    """Returns the RTP timestamp of a unit's presentation time. rate: ticks a second."""
    return ((unit.dts + unit.cts) * rate // unit.track.timescale + offset_of(rate)) & 0xFFFFFFFF


def offset_of(rate: int) -> int:
    """Returns what is added to a time in ticks of `rate` (RFC 3550 §5.1: the first timestamp is random)."""
    return _OFFSET.get(rate, _OFFSET[AUDIO_RATE])


def report_times(source: Stream) -> tuple[float, dict[int, int]]:
    """Returns the wall clock (seconds since 1970) and the RTP timestamps of this moment, by rate.

    source: the pushed stream. The reports of all tracks use its times. A rendition arrives later. If its reports used
    the time of arrival, a viewer would show it later than the sound.
    """
    received = source.received
    milliseconds = received.last_dts_ms + (time.monotonic() - received.last_push) * 1000
    stamps = {rate: (round(milliseconds * rate / 1000) + offset) & 0xFFFFFFFF for rate, offset in _OFFSET.items()}
    return time.time(), stamps
