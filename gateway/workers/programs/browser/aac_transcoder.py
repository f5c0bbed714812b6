"""Converts the audio of a recording to AAC. AAC frames are copied; other audio is decoded and encoded."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Final

import av
from av.audio.codeccontext import AudioCodecContext

from gateway.formats.lanes import Foreign, Lane
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.media.unit import AccessUnit
from gateway.workers.programs.audio_codec import AudioDecoder, AudioEncoder, AudioSamples, Resampling, channels_of
from gateway.workers.programs.codec import CodecFailed

_BITS: Final = {1: 96_000, 2: 128_000}


class AacTranscoder:
    """Converts the samples of one lane to AAC units, with the lane's times and timescale. Raises CodecFailed.

    track: of the output. copied: True if the recording's own AAC frames are used.
    """

    def __init__(self, lane: Lane) -> None:
        self.copied = lane.coding is Codec.AAC
        self._decoder: AudioDecoder | _ForeignDecoder | None = None
        self._encoder: AudioEncoder | None = None
        if isinstance(lane.coding, Foreign):
            channels = min(2, lane.channels)
            self._decoder = _ForeignDecoder(lane, channels)
        else:
            self.track = MediaTrack(Kind.AUDIO, lane.coding, lane.timescale, lane.config)
            if self.copied:
                return
            channels = channels_of(self.track)
            self._decoder = AudioDecoder(self.track, channels)
        self._encoder = AudioEncoder(_BITS[channels], channels, lane.timescale)
        self.track = self._encoder.track

    @property
    def damaged(self) -> int:
        """Number of samples that could not be decoded."""
        return 0 if self._decoder is None else self._decoder.damaged

    def take(self, dts: int, wall: float, payload: bytes) -> list[AccessUnit]:
        """Returns the units that this sample completes. dts: in the lane's timescale. wall: time of arrival."""
        unit = AccessUnit(self.track, dts, 0, True, wall, payload)
        if self._decoder is None or self._encoder is None:
            return [unit]
        return [coded for sound in self._decoder.decode(unit) for coded in self._encoder.encode(sound)]

    def flush(self) -> list[AccessUnit]:
        """Returns the last units. `take` cannot be called afterwards."""
        return [] if self._encoder is None else self._encoder.flush()


class _ForeignDecoder:
    """Like AudioDecoder, for codecs that a stream's track cannot have."""

    def __init__(self, lane: Lane, channels: int) -> None:
        self.damaged = 0
        self._time_base = Fraction(1, lane.timescale)
        self._resampling = Resampling(lane.timescale, channels)
        try:
            context = av.CodecContext.create(str(lane.coding), "r")
            assert isinstance(context, AudioCodecContext)
            if lane.config:
                context.extradata = lane.config
            context.sample_rate = lane.rate
            context.layout = {1: "mono", 2: "stereo"}.get(lane.channels, f"{lane.channels}C")
            context.open()
        except (av.FFmpegError, ValueError) as error:
            raise CodecFailed(f"{lane.coding} cannot be decoded: {error}") from error
        self._context = context

    def decode(self, unit: AccessUnit) -> Iterable[AudioSamples]:
        made: av.Packet[Any] = av.Packet(unit.payload)
        made.time_base, made.pts, made.dts = self._time_base, unit.dts, unit.dts
        try:
            frames = self._context.decode(made)
            return [sound for frame in frames for sound in self._resampling.push(frame, unit.dts, unit.wall)]
        except (av.FFmpegError, ValueError):
            self.damaged += 1
            return []
