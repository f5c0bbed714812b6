"""The items of a stream: access units and timed script data."""

from dataclasses import dataclass

from gateway.media.track import MediaTrack


@dataclass(slots=True)
class AccessUnit:
    """One coded picture or audio frame, in decode order. Do not modify it. (`frozen` would be 4 times slower.)

    dts, cts: ticks of track.timescale. The presentation time is dts + cts; cts may be negative.
    key: whether decoding can start here; true for every audio frame.
    wall: arrival time, seconds since 1970.
    payload: one sample in its codec's ISO-BMFF form (length-prefixed NAL units, AV1 temporal unit, raw audio frame).
    """

    track: MediaTrack
    dts: int
    cts: int
    key: bool
    wall: float
    payload: bytes


@dataclass(slots=True)
class Timed:
    """Script data with a timestamp (onTextData, onCuePoint …).

    dts: milliseconds.
    amf: the AMF0 encoding of the values after the name.
    """

    dts: int
    name: str
    amf: bytes
