"""Voice: the sound of a recording as AAC: its own frames where they are that, else coded anew."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Final

import av
from av.audio.codeccontext import AudioCodecContext

from gateway.formats.lanes import Foreign, Lane
from gateway.media.track import Codec, Kind, Track
from gateway.media.unit import AccessUnit
from gateway.transcode.codec import CodecFailed
from gateway.transcode.sound import AudioDecoder, AudioEncoder, Resampling, Sound, channels_of

_BITS: Final = {1: 96_000, 2: 128_000}


class Voice:
    """One lane's samples in, AAC units out, on the lane's time and its timescale. Raises CodecFailed.

    track: of what comes out; copied: whether the frames are the recording's own.
    """

    def __init__(self, lane: Lane) -> None:
        self.copied = lane.coding is Codec.AAC
        self._decoder: AudioDecoder | _ForeignDecoder | None = None
        self._encoder: AudioEncoder | None = None
        if isinstance(lane.coding, Foreign):
            channels = min(2, lane.channels)
            self._decoder = _ForeignDecoder(lane, channels)
        else:
            self.track = Track(Kind.AUDIO, lane.coding, lane.timescale, lane.config)
            if self.copied:
                return
            channels = channels_of(self.track)
            self._decoder = AudioDecoder(self.track, channels)
        self._encoder = AudioEncoder(_BITS[channels], channels, lane.timescale)
        self.track = self._encoder.track

    @property
    def damaged(self) -> int:
        """Samples that could not be decoded."""
        return 0 if self._decoder is None else self._decoder.damaged

    def take(self, dts: int, wall: float, payload: bytes) -> list[AccessUnit]:
        """The units that this sample completes."""
        unit = AccessUnit(self.track, dts, 0, True, wall, payload)
        if self._decoder is None or self._encoder is None:
            return [unit]
        return [coded for sound in self._decoder.decode(unit) for coded in self._encoder.encode(sound)]

    def flush(self) -> list[AccessUnit]:
        """The last units; nothing can be taken after."""
        return [] if self._encoder is None else self._encoder.flush()


class _ForeignDecoder:
    """As AudioDecoder, for what no track of a stream can be."""

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

    def decode(self, unit: AccessUnit) -> Iterable[Sound]:
        made: av.Packet[Any] = av.Packet(unit.payload)
        made.time_base, made.pts, made.dts = self._time_base, unit.dts, unit.dts
        try:
            frames = self._context.decode(made)
            return [sound for frame in frames for sound in self._resampling.push(frame, unit.dts, unit.wall)]
        except (av.FFmpegError, ValueError):
            self.damaged += 1
            return []
