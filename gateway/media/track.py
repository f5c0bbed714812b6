"""A stream's media: the tracks with their decoder configuration, and the access units and timed data in order."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from gateway.media.clock import MILLISECONDS
from gateway.media.colors import NO_COLORS, Colors
from gateway.media.timed_data import Script, TimedValue

AmfValue: TypeAlias = "bool | float | str | dict[str, AmfValue] | list[AmfValue] | None"


class Kind(StrEnum):
    VIDEO = "video"
    AUDIO = "audio"


class Codec(StrEnum):
    """Codecs that Millrace supports; the value is the name shown to users."""

    H264 = "h264"
    H265 = "h265"
    AV1 = "av1"
    VP8 = "vp8"
    VP9 = "vp9"
    AAC = "aac"
    MP3 = "mp3"
    OPUS = "opus"
    FLAC = "flac"
    AC3 = "ac3"
    EAC3 = "eac3"


@dataclass(frozen=True, slots=True)
class MediaTrack:
    """One elementary stream.

    timescale: ticks a second of `AccessUnit.dts` and `.cts`.
    config: the decoder configuration in its ISO-BMFF form without box header. H.264, H.265, AV1, VP8 and VP9: avcC,
    hvcC, av1C or vpcC record. AAC: AudioSpecificConfig. Opus: OpusHead with or without its magic; dOps is derived from
    it. FLAC: metadata blocks. MP3, AC-3 and E-AC-3: empty, because each frame has its parameters.
    colors: what the publisher declares beside the pictures.
    """

    kind: Kind
    codec: Codec
    timescale: int
    config: bytes
    colors: Colors = NO_COLORS


@dataclass(frozen=True, slots=True)
class ForeignSound:
    """Sound of a codec that no track can have: a worker decodes it. codec: libav's name of the decoder. rate: Hz."""

    codec: str
    rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class Tracks:
    """The tracks of a stream. A consumer receives them before the first AccessUnit, and again after any change.

    epoch: grows if the media do not continue the previous media (the publisher returned, parameters changed). Then FLV
    sends new sequence headers, HLS a discontinuity, and a recorder starts a new file.
    metadata: the publisher's onMetaData, unchanged.
    """

    video: MediaTrack | None
    audio: MediaTrack | None
    epoch: int = 0
    metadata: dict[str, AmfValue] = field(default_factory=dict)

    def __iter__(self) -> Iterator[MediaTrack]:
        return (t for t in (self.video, self.audio) if t is not None)


def have_same_media(one: Tracks | None, other: Tracks | None) -> bool:
    """Whether decoders can go on with the other tracks. Times may count otherwise, and metadata may differ."""
    if one is None or other is None:
        return one is other
    return [(t.kind, t.codec, t.config) for t in one] == [(t.kind, t.codec, t.config) for t in other]


def in_ticks(time: int, timescale: int, other: int) -> int:
    """Returns a time of `timescale` ticks a second in `other` ticks a second, rounded to the nearest."""
    return (2 * time * other + timescale) // (2 * timescale)


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

    def counted(self, timescale: int) -> "AccessUnit":
        """Returns it with its track and its times in other ticks a second."""
        before = self.track.timescale
        if timescale == before:
            return self
        dts, shown = (in_ticks(time, before, timescale) for time in (self.dts, self.dts + self.cts))
        return replace(self, track=replace(self.track, timescale=timescale), dts=dts, cts=shown - dts)


@dataclass(slots=True)
class MadeSilence(AccessUnit):
    """A silent frame that the gateway made while the encoder's sound pauses."""


@dataclass(frozen=True, slots=True)
class TimedData:
    """A value with the time at which players get it, on the stream's clock.

    timescale: ticks a second of `dts` and of the value's times: those of the source.
    """

    dts: int
    value: TimedValue
    timescale: int = MILLISECONDS

    @property
    def kind(self) -> str:
        """The name of script data, or the type of a value."""
        return self.value.name if isinstance(self.value, Script) else type(self.value).__name__

    def moved(self, by: int) -> "TimedData":
        """Returns it with all its times later by some ticks."""
        return TimedData(self.dts + by, self.value.timed(lambda t: t + by), self.timescale) if by else self

    def counted(self, timescale: int) -> "TimedData":
        """Returns it with all its times in other ticks a second."""
        before = self.timescale
        if timescale == before:
            return self
        value = self.value.timed(lambda time: in_ticks(time, before, timescale))
        return TimedData(in_ticks(self.dts, before, timescale), value, timescale)
