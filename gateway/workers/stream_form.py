"""The form of media that a worker makes to continue a publisher's stream: a slate, or another input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

from gateway.lib.records import read_record
from gateway.media import codecs
from gateway.media.clock import MILLISECONDS
from gateway.media.errors import InvalidData
from gateway.media.track import AmfValue, Codec, Kind, MediaTrack, Tracks

GOP_SECONDS: Final = 2
DEFAULT_SIZE: Final = (1_280, 720)
DEFAULT_RATE: Final = Fraction(30)
DEFAULT_AUDIO: Final = MediaTrack(Kind.AUDIO, Codec.AAC, MILLISECONDS, b"\x11\x90")  # AAC LC, 48 kHz, stereo
_MAX_RATE: Final = 120
_USUAL_RATES: Final = tuple(Fraction(n * 1_000, 1_001) for n in (24, 30, 60, 120))
_USUAL_BITS_PER_PIXEL: Final = 0.08
_MIN_BITRATE: Final = 300_000
_MAX_BITRATE: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class StreamForm:
    """The form of media that continue a publisher's stream.

    video, audio: the publisher's tracks, but with times in milliseconds, as the worker makes them. If `video` is None
    but `has_video` is True, no publisher is known yet.
    size: pixels. rate: pictures per second. bitrate: maximum bits per second of the pictures.
    """

    video: MediaTrack | None
    audio: MediaTrack | None
    has_video: bool
    size: tuple[int, int]
    rate: Fraction
    bitrate: int

    @property
    def gop(self) -> int:
        """Pictures in one GOP."""
        return max(1, round(GOP_SECONDS * self.rate))

    @classmethod
    def of(cls, reference: Tracks | None) -> StreamForm:
        """Returns the form for these tracks; None: 1280x720 with 30 pictures per second, and stereo."""
        if reference is None:
            return cls(None, DEFAULT_AUDIO, True, DEFAULT_SIZE, DEFAULT_RATE, _bitrate(DEFAULT_SIZE, DEFAULT_RATE, {}))
        size, rate = _size(reference), _rate(reference)
        bitrate = _bitrate(size, rate, reference.metadata)
        video, audio = in_milliseconds(reference.video), in_milliseconds(reference.audio)
        return cls(video, audio, reference.video is not None, size, rate, bitrate)

    def to_json(self) -> dict[str, Any]:
        """Returns the members for the worker, without the tracks."""
        return {"has_video": self.has_video, "size": self.size, "rate": str(self.rate), "bitrate": self.bitrate}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], reference: Tracks) -> StreamForm:
        """Reads the members of `to_json`. Raises InvalidData."""
        try:
            form = read_record(cls, {**fields, "video": None, "audio": None})
            return replace(form, video=reference.video, audio=reference.audio)
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise InvalidData(f"invalid form of a stream: {error}") from None


def in_milliseconds(track: MediaTrack | None) -> MediaTrack | None:
    """Returns a track whose times count milliseconds."""
    return None if track is None else replace(track, timescale=MILLISECONDS)


def _size(reference: Tracks) -> tuple[int, int]:
    """Returns the size of the configuration, else of the metadata, else the default. Both sides are even."""
    size = None
    if reference.video is not None:
        try:
            size = codecs.video_size(reference.video)
        except InvalidData:
            size = None
    if size is None:
        width, height = (_number(reference.metadata, name, 2, 8_192) for name in ("width", "height"))
        size = (round(width), round(height)) if width and height else DEFAULT_SIZE
    return max(2, size[0] & ~1), max(2, size[1] & ~1)


def _rate(reference: Tracks) -> Fraction:
    """Returns the rate of the metadata, else of the configuration, else the default."""
    rate = _number(reference.metadata, "framerate", 1, _MAX_RATE)
    if rate is None and reference.video is not None:
        try:
            declared = codecs.frame_rate(reference.video)
        except InvalidData:
            declared = None
        rate = declared if declared is not None and 1 <= declared <= _MAX_RATE else None
    if rate is None:
        return DEFAULT_RATE
    nearest = min(_USUAL_RATES, key=lambda usual: abs(usual - Fraction(rate)))
    if abs(float(nearest) - rate) < 0.01:
        return nearest
    return Fraction(rate).limit_denominator(1_001)


def _bitrate(size: tuple[int, int], rate: Fraction, metadata: Mapping[str, AmfValue]) -> int:
    """Returns the publisher's bits per second if it declares them, else a usual value."""
    kilobits = _number(metadata, "videodatarate", 100, 100_000)
    bitrate = kilobits * 1_000 if kilobits else size[0] * size[1] * float(rate) * _USUAL_BITS_PER_PIXEL
    return round(min(_MAX_BITRATE, max(_MIN_BITRATE, bitrate)))


def _number(metadata: Mapping[str, AmfValue], name: str, lowest: float, highest: float) -> float | None:
    value = metadata.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and lowest <= value <= highest else None  # type: ignore[arg-type, operator]
