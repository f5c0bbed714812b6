"""Lanes: the tracks of a recording that arrives in pieces, and their samples."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from gateway.media.track import Codec, Kind


class Foreign(StrEnum):
    """Audio codings that a recording may have and a stream may not."""

    VORBIS = "vorbis"
    PCM_S16 = "pcm_s16le"
    PCM_S24 = "pcm_s24le"
    PCM_S32 = "pcm_s32le"
    PCM_F32 = "pcm_f32le"
    PCM_F64 = "pcm_f64le"


@dataclass(frozen=True, slots=True)
class Lane:
    """One track of a recording.

    timescale: ticks a second of its times.
    config: as in `MediaTrack`, empty if the container has none; for Vorbis its three headers, laced.
    ordered: times are decode times; False: presentation times, as in Matroska.
    rate, channels: for PCM and Vorbis.
    """

    kind: Kind
    coding: Codec | Foreign
    timescale: int
    config: bytes
    ordered: bool = True
    rate: int = 0
    channels: int = 0


@dataclass(frozen=True, slots=True)
class RecordingOpened:
    """A recording begins.

    video, audio: the first usable track of each kind.
    left_out: descriptions of the tracks that cannot be used.
    """

    video: Lane | None
    audio: Lane | None
    left_out: tuple[str, ...] = ()


@dataclass(slots=True)
class Packet:
    """One sample as in the container.

    time: ticks of the lane, decode time if `lane.ordered`, else presentation time.
    cts: presentation time minus decode time.
    key: decoding may start here, according to the container.
    """

    lane: Lane
    time: int
    cts: int
    key: bool
    payload: bytes


Event: TypeAlias = RecordingOpened | Packet


def opened(lanes: list[Lane], left_out: list[str]) -> RecordingOpened:
    """Returns the first lane of each kind. Others are ignored: a stream has one video and one audio track."""
    video = next((lane for lane in lanes if lane.kind is Kind.VIDEO), None)
    audio = next((lane for lane in lanes if lane.kind is Kind.AUDIO), None)
    return RecordingOpened(video, audio, tuple(left_out))
