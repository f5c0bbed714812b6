"""The watermark's worker: decodes a stream's picture, lays the mark over it, encodes it at about the same bitrate."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

from gateway.media.track import AmfValue, Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.transcode import child
from gateway.transcode.blend import Blend
from gateway.transcode.codec import CodecFailed, Picture, VideoDecoder, VideoEncoder, VideoRecipe, frame_rate
from gateway.transcode.colors import Rgba, parse_color
from gateway.transcode.filters import Preparation
from gateway.transcode.fonts import Fontbook
from gateway.transcode.lettering import Words
from gateway.transcode.mark import DEFAULT_COLOR, Mark, WatermarkMessage
from gateway.transcode.picture import Emblem, Overlay, compose

_UNSAID_RATE: Final = 5  # pictures that are looked at where the stream does not say its frame rate
_VBV: Final = 1.5  # seconds of buffer, and the most above the bitrate
_LEAST: Final = 150_000  # bits a second
_MOST: Final = 50_000_000
_LEAST_PER_PIXEL: Final = 0.02  # bits: below it no encoder of this kind shows a picture
_USUAL_PER_PIXEL: Final = 0.09  # where nothing is known of the source
_LEVELS: Final = (
    ("3.1", 3_600, 108_000, 17_500_000),
    ("4.1", 8_192, 245_760, 62_500_000),
    ("4.2", 8_704, 522_240, 62_500_000),
    ("5.1", 36_864, 983_040, 300_000_000),
    ("5.2", 36_864, 2_073_600, 300_000_000),
    ("6.2", 139_264, 16_711_680, 1_000_000_000),
)
_OFF: Final = 1.4  # how far the source's bitrate may leave ours before the encoder follows


class Meter:
    """The bitrate of the last seconds, in bits a second; None before it has seen `least` seconds."""

    def __init__(self, least: float = 1.0, most: float = 10.0) -> None:
        self._least, self._most = least, most
        self._units: deque[tuple[float, int]] = deque()
        self._bytes = 0

    def add(self, unit: AccessUnit) -> None:
        at = unit.dts / unit.track.timescale
        self._units.append((at, len(unit.payload)))
        self._bytes += len(unit.payload)
        while at - self._units[0][0] > self._most or at < self._units[0][0]:
            self._bytes -= self._units.popleft()[1]

    def read(self) -> float | None:
        if len(self._units) < 2:
            return None
        seconds = self._units[-1][0] - self._units[0][0]
        # The first unit's bytes stand for the time up to the second, the last one's time is not over.
        return (self._bytes - self._units[-1][1]) * 8 / seconds if seconds >= self._least else None


def target_bitrate(measured: float | None, promised: float | None, pixels: int, rate: float) -> int:
    """Bits a second for a picture as good as the source's: what was measured, else promised, else usual; bounded."""
    wanted = measured or promised or _USUAL_PER_PIXEL * pixels * rate
    return round(min(_MOST, max(wanted, _LEAST, _LEAST_PER_PIXEL * pixels * rate)))


def level(pixels: int, rate: float, bitrate: float) -> str:
    """The level of H.264 (Table A-1; bits a second of the High profile, §A.3.3) that has room for these.

    Said, and roomy: an encoder that follows a source's bitrate then writes the same parameter sets as the one before.
    """
    blocks = pixels / 256
    for name, most_blocks, most_a_second, most_bits in _LEVELS:
        if blocks <= most_blocks and blocks * rate <= most_a_second and bitrate <= most_bits:
            return name
    return _LEVELS[-1][0]


