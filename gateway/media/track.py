"""Tracks: what a stream carries and how to decode it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

AmfValue: TypeAlias = "bool | float | str | dict[str, AmfValue] | list[AmfValue] | None"


class Kind(StrEnum):
    VIDEO = "video"
    AUDIO = "audio"


class Codec(StrEnum):
    """Codecs that Millrace carries; the value is the name shown to people."""

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
class Track:
    """One elementary stream.

    config: the DecoderConfig in its ISO-BMFF form without the box header: avcC, hvcC, av1C or vpcC record,
    AudioSpecificConfig (AAC), OpusHead without its magic's box (dOps payload is derived), empty for MP3.
    timescale: ticks a second of `AccessUnit.dts` and `.cts`.
    """

    kind: Kind
    codec: Codec
    timescale: int
    config: bytes


@dataclass(frozen=True, slots=True)
class Tracks:
    """All that a consumer must know before the next AccessUnit; sent first, and again on any change.

    epoch grows when what follows does not continue what went before (publisher came back, parameters changed):
    FLV sends new sequence headers, HLS a discontinuity, a recorder starts a new file.
    metadata: the publisher's onMetaData, as it came.
    """

    video: Track | None
    audio: Track | None
    epoch: int = 0
    metadata: dict[str, AmfValue] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Track]:
        return (t for t in (self.video, self.audio) if t is not None)
