"""The items of a stream: access units and timed script data."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.media.track import MediaTrack


@dataclass(slots=True)
class AccessUnit:
    """One coded picture or audio frame, in decode order. Treated as immutable (frozen would cost 4x at creation).

    payload: one sample in its codec's ISO-BMFF form (length-prefixed NAL units, AV1 temporal unit, raw audio frame).
    dts, cts: ticks of track.timescale; presentation time is dts + cts; cts may be negative.
    key: decoding can start here (every audio frame is a key).
    wall: seconds since the epoch when it arrived.
    """

    track: MediaTrack
    dts: int
    cts: int
    key: bool
    wall: float
    payload: bytes


@dataclass(slots=True)
class Timed:
    """Script data at a time (onTextData, onCuePoint …).

    dts: milliseconds; amf: the AMF0 encoding of the values after the name.
    """

    dts: int
    name: str
    amf: bytes
