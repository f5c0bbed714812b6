"""Lanes: the tracks of a recording that arrives in pieces, and the samples that come on them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from gateway.media.track import Codec, Kind


class Foreign(StrEnum):
    """Codings of sound that a recording may hold and a stream may not."""

    VORBIS = "vorbis"
    PCM_S16 = "pcm_s16le"
    PCM_S24 = "pcm_s24le"
    PCM_S32 = "pcm_s32le"
    PCM_F32 = "pcm_f32le"
    PCM_F64 = "pcm_f64le"


@dataclass(frozen=True, slots=True)
class Lane:
    """One track of a recording.

    timescale: ticks a second of its samples' times. config: as of media.Track, empty where the container has none; of
    Vorbis its three headers, laced. ordered: the times are decode times; else they are presentation times, as Matroska
    has them. rate, channels: of PCM and Vorbis.
    """

    kind: Kind
    coding: Codec | Foreign
    timescale: int
    config: bytes
    ordered: bool = True
    rate: int = 0
    channels: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """A recording begins: its first picture and first sound that can be used; what cannot be, in words."""

    video: Lane | None
    audio: Lane | None
    left_out: tuple[str, ...] = ()


@dataclass(slots=True)
class Packet:
    """One sample as the container has it.

    time: ticks of the lane, of decoding or (`lane.ordered`) of presentation; cts: presentation less decode time.
    key: the container says that decoding may start here.
    """

    lane: Lane
    time: int
    cts: int
    key: bool
    payload: bytes


Event: TypeAlias = Opened | Packet


def opened(lanes: list[Lane], left_out: list[str]) -> Opened:
    """The first lane of each kind; the others are ignored, as a stream has one picture and one sound."""
    video = next((lane for lane in lanes if lane.kind is Kind.VIDEO), None)
    audio = next((lane for lane in lanes if lane.kind is Kind.AUDIO), None)
    return Opened(video, audio, tuple(left_out))
