"""Converts the audio of a VOD to AAC. Frames that a transport stream supports are copied; other audio is encoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any, Final, TypeAlias

import av
import av.error

from gateway.media import aac
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.workers.programs.audio_codec import SampleEncoder, open_aac
from gateway.workers.programs.filters import Chain
from gateway.workers.programs.vod.continuous_timeline import ContinuousTimeline
from gateway.workers.programs.vod.media_file import MediaFile, new_config, ticks
from gateway.workers.vod_bounds import UnusableFilm

_MAX_DRIFT: Final = VIDEO_CLOCK * 40 // 1000  # if the counted time differs more from the container's, it is reset
_BITS_PER_CHANNEL: Final = 64_000
_LC: Final = 2  # audio object type AAC LC


AacFrame: TypeAlias = tuple[int, bytes]  # (presentation time in ticks of 90 kHz, raw AAC frame)


class AudioTranscoder:
    """Returns the AAC frames of a file in order, up to a wanted time.

    leader: the timeline of the video; jumps of the audio are handled like those of the video.
    advance: called with the time in the file, in ticks.
    """

    def __init__(self, film: MediaFile, leader: ContinuousTimeline | None, advance: Callable[[int], None]) -> None:
        self.damaged = 0
        self.end = 0  # end of the last frame that `until` has yielded, in ticks
        self.heard = 0  # length of the samples in the file, in ticks; `end` minus `begin` may be less
        self.begin: int | None = None  # of the first frame
        self._film = film
        self._stream = film.audio
        self._advance = advance
        self._timeline = ContinuousTimeline(film.max_gap, leader)
        packets = film.packets(self._stream)
        first = next((p for p in packets if p.size), None)
        own_config = None if first is None else _copyable_config(self._stream, bytes(first))
        if own_config is None:
            self._encoder: _Encoder | None = _Encoder(*_rate_and_channels(self._stream))
            config = self._encoder.config
        else:
            self._encoder, config = None, own_config
        asc = self._asc = aac.parse_asc(config)
        self.track = MediaTrack(Kind.AUDIO, Codec.AAC, VIDEO_CLOCK, config)
        self.length = Fraction(asc.core_samples * VIDEO_CLOCK, asc.core_rate)  # of a frame, in ticks
        self._frames = self._read(first, packets)
        self._ahead: deque[AacFrame] = deque()  # the next frames, as far as they have been read

    def first(self) -> int | None:
        """Returns the time of the first frame in ticks; None if no audio can be decoded."""
        return self.next_time

    @property
    def next_time(self) -> int | None:
        """The time of the next frame in ticks; None at the end."""
        return self._ahead[0][0] if self._ahead or self._read_one() else None

    def until(self, time: float) -> Iterator[AacFrame]:
        """Yields the next frames before `time` (ticks)."""
        while (at := self.next_time) is not None and at < time:
            self.begin = at if self.begin is None else self.begin
            self.end = at + round(self.length)
            yield self._ahead.popleft()

    def reach(self, time: int) -> int:
        """Reads ahead to `time` (ticks). Returns the end of the last frame before it."""
        while (not self._ahead or self._ahead[-1][0] < time) and self._read_one():
            pass
        return self._ahead[-1][0] + round(self.length) if self._ahead else self.end

    def _read_one(self) -> bool:
        """Reads the next frame. Returns False at the end."""
        frame = next(self._frames, None)
        if frame is not None:
            self._ahead.append(frame)
        return frame is not None

    def _read(self, first: Any, packets: Iterator[Any]) -> Iterator[AacFrame]:
        """Yields frames with times counted in samples, because containers round times to milliseconds."""
        encoder = self._encoder
        frames = self._copy(first, packets) if encoder is None else self._encode(encoder, first, packets)
        start: int | None = None
        count = 0
        for at, payload in frames:
            expected = None if start is None else start + round(count * self.length)
            if expected is None or abs(at - expected) > _MAX_DRIFT:
                start, count, expected = at, 0, at
            count += 1
            yield expected, payload

    def _copy(self, first: Any, packets: Iterator[Any]) -> Iterator[AacFrame]:
        """Yields the frames as they are. If rate or channels change, the rest is encoded with the first ones."""
        length = round(self.length)
        header, _ = _split_adts(bytes(first or b""))
        for packet in _chain(first, packets):
            payload = bytes(packet)
            config, size = _split_adts(payload)
            if config not in (b"", header) or new_config(packet) not in (b"", self.track.config):
                rate, channels = self._asc.core_rate, self._asc.channel_config
                yield from self._encode(_Encoder(rate, 8 if channels == 7 else channels), packet, packets)
                return
            self.damaged += packet.is_corrupt
            at = ticks(packet.pts, packet.time_base)
            payload = payload[size:]
            if not payload or (packet.is_discard and at is not None and at < 0):
                continue
            self.heard += length
            new_time = self._timeline.place(self._timeline.end if at is None else at, length)
            # The length field of ADTS has 13 bits, and includes the header of 7 bytes.
            if new_time is not None and len(payload) <= 8184:
                self._advance(at or 0)
                yield new_time, payload

    def _encode(self, encoder: _Encoder, first: Any, packets: Iterator[Any]) -> Iterator[AacFrame]:
        resolution, last = ticks(1, self._stream.time_base) or 0, 0
        for packet in _chain(first, packets, flush=True):
            try:
                frames = packet.decode()
                self.damaged += packet.is_corrupt
            except av.error.FFmpegError:
                self.damaged += 1
                continue
            if packet.pts is not None:
                self._advance(ticks(packet.pts, packet.time_base) or 0)
            for frame in frames:
                at = ticks(frame.pts, frame.time_base)
                length = round(frame.samples * VIDEO_CLOCK / (frame.sample_rate or VIDEO_CLOCK))
                self.heard += length
                at = self._timeline.end if at is None else at
                if length < resolution and at <= last < at + resolution:
                    at = last + 1  # several frames have one time: one of TrueHD is shorter than a millisecond
                last = at
                new_time = self._timeline.place(at, length)
                if new_time is not None:
                    frame.pts, frame.time_base = new_time, Fraction(1, VIDEO_CLOCK)
                    yield from encoder.put(frame)
        yield from encoder.put(None)
        self.damaged += encoder.damaged


class _Encoder:
    """Encodes decoded audio as AAC LC with this rate (Hz) and number of channels. Fills gaps with silence."""

    def __init__(self, rate: int, channels: int) -> None:
        self._encoder = SampleEncoder(partial(open_aac, _BITS_PER_CHANNEL * channels, channels, rate))
        self.config = bytes(self._encoder.context.extradata or b"")
        # async: fills gaps with silence, and compresses audio that is too early.
        form = f"aformat=sample_fmts=fltp:sample_rates={rate}:channel_layouts={self._encoder.context.layout.name}"
        self._chain = Chain((f"aresample={rate}:async=1000", form), VIDEO_CLOCK)

    @property
    def damaged(self) -> int:
        """Number of blocks of samples that could not be encoded."""
        return self._encoder.damaged

    def put(self, frame: Any) -> Iterator[AacFrame]:
        """Yields the packets that a frame completes, as (ticks, bytes). frame: None at the end."""
        for ready in self._chain.flush() if frame is None else self._chain.push(frame):
            yield from self._packets(ready)
        if frame is None:
            yield from self._packets(None)

    def _packets(self, frame: Any) -> Iterator[AacFrame]:
        for packet in self._encoder.encode(frame):
            at = ticks(packet.pts, packet.time_base or self._encoder.context.time_base)
            if at is not None and packet.size:
                yield at, bytes(packet)


def _chain(first: Any, rest: Iterator[Any], flush: bool = False) -> Iterator[Any]:
    """Yields the first packet and the rest. flush: True: also the empty packet at the end, to flush the decoder."""
    if first is not None:
        yield first
    yield from (packet for packet in rest if packet.size or flush)


def _copyable_config(stream: Any, payload: bytes) -> bytes | None:
    """Returns the AudioSpecificConfig of AAC LC (also with SBR) that ADTS supports; None for other audio."""
    if stream.codec_context.name not in ("aac", "aac_fixed"):
        return None
    config = bytes(stream.codec_context.extradata or b"")
    try:
        config = config or aac.split_adts(payload)[0]
        if _split_adts(payload)[1] and payload[6] & 3:  # several raw blocks after one header
            return None
        asc = aac.parse_asc(config)
        aac.Adts(asc)
        if asc.object_type != _LC or asc.channel_config == 0:
            return None
    except (InvalidData, UnsupportedCodec):
        return None
    return config


def _split_adts(payload: bytes) -> tuple[bytes, int]:
    """Returns configuration and size of an ADTS header; (b"", 0) if the frame has none."""
    try:
        return aac.split_adts(payload)
    except InvalidData:
        return b"", 0


def _rate_and_channels(stream: Any) -> tuple[int, int]:
    """Returns the rate and the channels, at most two, with which a stream is encoded."""
    context = stream.codec_context
    rate = context.sample_rate if context.sample_rate in (32_000, 44_100, 48_000) else 48_000
    return rate, 1 if context.channels == 1 else 2


def open_audio(
    film: MediaFile, leader: ContinuousTimeline | None, advance: Callable[[int], None]
) -> AudioTranscoder | None:
    """Opens the audio of a file. Returns None without audio, or if a file with video has audio that cannot be decoded.

    Raises UnusableFilm if the audio cannot be decoded and the file has no video.
    """
    if film.audio is None:
        return None
    try:
        audio = AudioTranscoder(film, leader, advance)
        return audio if audio.first() is not None else None
    except (av.error.FFmpegError, InvalidData, ValueError):
        if film.video is None:
            raise UnusableFilm("the audio cannot be decoded") from None
        return None
