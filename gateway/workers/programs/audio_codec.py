"""Decodes audio tracks and encodes AAC and Opus, with the times of the source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Final, Self

import av
from av.audio.codeccontext import AudioCodecContext
from av.codec import CodecContext
from av.codec.context import Flags

from gateway.media.clock import AudioClock
from gateway.media.track import AccessUnit, Codec, ForeignSound, Kind, MediaTrack
from gateway.workers.programs.codec import CodecFailed, cause, make_packet, open_decoder
from gateway.workers.sound_protocol import BITRATES, OPUS_BITRATES, SoundSetup, channels_of, opus_track

RATE: Final = 48_000
# libav's names of the usual layouts, those of AAC's channel configurations (ISO/IEC 14496-3 Table 1.19), by the number
# of channels.
LAYOUTS: Final = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
_FRAME_SAMPLES: Final = {Codec.AAC: 1024, Codec.OPUS: 960}  # 20 ms of Opus
_OPUS_COMPLEXITY: Final = "5"  # of 10, libopus's measure of processor time
_MAX_FILL: Final = 1.0  # seconds; a longer gap is not filled. Chromium pauses Opus for at most 0.4 s
_MAX_EXCESS: Final = 1.0  # seconds of samples that are dropped; after a larger step back, no sample is dropped


@dataclass(frozen=True, slots=True)
class SampleForm:
    """The form of decoded samples.

    rate: Hz. format: libav's name. fills: whether a gap of at most one second in the source becomes silence.
    """

    rate: int = RATE
    format: str = "fltp"
    fills: bool = False


_PLANAR: Final = SampleForm()
_FOR_AAC: Final = SampleForm(fills=True)
_FOR_OPUS: Final = SampleForm(format="flt", fills=True)


@dataclass(slots=True)
class AudioSamples:
    """Decoded samples: floats, mono or stereo.

    start: time of the first sample, in samples. discontinuity: True if a gap or a jump is before these samples.
    wall: wall clock time of arrival, in seconds.
    """

    frame: av.AudioFrame
    start: int
    discontinuity: bool
    wall: float


class AudioResampler:
    """Resamples decoded audio, and mixes it to 1 or 2 channels.

    Output time is counted in samples. It is corrected only if the units' times differ from it by 40 ms. Samples whose
    time has passed are then dropped.

    timescale: of the units' times. channels: of the output, 1 or 2. form: of the output.
    """

    def __init__(self, timescale: int, channels: int, form: SampleForm = _PLANAR) -> None:
        self._timescale = timescale
        self._rate = form.rate
        self._format = form.format
        self._fill = round(_MAX_FILL * form.rate) if form.fills else 0
        self._layout = "mono" if channels == 1 else "stereo"
        self._resampler: av.AudioResampler | None = None
        self._input_format: tuple[int, str, str] | None = None
        self._clock: AudioClock | None = None
        self._next: int | None = None  # time of the next output, in samples
        self._excess = 0  # samples to drop

    def push(self, frame: av.AudioFrame, dts: int, wall: float) -> Iterable[AudioSamples]:
        """Returns the samples that are ready. dts, wall: of the unit that contained the frame."""
        input_format = (frame.sample_rate, frame.layout.name, frame.format.name)
        changed = input_format != self._input_format
        if changed:
            self._input_format = input_format
            self._clock = AudioClock(frame.sample_rate, self._timescale)
        clock = self._clock
        assert clock is not None
        at = clock.stamp(dts, frame.samples)
        discontinuity = False
        if changed or clock.resynced:
            self._resampler = av.AudioResampler(self._format, self._layout, self._rate)
            begin = at * self._rate // frame.sample_rate
            ahead = begin if self._next is None else begin - self._next
            self._excess = -ahead if -_MAX_EXCESS * self._rate <= ahead < 0 else 0
            if self._next is None or ahead > self._fill:
                discontinuity = True
                self._next = begin
            elif ahead > 0:
                yield AudioSamples(self._silence(ahead), self._next, False, wall)
                self._next = begin
        assert self._resampler is not None and self._next is not None
        frame.pts = None
        for out in self._resampler.resample(frame):
            if self._excess >= out.samples:
                self._excess -= out.samples
            elif out.samples:
                yield AudioSamples(out, self._next, discontinuity, wall)
                self._next += out.samples
                discontinuity = False

    def _silence(self, samples: int) -> av.AudioFrame:
        frame = av.AudioFrame(self._format, self._layout, samples)
        frame.sample_rate = self._rate
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        return frame


class AudioDecoder:
    """Decodes one audio track to samples with 1 or 2 channels. Times: see `AudioResampler`.

    Counts and drops damaged units.

    channels: of the output, 1 or 2. form: of the output.

    context: an open decoder for a codec outside `Codec`. Then only the timescale of `track` is used.
    """

    def __init__(
        self, track: MediaTrack, channels: int, context: CodecContext | None = None, form: SampleForm = _PLANAR
    ) -> None:
        assert track.kind is Kind.AUDIO
        self.damaged = 0
        context = context or open_decoder(track, 1)
        assert isinstance(context, AudioCodecContext)
        self._context = context
        self._resampler = AudioResampler(track.timescale, channels, form)

    def decode(self, unit: AccessUnit) -> list[AudioSamples]:
        """Returns the samples that are ready after this unit."""
        if not unit.payload:
            return []
        push = self._resampler.push
        try:
            frames = self._context.decode(make_packet(unit))
            return [samples for frame in frames for samples in push(frame, unit.dts, unit.wall)]
        except (av.FFmpegError, ValueError):
            self.damaged += 1
            return []


def open_aac(bitrate: int, channels: int, rate: int) -> AudioCodecContext:
    """Opens an AAC LC encoder for planar floats. Raises av.FFmpegError, ValueError."""
    return _open_encoder("aac", bitrate, channels, SampleForm(rate))


def _open_opus(bitrate: int, channels: int) -> AudioCodecContext:
    """Opens an Opus encoder for interleaved floats at 48 kHz. Raises av.FFmpegError, ValueError.

    All its packets have the same size, so that the packets of one viewer can share a system call.
    """
    options = {"vbr": "off", "frame_duration": "20", "compression_level": _OPUS_COMPLEXITY}
    return _open_encoder("libopus", bitrate, channels, _FOR_OPUS, options)


def _open_encoder(
    codec: str, bitrate: int, channels: int, form: SampleForm, options: Mapping[str, str] | None = None
) -> AudioCodecContext:
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, AudioCodecContext)
    context.bit_rate, context.sample_rate, context.format = bitrate, form.rate, form.format
    context.layout = LAYOUTS[channels]
    context.time_base = Fraction(1, form.rate)
    context.flags |= Flags.global_header
    context.options = dict(options or {})
    context.open()
    return context


def open_foreign(sound: ForeignSound, config: bytes = b"") -> AudioCodecContext:
    """Opens a decoder for sound of a codec outside `Codec`. Raises CodecFailed."""
    try:
        context = av.CodecContext.create(sound.codec, "r")
        assert isinstance(context, AudioCodecContext)
        if config:
            context.extradata = config
        context.sample_rate = sound.rate
        context.layout = {1: "mono", 2: "stereo"}.get(sound.channels, f"{sound.channels}C")
        context.open()
    except (av.FFmpegError, ValueError) as error:
        raise CodecFailed(f"{sound.codec} cannot be decoded: {cause(error)}") from error
    return context


class SampleEncoder:
    """Encodes frames of samples. Opens another encoder after a frame that FFmpeg refuses: later times would be wrong.

    opener: returns an open encoder. damaged: number of refused frames, which are dropped.
    """

    def __init__(self, opener: Callable[[], AudioCodecContext]) -> None:
        self.damaged = 0
        self.context = opener()
        self._opener = opener

    def encode(self, frame: av.AudioFrame | None) -> list[av.Packet[Any]]:
        """Returns the packets that are ready. frame: None: the end."""
        try:
            return list(self.context.encode(frame))
        except av.ArgumentError:  # FFmpeg's AAC encoder refuses infinite samples, NaN, and values far above 1
            self.damaged += 1
            self.context = self._opener()
            return []


class AudioEncoder:
    """Encodes AAC LC units of 1024 samples, or Opus units of 20 ms, at `bitrate` bits per second.

    timescale: of the AAC units; Opus units have 48,000. rate: of the samples, Hz; of Opus 48,000.

    target: AAC or OPUS. Raises CodecFailed.
    """

    def __init__(
        self, bitrate: int, channels: int, timescale: int, rate: int = RATE, target: Codec = Codec.AAC
    ) -> None:
        try:
            if target is Codec.OPUS:
                encoder, self.track = SampleEncoder(partial(_open_opus, bitrate, channels)), opus_track(channels)
            else:
                encoder = SampleEncoder(partial(open_aac, bitrate, channels, rate))
                self.track = MediaTrack(Kind.AUDIO, Codec.AAC, timescale, encoder.context.extradata or b"")
        except (av.FFmpegError, ValueError) as error:
            raise CodecFailed(f"{target} cannot be encoded at {bitrate} bit/s: {cause(error)}") from error
        self._frame_samples = _FRAME_SAMPLES[target]
        self._timescale = self.track.timescale
        self._encoder = encoder
        self._rate = rate
        self._fifo = av.AudioFifo()
        self._at: int | None = None  # time of the first sample in the queue
        self._samples_in = 0  # number of samples passed to the encoder
        self._starts: list[tuple[int, int]] = []  # each range without gaps: (_samples_in before it, its time)
        self._end = 0  # time after the last sample that was added, in samples
        self._wall = 0.0
        self._last_dts: int | None = None

    @property
    def damaged(self) -> int:
        """Number of blocks of samples that could not be encoded."""
        return self._encoder.damaged

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
        frame_samples = self._frame_samples
        while (block := self._fifo.read(frame_samples)) is not None:
            block.pts = self._samples_in
            block.time_base = Fraction(1, self._rate)
            self._samples_in += frame_samples
            self._at += frame_samples
            units += self._units(block)
        return units

    def flush(self) -> list[AccessUnit]:
        """Returns the last units. The encoder cannot be used afterwards."""
        return self._units(None)

    def _units(self, block: av.AudioFrame | None) -> list[AccessUnit]:
        units = []
        for coded in self._encoder.encode(block):
            # The first unit has the encoder's priming samples, before time 0: all of AAC's, 6.5 ms of Opus's.
            if coded.pts is None or coded.pts <= -self._frame_samples:
                continue
            while len(self._starts) > 1 and self._starts[1][0] <= coded.pts:
                del self._starts[0]
            samples_before, start = self._starts[0]
            at = start + coded.pts - samples_before
            dts = (at * self._timescale + self._rate // 2) // self._rate
            if dts < 0 or (self._last_dts is not None and dts <= self._last_dts):
                continue
            self._last_dts = dts
            wall = self._wall - (self._end - at) / self._rate
            units.append(AccessUnit(self.track, dts, 0, True, wall, bytes(coded)))
        return units


class SoundConverter:
    """Decodes one audio track and encodes it, with the times of the source. track: of the output."""

    def __init__(self, decoder: AudioDecoder, encoder: AudioEncoder) -> None:
        self.track = encoder.track
        self._decoder = decoder
        self._encoder = encoder

    @classmethod
    def of_track(cls, track: MediaTrack, bitrates: Mapping[int, int] = BITRATES) -> Self:
        """Opens both codecs for a track, to AAC. bitrates: bits per second, by channels. Raises CodecFailed."""
        channels = channels_of(track)
        return cls(AudioDecoder(track, channels), AudioEncoder(bitrates[channels], channels, track.timescale))

    @classmethod
    def of_setup(cls, setup: SoundSetup, track: MediaTrack) -> Self:
        """Opens both codecs. track: of the source; only its timescale is used for foreign sound. Raises CodecFailed."""
        sound, target = setup.foreign, setup.target
        channels = channels_of(track) if sound is None else (1 if sound.channels == 1 else 2)
        form, bitrates = (_FOR_OPUS, OPUS_BITRATES) if target is Codec.OPUS else (_FOR_AAC, BITRATES)
        encoder = AudioEncoder(bitrates[channels], channels, track.timescale, target=target)
        context = None if sound is None else open_foreign(sound)
        return cls(AudioDecoder(track, channels, context, form), encoder)

    @property
    def damaged(self) -> int:
        """Number of units that could not be decoded or encoded."""
        return self._decoder.damaged + self._encoder.damaged

    def convert(self, unit: AccessUnit) -> list[AccessUnit]:
        """Returns the units that this one completes."""
        return [coded for samples in self._decoder.decode(unit) for coded in self._encoder.encode(samples)]

    def flush(self) -> list[AccessUnit]:
        """Returns the last units. `convert` cannot be called afterwards."""
        return self._encoder.flush()
