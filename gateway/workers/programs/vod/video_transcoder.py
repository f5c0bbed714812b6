"""Decodes the video of a VOD, rotates it, converts it to progressive 8-bit 4:2:0, and encodes it as H.264."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any, Final, TypeVar

import av
import av.error
import av.filter
from av.codec.context import Flags
from av.video.frame import PictureType

from gateway.lib.control_group import cores
from gateway.media import nal
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.workers.package_protocol import VodEncoding
from gateway.workers.programs.codec import COLOR_PROPERTIES, encoder_config
from gateway.workers.programs.filters import FULL_RANGE, Chain
from gateway.workers.programs.hdr import to_sdr
from gateway.workers.programs.vod.audio_transcoder import AudioTranscoder
from gateway.workers.programs.vod.film_pictures import FilmPictures, fill_pauses
from gateway.workers.programs.vod.media_file import NO_PICTURE, MediaFile
from gateway.workers.vod_bounds import UnusableFilm

_KEY_TICKS: Final = 2 * VIDEO_CLOCK  # distance of key frames
_MAX_AHEAD: Final = 4  # frames that are decoded before the encoder needs them
_END: Final = object()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """An encoded picture. dts, pts: ticks on the timeline of the file. payload: length-prefixed NAL units."""

    dts: int
    pts: int
    key: bool
    payload: bytes


class VideoTranscoder:
    """Iterates over the encoded pictures in decode order. `track` is known after the first picture.

    on_first: called with the first upright picture, a libav frame, and its display size.
    on_picture: called with every upright picture and its time in ticks since the first one.
    advance: called sometimes with the time in the file, in ticks.

    sound: that of the film. The first picture is shown from its begin on, and the last one to its end: players halt
    where one of two tracks has no media.
    """

    def __init__(
        self,
        media_file: MediaFile,
        encoding: VodEncoding,
        on_first: Callable[[Any, tuple[int, int]], None],
        on_picture: Callable[[Any, int], None],
        advance: Callable[[int], None],
    ) -> None:
        self.source = FilmPictures(media_file, advance)
        self.first: int | None = None  # ticks of the first picture
        self.end = 0  # end of the last picture, in ticks
        self.made = 0  # number of encoded pictures, without those that repeat one
        self.sound: AudioTranscoder | None = None
        self._encoding = encoding
        self._on_first = on_first
        self._on_picture = on_picture
        self._size: tuple[int, int] | None = None  # of the encoded pictures
        self._encoder: Any = None
        self._next_key: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the encoded pictures; (0, 0) before the first one."""
        return (self._encoder.width, self._encoder.height) if self._encoder is not None else (0, 0)

    @property
    def display(self) -> tuple[int, int]:
        """Width and height of the pictures as displayed, in square pixels."""
        width, height = self.size
        aspect = self._encoder.sample_aspect_ratio if self._encoder is not None else None
        return (round(width * aspect), height) if aspect and aspect > 1 else (width, round(height / (aspect or 1)))

    @property
    def track(self) -> MediaTrack:
        """The H.264 track with the encoder's parameter sets."""
        return MediaTrack(Kind.VIDEO, Codec.H264, VIDEO_CLOCK, encoder_config("libx264", self._encoder.extradata))

    def __iter__(self) -> Iterator[EncodedPicture]:
        last = None
        begin = None if self.sound is None else self.sound.first()
        for (frame, aspect), at in fill_pauses(read_ahead(self._frames(), _MAX_AHEAD), self._end_of_last, begin):
            self.made -= frame is last
            last = frame
            if self._encoder is None:
                self._encoder = self._open_encoder(frame, aspect)
                self.first = at
                self._on_first(frame, self.display)
            assert self.first is not None
            self._on_picture(frame, at - self.first)
            yield from self._encode(frame, at)
        if self._encoder is None:
            raise UnusableFilm(NO_PICTURE)
        self.end = max(self.end, self.source.timeline.end)
        yield from self._packets(None)

    def _end_of_last(self) -> int:
        end = max(self.end, self.source.timeline.end)
        return end if self.sound is None else max(end, self.sound.reach(end + _KEY_TICKS))

    # ---- in another thread, which uses `source` and `_size` ----

    def _frames(self) -> Iterator[tuple[tuple[Any, Fraction], int]]:
        """Yields frames for the encoder in order, each with its sample aspect ratio, and its time in ticks."""
        chain, known = Chain(()), None  # made for the first frame
        for picture in self.source.prepared(threads=0):
            frame = picture.frame
            properties = (frame.width, frame.height, frame.format.name, frame.color_trc, frame.color_range)
            if properties != known:
                known = properties
                steps, table = to_sdr(int(frame.color_trc), frame.color_range == FULL_RANGE)
                steps = (*(steps or self._color_steps(frame)), *self._size_steps(frame))
                chain = Chain(steps, VIDEO_CLOCK, threads=0, table=table)
            (converted,) = chain.push(frame)
            yield (converted, picture.aspect), picture.pts

    def _color_steps(self, frame: Any) -> list[str]:
        """Returns the filters that convert a frame of SDR to colors of limited range."""
        if frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj"):
            return ["scale=out_range=limited"]
        if not frame.format.name.startswith("yuv"):
            return ["scale=out_color_matrix=bt709:out_range=limited"]
        return []

    def _size_steps(self, frame: Any) -> list[str]:
        """Returns the filters that give a frame the size of the first one, with even sides."""
        even_width, even_height = frame.width & ~1, frame.height & ~1
        possible = max(2, even_width), max(2, even_height)
        width, height = self._size = self._size or possible
        steps = []
        if self._size != possible:
            steps.append(f"scale={width}:{height}:force_original_aspect_ratio=decrease:force_divisible_by=2")
            steps.append(f"pad={width}:{height}:-1:-1")
        elif min(frame.width, frame.height) == 1:
            steps.append("scale=max(2\\,trunc(iw/2)*2):max(2\\,trunc(ih/2)*2)")
        elif frame.width % 2 or frame.height % 2:
            # 4:2:0 needs even sides. Cropping one line keeps the picture sharper than resampling all lines.
            steps.append(f"crop={even_width}:{even_height}:0:0")
        return [*steps, "format=yuv420p"]

    # ---- in the thread that iterates ----

    def _encode(self, frame: Any, at: int) -> Iterator[EncodedPicture]:
        key = self._next_key is None or at >= self._next_key
        if key:
            assert self.first is not None
            self._next_key = at - (at - self.first) % _KEY_TICKS + _KEY_TICKS
        frame.pts, frame.time_base = at, Fraction(1, VIDEO_CLOCK)
        frame.pict_type = PictureType.I if key else PictureType.NONE
        self.end = max(self.end, at + self.source.step)
        yield from self._packets(frame)

    def _packets(self, frame: Any) -> Iterator[EncodedPicture]:
        for packet in self._encoder.encode(frame):
            self.made += 1
            payload = nal.from_annexb(bytes(packet))
            yield EncodedPicture(packet.dts, packet.pts, packet.is_keyframe, payload)

    def _open_encoder(self, frame: Any, aspect: Fraction) -> Any:
        encoder: Any = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuv420p"
        encoder.time_base, encoder.framerate = Fraction(1, VIDEO_CLOCK), self.source.rate
        encoder.sample_aspect_ratio = aspect
        encoder.gop_size = max(12, ceil(self.source.rate * _KEY_TICKS / VIDEO_CLOCK) * 2)
        encoder.flags |= Flags.global_header | Flags.closed_gop
        # As x264 by default, which knows no quota of a container. More than 24 threads only use more memory.
        encoder.thread_count = min(24, max(1, cores() * 3 // 2))
        for name in COLOR_PROPERTIES:
            setattr(encoder, name, getattr(frame, name))
        encoding, max_bits = self._encoding, str(self._encoding.max_bits)
        encoder.options = {
            "preset": encoding.preset, "crf": f"{encoding.crf:g}", "maxrate": max_bits, "bufsize": max_bits,
            "forced-idr": "1", "profile": "high",
        }  # fmt: skip
        encoder.open()
        return encoder


def read_ahead(source: Iterator[T], max_items: int) -> Iterator[T]:
    """Yields the items of `source`, which a thread makes, at most `max_items` ahead. Raises the exceptions of `source`.

    Decoding and encoding both release the GIL, so each can use one core. If the caller stops early, the thread stops
    after the item that it makes; the caller does not wait for it.
    """
    thread = ThreadPoolExecutor(1, "ahead")
    try:
        waiting = deque(thread.submit(next, source, _END) for _ in range(max_items))
        while True:
            waiting.append(thread.submit(next, source, _END))
            item: Any = waiting.popleft().result()
            if item is _END:
                return
            yield item
    finally:
        thread.shutdown(wait=False, cancel_futures=True)
