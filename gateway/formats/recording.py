"""The tracks and samples of a recording that arrives in pieces."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from gateway.media.track import Codec, Kind


class ForeignCodec(StrEnum):
    """Audio codecs that a recording may have, but a stream cannot have."""

    VORBIS = "vorbis"
    PCM_S16 = "pcm_s16le"
    PCM_S24 = "pcm_s24le"
    PCM_S32 = "pcm_s32le"
    PCM_F32 = "pcm_f32le"
    PCM_F64 = "pcm_f64le"


@dataclass(frozen=True, slots=True)
class RecordedTrack:
    """One track of a recording.

    timescale: ticks a second of its times.
    config: see `MediaTrack`; empty if the container has none. Vorbis: its three headers, laced.
    has_decode_times: whether its times are decode times; False: presentation times, as in Matroska.
    rate, channels: only for PCM and Vorbis.
    """

    kind: Kind
    coding: Codec | ForeignCodec
    timescale: int
    config: bytes
    has_decode_times: bool = True
    rate: int = 0
    channels: int = 0


@dataclass(frozen=True, slots=True)
class RecordingOpened:
    """The start of a recording.

    video, audio: the first usable track of each kind.
    left_out: descriptions of the unusable tracks.
    """

    video: RecordedTrack | None
    audio: RecordedTrack | None
    left_out: tuple[str, ...] = ()


@dataclass(slots=True)
class Packet:
    """One sample of the container.

    time: in ticks of the track; decode time if `track.has_decode_times`, otherwise presentation time.
    cts: presentation time minus decode time.
    key: whether decoding may start here, according to the container.
    """

    track: RecordedTrack
    time: int
    cts: int
    key: bool
    payload: bytes


Event: TypeAlias = RecordingOpened | Packet


def opened(tracks: list[RecordedTrack], left_out: list[str]) -> RecordingOpened:
    """Returns the first track of each kind. A stream has one video and one audio track, so others are ignored."""
    video = next((track for track in tracks if track.kind is Kind.VIDEO), None)
    audio = next((track for track in tracks if track.kind is Kind.AUDIO), None)
    return RecordingOpened(video, audio, tuple(left_out))