class WatermarkWorker:
    """One stream's pictures, from SETUP to END."""

    def __init__(self, link: child.Link, setup: dict[str, Any]) -> None:
        self._link = link
        self._preset = str(setup["preset"])
        self._threads = int(setup["threads"])
        self._bitrate = int(setup["bitrate"])
        self._after = int(setup["after"])  # milliseconds of decode time that viewers have seen
        self._book = Fontbook(str(setup["font"]))
        self._mark = Mark()
        self._overlay: tuple[Overlay, int, int] | None = None  # for pictures of this size
        self._blend = Blend()
        self._tracks: Tracks | None = None
        self._decoder: VideoDecoder | None = None
        self._preparation = Preparation(1000)
        self._meter = Meter()
        self._held: list[Picture] = []  # until the frame rate is known
        self._encoder: VideoEncoder | None = None
        self._lead = 0  # of the last key picture, in ticks

    def wear(self, mark: Mark) -> None:
        """Lays this mark over the pictures that come."""
        self._mark = mark
        self._overlay = None

    def begin(self, tracks: Tracks) -> None:
        """Another stream, or its continuation after a break. Raises CodecFailed."""
        self.finish()
        self._encoder = None
        self._tracks = tracks
        self._decoder = VideoDecoder(tracks.video, self._threads) if tracks.video is not None else None
        self._preparation = Preparation(tracks.video.timescale if tracks.video is not None else 1000)
        self._meter = Meter()

    def unit(self, body: bytes) -> None:
        """One unit of the source. Raises CodecFailed."""
        unit = wire.decode_unit(body, self._tracks)
        if self._decoder is None:
            return
        self._meter.add(unit)
        for decoded in self._decoder.decode(unit):
            for picture in self._preparation.push(decoded):
                self._picture(picture)

    def finish(self) -> None:
        """Gives everything that is still held."""
        if self._decoder is not None:
            for decoded in self._decoder.flush():
                for picture in self._preparation.push(decoded):
                    self._picture(picture)
            for picture in self._preparation.flush():
                self._picture(picture)
        self._release()
        if self._encoder is not None:
            self._send(self._encoder.flush())
            self._encoder = None

    # ---- pictures ----

    def _picture(self, picture: Picture) -> None:
        assert self._decoder is not None, "it made the picture"
        if picture.key:
            self._lead = picture.lead
        if (picture.pts - self._lead) * 1000 // self._decoder.track.timescale <= self._after:
            return
        if self._encoder is not None:
            self._encode(picture)
            return
        if not self._held:
            # Viewers go on here after a worker died, wherever that is.
            picture = replace(picture, key=True, lead=self._lead)
        self._held.append(picture)
        if self._rate_is_said() or len(self._held) > _UNSAID_RATE:
            self._release()

    def _release(self) -> None:
        held, self._held = self._held, []
        if not held or self._decoder is None:
            return
        timescale = self._decoder.track.timescale
        rate = frame_rate([p.pts for p in held], timescale, self._decoder.claimed_rate or self._promised("framerate"))
        self._open(held[0], rate)
        for picture in held:
            self._encode(picture)

    def _rate_is_said(self) -> bool:
        assert self._decoder is not None, "asked for its pictures"
        return bool(self._decoder.claimed_rate or self._promised("framerate"))

    def _promised(self, name: str) -> float | None:
        """A number of the publisher's metadata that can be true."""
        value: AmfValue = None if self._tracks is None else self._tracks.metadata.get(name)
        return float(value) if isinstance(value, float) and 1 <= value <= 1e6 else None

    def _encode(self, picture: Picture) -> None:
        assert self._encoder is not None, "opened for the first picture"
        recipe = self._encoder.recipe
        size = (picture.frame.width & ~1, picture.frame.height & ~1)
        if size != (recipe.width, recipe.height) or self._encoder.outrun:
            rate = recipe.rate * 2 if self._encoder.outrun else recipe.rate
            picture = replace(picture, key=True, lead=self._lead)
            self._open(picture, min(rate, Fraction(240)))
        elif picture.key and self._is_off(recipe):
            self._open(picture, recipe.rate)
        self._dress(*size)
        self._send(self._encoder.encode(self._blend.apply(picture.frame), picture))

    def _dress(self, width: int, height: int) -> None:
        if self._overlay is not None and self._overlay[1:] == (width, height):
            return
        mark, notes = self._mark, []
        try:
            color = parse_color(mark.color)
        except ValueError as error:
            color = parse_color(DEFAULT_COLOR)
            notes.append(f"the watermark's text is {DEFAULT_COLOR}: {error}")
        words = _words(mark, color)
        emblem = Emblem(mark.picture, mark.width, mark.height, mark.left, mark.top) if mark.picture else None
        overlay = compose(words, emblem, width, height, self._book)
        self._overlay = overlay, width, height
        self._blend.wear(overlay)
        self._link.send(WatermarkMessage.NOTES, wire.write_json({"notes": [*notes, *overlay.notes]}))

    # ---- the encoder ----

    def _open(self, like: Picture, rate: Fraction) -> None:
        """An encoder for pictures like this one; one of the same parameters continues the last without a break."""
        assert self._decoder is not None, "it made the picture"
        before = self._encoder
        frame = like.frame
        width, height = frame.width & ~1, frame.height & ~1
        bitrate = self._bitrate or self._source_bitrate(width * height, float(rate))
        recipe = VideoRecipe(
            encoder="libx264",
            width=width,
            height=height,
            bitrate=bitrate,
            maxrate=round(bitrate * _VBV),
            bufsize=round(bitrate * _VBV),
            rate=rate,
            timescale=self._decoder.track.timescale,
            preset=self._preset,
            profile="high",
            threads=self._threads,
            sample_aspect=self._decoder.sample_aspect,
            level=level(width * height, float(rate), bitrate * _VBV),
        )
        encoder = VideoEncoder(recipe, frame)
        if before is not None:
            self._send(before.flush())
        if before is None or before.track != encoder.track:
            assert self._tracks is not None, "set before the first unit"
            coded = Tracks(encoder.track, None, self._tracks.epoch)
            self._link.send(wire.Message.TRACKS, wire.encode_tracks(coded))
        self._encoder = encoder

    def _source_bitrate(self, pixels: int, rate: float) -> int:
        kilobits = self._promised("videodatarate")
        return target_bitrate(self._meter.read(), kilobits and kilobits * 1000, pixels, rate)

    def _is_off(self, recipe: VideoRecipe) -> bool:
        if self._bitrate or self._meter.read() is None:
            return False
        wanted = self._source_bitrate(recipe.width * recipe.height, float(recipe.rate))
        return not recipe.bitrate / _OFF <= wanted <= recipe.bitrate * _OFF

    def _send(self, units: list[AccessUnit]) -> None:
        for unit in units:
            self._link.send(wire.Message.UNIT, wire.encode_unit(unit))


def _words(mark: Mark, color: Rgba) -> Words | None:
    return Words(mark.text, mark.size, color, mark.left, mark.top) if mark.text else None


def work(link: child.Link) -> None:
    """Until END, or until the gateway closes the link. The first frame is SETUP."""
    first = link.receive()
    if first is None:
        return
    assert first[0] == WatermarkMessage.SETUP, "what the gateway sends first"
    worker = WatermarkWorker(link, wire.read_json(first[1]))
    try:
        while (message := link.receive()) is not None:
            kind, body = message
            if kind == wire.Message.UNIT:
                worker.unit(body)
            elif kind == wire.Message.TRACKS:
                worker.begin(wire.decode_tracks(body))
            elif kind == WatermarkMessage.MARK:
                worker.wear(Mark.decode(body))
            elif kind == wire.Message.END:
                worker.finish()
                link.send(wire.Message.END, wire.encode_end())
                return
    except CodecFailed as error:
        link.send(WatermarkMessage.UNFIT, wire.write_json({"reason": str(error)}))


if __name__ == "__main__":
    child.leave(child.run(work))
