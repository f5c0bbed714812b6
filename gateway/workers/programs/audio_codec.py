"""Decodes any audio track and encodes AAC, with the times of the source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Self

import av
from av.audio.codeccontext import AudioCodecContext
from av.codec import CodecContext
from av.codec.context import Flags

from gateway.media import aac, codecs
from gateway.media.clock import AudioClock
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.media.unit import AccessUnit
from gateway.workers.programs.codec import CodecFailed, decoder, packet

RATE: Final = 48_000
_FRAME: Final = 1024


@dataclass(slots=True)
class AudioSamples:
    """Decoded samples: planar floats at RATE, mono or stereo.

    at: samples since time 0 of the source. fresh: they do not continue the samples before.
    wall: wall clock time of arrival, in seconds.
    """

    frame: av.AudioFrame
    at: int
    fresh: bool
    wall: float


def channels_of(track: MediaTrack) -> int:
    """Returns the number of channels to encode this track with, 1 or 2; 2 if its configuration does not tell."""
    try:
        if track.codec is Codec.AAC and aac.parse_asc(track.config).ps:
            return 2
        return max(1, min(2, codecs.audio_channels(track)))
    except InvalidData:
        return 2


class Resampling:
    """Resamples decoded audio to 48 kHz and mixes it to the wanted channels.

    The output time is counted in samples. It is set anew only if the units' times differ from it by 40 ms.
    """

    def __init__(self, timescale: int, channels: int) -> None:
        """timescale: of the units' times. channels: of the output, 1 or 2."""
        self._timescale = timescale
        self._layout = "mono" if channels == 1 else "stereo"
        self._resampler: av.AudioResampler | None = None
        self._form: tuple[int, str, str] | None = None
        self._clock: AudioClock | None = None
        self._next = 0  # time of the next output, in samples

    def push(self, frame: av.AudioFrame, dts: int, wall: float) -> Iterable[AudioSamples]:
        """Returns the samples that are ready. dts, wall: of the unit that held the frame."""
        form = (frame.sample_rate, frame.layout.name, frame.format.name)
        fresh = form != self._form
        if fresh:
            self._form = form
            self._clock = AudioClock(frame.sample_rate, self._timescale)
        clock = self._clock
        assert clock is not None
        at = clock.stamp(dts, frame.samples)
        if fresh or clock.resynced:
            fresh = True
            self._resampler = av.AudioResampler("fltp", self._layout, RATE)
            self._next = max(self._next, at * RATE // frame.sample_rate)
        assert self._resampler is not None
        frame.pts = None
        for out in self._resampler.resample(frame):
            if out.samples:
                yield AudioSamples(out, self._next, fresh, wall)
                self._next += out.samples
                fresh = False


class AudioDecoder:
    """Decodes one audio track to samples at 48 kHz, mixed to the wanted channels.

    Times are those of `Resampling`. Damaged units are counted and left out.
    """

    def __init__(self, track: MediaTrack, channels: int, context: CodecContext | None = None) -> None:
        """channels: of the output, 1 or 2.

        context: an open decoder of a codec that a track cannot have. Of `track`, only the timescale is then used.
        """
        assert track.kind is Kind.AUDIO
        self.damaged = 0
        context = context or decoder(track, 1)
        assert isinstance(context, AudioCodecContext)
        self._context = context
        self._resampling = Resampling(track.timescale, channels)

    def decode(self, unit: AccessUnit) -> list[AudioSamples]:
        """Returns the samples that are ready after this unit."""
        if not unit.payload:
            return []
        push = self._resampling.push
        try:
            frames = self._context.decode(packet(unit))
            return [sound for frame in frames for sound in push(frame, unit.dts, unit.wall)]
        except (av.FFmpegError, ValueError):
            self.damaged += 1
            return []


def open_aac(bitrate: int, channels: int, rate: int) -> AudioCodecContext:
    """Opens an encoder of AAC LC for planar floats. Raises av.FFmpegError, ValueError."""
    context = av.CodecContext.create("aac", "w")
    assert isinstance(context, AudioCodecContext)
    context.bit_rate = bitrate
    context.sample_rate = rate
    context.layout = "mono" if channels == 1 else "stereo"
    context.format = "fltp"
    context.time_base = Fraction(1, rate)
    context.flags |= Flags.global_header
    context.open()
    return context


class AudioEncoder:
    """Encodes AAC LC units of 1024 samples, at `bitrate` bits per second. Raises CodecFailed."""

    def __init__(self, bitrate: int, channels: int, timescale: int) -> None:
        try:
            context = open_aac(bitrate, channels, RATE)
        except (av.FFmpegError, ValueError) as error:
            raise CodecFailed(f"AAC cannot be encoded at {bitrate} bit/s: {error}") from error
        self.track = MediaTrack(Kind.AUDIO, Codec.AAC, timescale, context.extradata or b"")
        self._context = context
        self._timescale = timescale
        self._fifo = av.AudioFifo()
        self._at: int | None = None  # time of the first sample in the queue
        self._given = 0  # samples that the encoder got
        self._starts: list[tuple[int, int]] = []  # (samples given before it, its time) for each run of samples
        self._end = 0
        self._wall = 0.0
        self._last_dts: int | None = None

    def encode(self, sound: AudioSamples) -> list[AccessUnit]:
        """Returns the units that are complete."""
        if self._at is None or sound.fresh:
            self._fifo = av.AudioFifo()  # at a jump of time less than one unit is lost
            self._at = sound.at
            self._starts.append((self._given, sound.at))
        self._wall, self._end = sound.wall, sound.at + sound.frame.samples
        sound.frame.pts = None
        self._fifo.write(sound.frame)
        units: list[AccessUnit] = []
        while (block := self._fifo.read(_FRAME)) is not None:
            block.pts = self._given
            block.time_base = Fraction(1, RATE)
            self._given += _FRAME
            self._at += _FRAME
            units += self._units(block)
        return units

    def flush(self) -> list[AccessUnit]:
        """Returns the last units. The encoder cannot be used afterwards."""
        return self._units(None)

    def _units(self, block: av.AudioFrame | None) -> list[AccessUnit]:
        units = []
        for coded in self._context.encode(block):
            # The first unit holds the encoder's priming samples, which lie before the timeline.
            if coded.pts is None or coded.pts < 0:
                continue
            while len(self._starts) > 1 and self._starts[1][0] <= coded.pts:
                del self._starts[0]
            given, began = self._starts[0]
            at = began + coded.pts - given
            dts = (at * self._timescale + RATE // 2) // RATE
            if self._last_dts is not None and dts <= self._last_dts:
                continue
            self._last_dts = dts
            wall = self._wall - (self._end - at) / RATE
            units.append(AccessUnit(self.track, dts, 0, True, wall, bytes(coded)))
        return units


class AacConverter:
    """Decodes one audio track and encodes it as AAC LC, with the times of the source. track: of the output."""

    def __init__(self, decoder: AudioDecoder, encoder: AudioEncoder) -> None:
        self.track = encoder.track
        self._decoder = decoder
        self._encoder = encoder

    @classmethod
    def of_track(cls, track: MediaTrack, bitrates: Mapping[int, int]) -> Self:
        """Opens both codecs for a track. bitrates: bits per second, by number of channels. Raises CodecFailed."""
        channels = channels_of(track)
        return cls(AudioDecoder(track, channels), AudioEncoder(bitrates[channels], channels, track.timescale))

    @property
    def damaged(self) -> int:
        """Number of units that could not be decoded."""
        return self._decoder.damaged

    def convert(self, unit: AccessUnit) -> list[AccessUnit]:
        """Returns the AAC units that this unit completes."""
        return [coded for sound in self._decoder.decode(unit) for coded in self._encoder.encode(sound)]

    def flush(self) -> list[AccessUnit]:
        """Returns the last units. `convert` cannot be called afterwards."""
        return self._encoder.flush()
