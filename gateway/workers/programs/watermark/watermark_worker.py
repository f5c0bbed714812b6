"""The watermark worker: decodes a stream's video, draws the watermark, and encodes at about the same bitrate."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

from gateway.live.track_changes import IntervalLimiter
from gateway.media.track import AmfValue, Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.workers.programs import program
from gateway.workers.programs.codec import (
    CodecFailed,
    DecodedPicture,
    VideoEncoder,
    VideoRecipe,
    frame_rate,
)
from gateway.workers.programs.filters import PreparedVideo
from gateway.workers.programs.watermark.colors import Rgba, parse_color
from gateway.workers.programs.watermark.fonts import FontCatalog
from gateway.workers.programs.watermark.overlay_blender import OverlayBlender
from gateway.workers.programs.watermark.overlay_image import Overlay, WatermarkPicture, compose
from gateway.workers.programs.watermark.text_renderer import TextBlock
from gateway.workers.watermark_spec import DEFAULT_COLOR, WatermarkMessage, WatermarkSpec

_UNSAID_RATE: Final = 5  # pictures for the measurement of a frame rate that the stream does not declare
_VBV: Final = 1.5  # seconds of buffer, and the highest rate as a multiple of the bitrate
_LEAST: Final = 150_000  # bits per second
_MOST: Final = 50_000_000
_LEAST_PER_PIXEL: Final = 0.02  # bits; with less, H.264 gives no usable picture
_USUAL_PER_PIXEL: Final = 0.09  # bits, if nothing is known about the source
_LEVELS: Final = (
    ("3.1", 3_600, 108_000, 17_500_000),
    ("4.1", 8_192, 245_760, 62_500_000),
    ("4.2", 8_704, 522_240, 62_500_000),
    ("5.1", 36_864, 983_040, 300_000_000),
    ("5.2", 36_864, 2_073_600, 300_000_000),
    ("6.2", 139_264, 16_711_680, 1_000_000_000),
)
_METERED_SECONDS: Final = 10.0
_OFF: Final = 1.4  # factor between the source's bitrate and ours, beyond which the encoder is changed


class Meter:
    """Measures the bitrate of the last 10 seconds, in bits per second; None before 1 second of media."""

    def __init__(self) -> None:
        self._units: deque[tuple[float, int]] = deque()
        self._bytes = 0

    def add(self, unit: AccessUnit) -> None:
        at = unit.dts / unit.track.timescale
        self._units.append((at, len(unit.payload)))
        self._bytes += len(unit.payload)
        while at - self._units[0][0] > _METERED_SECONDS or at < self._units[0][0]:
            self._bytes -= self._units.popleft()[1]

    def read(self) -> float | None:
        if len(self._units) < 2:
            return None
        seconds = self._units[-1][0] - self._units[0][0]
        # The last unit is not counted, because its duration is not known yet.
        return (self._bytes - self._units[-1][1]) * 8 / seconds if seconds >= 1 else None


def target_bitrate(measured: float | None, promised: float | None, pixels: int, rate: float) -> int:
    """Returns the bits per second for about the quality of the source.

    measured, promised: bits per second, or None. Uses the first known of measured, promised and a usual value, and
    limits it to _LEAST and _MOST. rate: frames per second.
    """
    wanted = measured or promised or _USUAL_PER_PIXEL * pixels * rate
    return round(min(_MOST, max(wanted, _LEAST, _LEAST_PER_PIXEL * pixels * rate)))


def level(pixels: int, rate: float, bitrate: float) -> str:
    """Returns the H.264 level that suffices (Table A-1; bits per second of the High profile, §A.3.3).

    The level is set explicitly and with reserve: so a new encoder with another bitrate usually writes the same
    parameter sets as the one before.
    """
    blocks = pixels / 256
    for name, most_blocks, most_a_second, most_bits in _LEVELS:
        if blocks <= most_blocks and blocks * rate <= most_a_second and bitrate <= most_bits:
            return name
    return _LEVELS[-1][0]


class WatermarkWorker:
    """Draws the watermark on the pictures of one stream, from SETUP to END."""

    def __init__(self, link: program.ParentLink, setup: dict[str, Any]) -> None:
        self._link = link
        self._preset = str(setup["preset"])
        self._threads = int(setup["threads"])
        self._bitrate = int(setup["bitrate"])
        self._after = int(setup["after"])  # decode time in ms up to which viewers have already got pictures
        self._book = FontCatalog(str(setup["font"]))
        self._mark = WatermarkSpec()
        self._overlay: tuple[Overlay, int, int] | None = None  # with the picture size that it is for
        self._blend = OverlayBlender()
        self._tracks: Tracks | None = None
        self._video: PreparedVideo | None = None
        self._meter = Meter()
        self._held: list[DecodedPicture] = []  # until the frame rate is known
        self._encoder: VideoEncoder | None = None
        self._lead = 0  # of the last key picture, in ticks
        self._pace = IntervalLimiter()  # limits changes of the picture size

    def wear(self, body: bytes) -> None:
        """Sets the watermark of the next pictures: a WatermarkSpec."""
        self._mark = WatermarkSpec.decode(body)
        self._overlay = None

    def change(self, tracks: Tracks) -> None:
        """Begins another stream, or continues one after a break. Raises CodecFailed."""
        self._flush()
        self._tracks = tracks
        self._video = PreparedVideo(tracks.video, self._threads) if tracks.video is not None else None
        self._meter = Meter()

    def take(self, unit: AccessUnit) -> None:
        """Takes one unit of the source. Raises CodecFailed."""
        if self._video is None:
            return
        self._meter.add(unit)
        for picture in self._video.decode(unit):
            self._picture(picture)

    def finish(self) -> None:
        """Sends the last pictures and the end."""
        self._flush()
        self._link.send_end()

    def _flush(self) -> None:
        """Sends everything that is still held back."""
        if self._video is not None:
            for picture in self._video.flush():
                self._picture(picture)
        self._release()
        if self._encoder is not None:
            self._link.send_units(self._encoder.flush())
            self._encoder = None

    # ---- pictures ----

    def _picture(self, picture: DecodedPicture) -> None:
        assert self._video is not None, "it made the picture"
        if picture.key:
            self._lead = picture.lead
        if (picture.pts - self._lead) * 1000 // self._video.decoder.track.timescale <= self._after:
            return
        if self._encoder is not None:
            self._encode(picture)
            return
        if not self._held:
            # Viewers continue here after a worker died, so the first picture has to be a key frame.
            picture = replace(picture, key=True, lead=self._lead)
        self._held.append(picture)
        if self._rate_is_said() or len(self._held) > _UNSAID_RATE:
            self._release()

    def _release(self) -> None:
        held, self._held = self._held, []
        if not held or self._video is None:
            return
        timescale = self._video.decoder.track.timescale
        rate = frame_rate(
            [p.pts for p in held], timescale, self._video.decoder.claimed_rate or self._promised("framerate")
        )
        self._open(held[0], rate)
        for picture in held:
            self._encode(picture)

    def _rate_is_said(self) -> bool:
        assert self._video is not None, "asked for its pictures"
        return bool(self._video.decoder.claimed_rate or self._promised("framerate"))

    def _promised(self, name: str) -> float | None:
        """Returns a number of the publisher's metadata if it is plausible, else None."""
        value: AmfValue = None if self._tracks is None else self._tracks.metadata.get(name)
        return float(value) if isinstance(value, float) and 1 <= value <= 1e6 else None

    def _encode(self, picture: DecodedPicture) -> None:
        assert self._encoder is not None, "opened for the first picture"
        recipe = self._encoder.recipe
        size = (picture.frame.width & ~1, picture.frame.height & ~1)
        other = size != (recipe.width, recipe.height)
        if other and not self._pace.take(time.monotonic()):
            return  # left out, because each change of size is a new epoch for all viewers
        if other or self._encoder.outrun:
            rate = recipe.rate * 2 if self._encoder.outrun else recipe.rate
            picture = replace(picture, key=True, lead=self._lead)
            self._open(picture, min(rate, Fraction(240)))
        elif picture.key and self._is_off(recipe):
            self._open(picture, recipe.rate)
        self._dress(*size)
        self._link.send_units(self._encoder.encode(self._blend.apply(picture.frame), picture))

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
        emblem = WatermarkPicture(mark.picture, mark.width, mark.height, mark.left, mark.top) if mark.picture else None
        overlay = compose(words, emblem, width, height, self._book)
        self._overlay = overlay, width, height
        self._blend.wear(overlay)
        self._link.send_json(WatermarkMessage.NOTES, notes=[*notes, *overlay.notes])

    # ---- the encoder ----

    def _open(self, like: DecodedPicture, rate: Fraction) -> None:
        """Opens an encoder for pictures like this one. Equal parameter sets continue the stream without a break."""
        assert self._video is not None, "it made the picture"
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
            rate=rate,
            timescale=self._video.decoder.track.timescale,
            preset=self._preset,
            profile="high",
            threads=self._threads,
            sample_aspect=self._video.decoder.sample_aspect,
            level=level(width * height, float(rate), bitrate * _VBV),
        )
        encoder = VideoEncoder(recipe, frame)
        if before is not None:
            self._link.send_units(before.flush())
        if before is None or before.track != encoder.track:
            assert self._tracks is not None, "set before the first unit"
            self._link.send_tracks(Tracks(encoder.track, None, self._tracks.epoch))
        self._encoder = encoder

    def _source_bitrate(self, pixels: int, rate: float) -> int:
        kilobits = self._promised("videodatarate")
        return target_bitrate(self._meter.read(), kilobits and kilobits * 1000, pixels, rate)

    def _is_off(self, recipe: VideoRecipe) -> bool:
        if self._bitrate or self._meter.read() is None:
            return False
        wanted = self._source_bitrate(recipe.width * recipe.height, float(recipe.rate))
        return not recipe.bitrate / _OFF <= wanted <= recipe.bitrate * _OFF


def _words(mark: WatermarkSpec, color: Rgba) -> TextBlock | None:
    return TextBlock(mark.text, mark.size, color, mark.left, mark.top) if mark.text else None


def work(link: program.ParentLink) -> None:
    """Runs until END or until the gateway closes the link. The first frame has to be SETUP."""
    setup = link.receive_order(WatermarkMessage.SETUP)
    if setup is None:
        return
    worker = WatermarkWorker(link, wire.read_json(setup))
    try:
        program.serve(link, worker, {WatermarkMessage.MARK: worker.wear})
    except CodecFailed as error:
        link.send_json(WatermarkMessage.UNFIT, reason=str(error))


if __name__ == "__main__":
    program.exit_now(program.run(work))
