"""Writes event messages: timed metadata and ad cues beside the fragments of a CMAF track."""

import zlib
from dataclasses import dataclass
from typing import Final

from gateway.formats.mp4.box import full_box
from gateway.media.clock import MILLISECONDS, VIDEO_CLOCK

ID3_SCHEME: Final = "https://aomedia.org/emsg/ID3"
SCTE35_SCHEME: Final = "urn:scte:scte35:2013:bin"  # ANSI/SCTE 214-3
_UNKNOWN: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class EventMessage:
    """An event. at: ticks of 90 kHz on the stream's clock. seconds: its duration; None: unknown.

    data: an ID3 tag, or a `splice_info_section`.
    """

    scheme: str
    at: int
    seconds: float | None
    data: bytes


def emsg(event: EventMessage, time: int, clock: int) -> bytes:
    """Returns an `emsg` box, version 1 (ISO/IEC 23009-1 §5.10.3.3).

    time: on the movie timeline of the track, ticks of `clock` a second; not negative. The id is equal for equal
    events, so renditions have the same ids.
    """
    length = _UNKNOWN if event.seconds is None else min(round(event.seconds * clock), _UNKNOWN - 1)
    identity = zlib.crc32((event.at * MILLISECONDS // VIDEO_CLOCK).to_bytes(8, "big", signed=True) + event.data)
    fields = (
        clock.to_bytes(4, "big") + time.to_bytes(8, "big") + length.to_bytes(4, "big") + identity.to_bytes(4, "big")
    )
    return full_box(b"emsg", 1, 0, fields, event.scheme.encode() + b"\0", b"\0", event.data)


def ticks(event: EventMessage, clock: int) -> int:
    """Returns the time of an event in ticks of `clock` a second, on the stream's clock."""
    return event.at * clock // VIDEO_CLOCK
