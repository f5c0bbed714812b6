"""Decodes audio tracks and encodes AAC, with the times of the source."""

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
from gateway.workers.aac_protocol import ForeignSound
from gateway.workers.programs.codec import CodecFailed, decoder, packet

RATE: Final = 48_000
_FRAME_SAMPLES: Final = 1024


@dataclass(slots=True)
class AudioSamples:
    """Decoded samples: planar floats, mono or stereo.

    start: time of the first sample, in samples. discontinuity: True if they do not follow the previous samples.
    wall: wall clock time of arrival, in seconds.
    """

    frame: av.AudioFrame
    start: int
    discontinuity: bool
    wall: float


def channels_of(track: MediaTrack) -> int:
    """Returns the number of channels to encode for this track, 1 or 2; 2 if unknown."""
    try:
        if track.codec is Codec.AAC and aac.parse_asc(track.config).ps:
            return 2
        return max(1, min(2, codecs.audio_channels(track)))
    except InvalidData:
        return 2


class AudioResampler:
    """Resamples decoded audio, and mixes it to 1 or 2 channels.

    Output time is counted in samples. It is reset only if the units' times differ from it by 40 ms.
    """

    def __init__(self, timescale: int, channels: int, rate: int = RATE) -> None:
        """timescale: of the units' times. channels: of the output, 1 or 2. rate: of the output, Hz."""
        self._timescale = timescale
        self._rate = rate
        self._layout = "mono" if channels == 1 else "stereo"
        self._resampler: av.AudioResampler | None = None
        self._input_format: tuple[int, str, str] | None = None
        self._clock: AudioClock | None = None
        self._next = 0  # time of the next output, in samples

    def push(self, frame: av.AudioFrame, dts: int, wall: float) -> Iterable[AudioSamples]:
        """Returns the samples that are ready. dts, wall: of the unit that contained the frame."""
        input_format = (frame.sample_rate, frame.layout.name, frame.format.name)
        discontinuity = input_format != self._input_format
        if discontinuity:
            self._input_format = input_format
            self._clock = AudioClock(frame.sample_rate, self._timescale)
        clock = self._clock
        assert clock is not None
        at = clock.stamp(dts, frame.samples)
        if discontinuity or clock.resynced:
            discontinuity = True
            self._resampler = av.AudioResampler("fltp", self._layout, self._rate)
            self._next = max(self._next, at * self._rate // frame.sample_rate)
        assert self._resampler is not None
        frame.pts = None
        for out in self._resampler.resample(frame):
            if out.samples:
                yield AudioSamples(out, self._next, discontinuity, wall)
                self._next += out.samples
                discontinuity = False


class AudioDecoder:
    """Decodes one audio track to samples with 1 or 2 channels. Times: see `AudioResampler`.

    Counts and drops damaged units.
    """

    def __init__(self, track: MediaTrack, channels: int, context: CodecContext | None = None, rate: int = RATE) -> None:
        """channels: of the output, 1 or 2. rate: of the output, Hz.

        context: an open decoder for a codec outside `Codec`. Then only the timescale of `track` is used.
        """
        assert track.kind is Kind.AUDIO
        self.damaged = 0
        context = context or decoder(track, 1)
        assert isinstance(context, AudioCodecContext)
        self._context = context
        self._resampler = AudioResampler(track.timescale, channels, rate)

    def decode(self, unit: AccessUnit) -> list[AudioSamples]:
        """Returns the samples that are ready after this unit."""
        if not unit.payload:
            return []
        push = self._resampler.push
        try:
            frames = self._context.decode(packet(unit))
            return [samples for frame in frames for samples in push(frame, unit.dts, unit.wall)]
        except (av.FFmpegError, ValueError):
            self.damaged += 1
            return []


def open_aac(bitrate: int, channels: int, rate: int) -> AudioCodecContext:
    """Opens an AAC LC encoder for planar floats. Raises av.FFmpegError, ValueError."""
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

    def __init__(self, bitrate: int, channels: int, timescale: int, rate: int = RATE) -> None:
        """rate: of the samples, Hz."""
        try:
            context = open_aac(bitrate, channels, rate)
        except (av.FFmpegError, ValueError) as error:
            raise CodecFailed(f"AAC cannot be encoded at {bitrate} bit/s: {error}") from error
        self.track = MediaTrack(Kind.AUDIO, Codec.AAC, timescale, context.extradata or b"")
        self._context = context
        self._timescale = timescale
        self._rate = rate
        self._fifo = av.AudioFifo()
        self._at: int | None = None  # time of the first sample in the queue
        self._samples_in = 0  # number of samples passed to the encoder
        self._starts: list[tuple[int, int]] = []  # (_samples_in before it, its time) for each continuous range
        self._end = 0
        self._wall = 0.0
        self._last_dts: int | None = None

    def encode(self, samples: AudioSamples) -> list[AccessUnit]:
        """Returns the units that are complete."""
        if self._at is None or samples.discontinuity:
            self._fifo = av.AudioFifo()  # a time jump drops less than one unit of samples
            self._at = samples.start
            self._starts.append((self._samples_in, samples.start))
        self._wall, self._end = samples.wall, samples.start + samples.frame.samples
        samples.frame.pts = None
        self._fifo.write(samples.frame)
        units: list[AccessUnit] = []
        while (block := self._fifo.read(_FRAME_SAMPLES)) is not None:
            block.pts = self._samples_in
            block.time_base = Fraction(1, self._rate)
            self._samples_in += _FRAME_SAMPLES
            self._at += _FRAME_SAMPLES
            units += self._units(block)
        return units

    def flush(self) -> list[AccessUnit]:
        """Returns the last units. The encoder cannot be used afterwards."""
        return self._units(None)

    def _units(self, block: av.AudioFrame | None) -> list[AccessUnit]:
        units = []
        for coded in self._context.encode(block):
            # The first unit has the encoder's priming samples, before time 0.
            if coded.pts is None or coded.pts < 0:
                continue
            while len(self._starts) > 1 and self._starts[1][0] <= coded.pts:
                del self._starts[0]
            samples_before, start = self._starts[0]
            at = start + coded.pts - samples_before
            dts = (at * self._timescale + self._rate // 2) // self._rate
            if self._last_dts is not None and dts <= self._last_dts:
                continue
            self._last_dts = dts
            wall = self._wall - (self._end - at) / self._rate
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

    @classmethod
    def of_foreign(cls, sound: ForeignSound, timescale: int, bitrates: Mapping[int, int]) -> Self:
        """Opens both codecs for sound of a codec that no track can have. Raises CodecFailed."""
        channels = 1 if sound.channels == 1 else 2
        try:
            context = av.CodecContext.create(sound.codec, "r")
            assert isinstance(context, AudioCodecContext)
            context.sample_rate = sound.rate
            context.layout = "mono" if sound.channels == 1 else "stereo"
            context.open()
        except (av.FFmpegError, ValueError) as error:
            raise CodecFailed(f"{sound.codec} cannot be decoded: {error}") from error
        source = MediaTrack(Kind.AUDIO, Codec.AAC, timescale, b"")  # only its timescale is used
        return cls(AudioDecoder(source, channels, context), AudioEncoder(bitrates[channels], channels, timescale))

    @property
    def damaged(self) -> int:
        """Number of units that could not be decoded."""
        return self._decoder.damaged

    def convert(self, unit: AccessUnit) -> list[AccessUnit]:
        """Returns the AAC units that this unit completes."""
        return [coded for samples in self._decoder.decode(unit) for coded in self._encoder.encode(samples)]

    def flush(self) -> list[AccessUnit]:
        """Returns the last units. `convert` cannot be called afterwards."""
        return self._encoder.flush()
