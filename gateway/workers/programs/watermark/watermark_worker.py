"""The watermark worker: decodes a stream's video, draws the watermark, and encodes at about the same bitrate."""

import time
from collections import deque
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

from gateway.lib import lean_structlog as lean_structlog  # imported for its side effect
from gateway.live.track_changes import IntervalLimiter
from gateway.media.track import AccessUnit, Tracks
from gateway.protocols import wire
from gateway.workers.messages import WorkerMessage
from gateway.workers.programs import program
from gateway.workers.programs.codec import CodecFailed, DecodedPicture, VideoEncoder, VideoRecipe
from gateway.workers.programs.filters import PreparedVideo
from gateway.workers.programs.video_reencoder import VideoReencoder
from gateway.workers.programs.watermark.fonts import FontCatalog
from gateway.workers.programs.watermark.overlay_blender import OverlayBlender
from gateway.workers.programs.watermark.overlay_image import compose
from gateway.workers.watermark_spec import WatermarkSpec

_RATE_PICTURES: Final = 5  # pictures to measure the frame rate, if the stream declares none
_VBV: Final = 1.5  # maximum bits in one second, and buffer size, as a multiple of the bitrate
_MIN_BITRATE: Final = 150_000  # bits per second
_MAX_BITRATE: Final = 50_000_000
_MIN_PER_PIXEL: Final = 0.02  # bits; with less, H.264 pictures are not usable
_USUAL_PER_PIXEL: Final = 0.09  # bits, if the bitrate of the source is unknown
_LEVELS: Final = (  # name, maximum macroblocks of a picture and per second, maximum bits per second
    ("3.1", 3_600, 108_000, 17_500_000),
    ("4.1", 8_192, 245_760, 62_500_000),
    ("4.2", 8_704, 522_240, 62_500_000),
    ("5.1", 36_864, 983_040, 300_000_000),
    ("5.2", 36_864, 2_073_600, 300_000_000),
    ("6.2", 139_264, 16_711_680, 1_000_000_000),
)
_METERED_SECONDS: Final = 10.0
_MAX_DEVIATION: Final = 1.4  # factor between the source's bitrate and ours; above it, the encoder is replaced


class BitrateMeter:
    """Measures the bitrate of the last 10 seconds."""

    def __init__(self) -> None:
        self._units: deque[tuple[float, int]] = deque()
        self._bytes = 0

    def add(self, unit: AccessUnit) -> None:
        at = unit.dts / unit.track.timescale
        self._units.append((at, len(unit.payload)))
        self._bytes += len(unit.payload)
        while at - self._units[0][0] > _METERED_SECONDS or at < self._units[0][0]:
            self._bytes -= self._units.popleft()[1]

    def bits_per_second(self) -> float | None:
        """Returns the bitrate; None before 1 second of media."""
        if len(self._units) < 2:
            return None
        seconds = self._units[-1][0] - self._units[0][0]
        # The last unit is not counted, because its duration is not known yet.
        return (self._bytes - self._units[-1][1]) * 8 / seconds if seconds >= 1 else None


def target_bitrate(measured: float | None, declared: float | None, pixels: int, rate: float) -> int:
    """Returns the bits per second for about the quality of the source.

    measured, declared: bits per second, or None. rate: frames per second. Uses the first known of measured, declared
    and a usual value. Limits it to _MIN_BITRATE and _MAX_BITRATE.
    """
    bitrate = measured or declared or _USUAL_PER_PIXEL * pixels * rate
    return round(min(_MAX_BITRATE, max(bitrate, _MIN_BITRATE, _MIN_PER_PIXEL * pixels * rate)))


def level(pixels: int, rate: float, bitrate: float) -> str:
    """Returns the lowest sufficient H.264 level (Table A-1; bits per second of the High profile, §A.3.3).

    The levels of the table are far apart. So an encoder with another bitrate usually has the same parameter sets.
    """
    blocks = pixels / 256
    for name, max_blocks, max_blocks_per_second, max_bits in _LEVELS:
        if blocks <= max_blocks and blocks * rate <= max_blocks_per_second and bitrate <= max_bits:
            return name
    return _LEVELS[-1][0]


class WatermarkWorker(VideoReencoder):
    """Draws the watermark on the pictures of one stream, from SETUP to END."""

    def __init__(self, link: program.ParentLink, setup: dict[str, Any]) -> None:
        super().__init__(link)
        self._preset = str(setup["preset"])
        self._threads = int(setup["threads"])
        self._bitrate = int(setup["bitrate"])
        self._after = int(setup["after"])  # decode time in ms; viewers already have the pictures up to it
        self._fonts = FontCatalog(str(setup["font"]))
        self._spec = WatermarkSpec()
        self._overlay_size: tuple[int, int] | None = None  # picture size of the current overlay; None: to be drawn
        self._blender = OverlayBlender()
        self._meter = BitrateMeter()
        self._lead = 0  # of the last key picture, in ticks
        self._size_changes = IntervalLimiter()

    def set_watermark(self, body: bytes) -> None:
        """Sets the watermark of the next pictures. body: a WatermarkSpec."""
        self._spec = WatermarkSpec.decode(body)
        self._overlay_size = None

    def change(self, tracks: Tracks) -> None:
        """Starts another stream, or continues one after a break. Raises CodecFailed."""
        self._flush()
        self._tracks = tracks
        self._video = PreparedVideo(tracks.video, self._threads) if tracks.video is not None else None
        self._meter = BitrateMeter()

    def take(self, unit: AccessUnit) -> None:
        """Encodes one unit of the source. Raises CodecFailed."""
        if self._video is not None:
            self._meter.add(unit)
            self._decode(unit)

    # ---- pictures ----

    def _on_picture(self, picture: DecodedPicture) -> None:
        assert self._video is not None, "it made the picture"
        if picture.key:
            self._lead = picture.lead
        if (picture.pts - self._lead) * 1000 // self._video.decoder.track.timescale <= self._after:
            return
        if self._encoder is None and not self._held:
            # If a worker died, viewers continue here. So the first picture must be a key frame.
            picture = replace(picture, key=True, lead=self._lead)
        super()._on_picture(picture)

    def _declared_rate(self) -> float | None:
        return super()._declared_rate() or self._metadata("framerate")

    def _is_rate_known(self) -> bool:
        return bool(self._declared_rate()) or len(self._held) > _RATE_PICTURES

    def _metadata(self, name: str) -> float | None:
        """Returns a number of the publisher's metadata if it is plausible, else None."""
        value = self._tracks.metadata.get(name)
        return float(value) if isinstance(value, float) and 1 <= value <= 1e6 else None

    def _encode(self, picture: DecodedPicture) -> None:
        assert self._encoder is not None, "opened for the first picture"
        recipe = self._encoder.recipe
        size = (picture.frame.width & ~1, picture.frame.height & ~1)
        new_size = size != (recipe.width, recipe.height)
        if new_size and not self._size_changes.take(time.monotonic()):
            return  # dropped, because each change of size is a new epoch for all viewers
        if new_size or self._encoder.outrun:
            rate = recipe.rate * 2 if self._encoder.outrun else recipe.rate
            picture = replace(picture, key=True, lead=self._lead)
            self._open(picture, min(rate, Fraction(240)))
        elif picture.key and self._has_wrong_bitrate(recipe):
            self._open(picture, recipe.rate)
        if size != self._overlay_size:
            self._draw_overlay(*size)
        self._link.send_units(self._encoder.encode(self._blender.apply(picture.frame), picture))

    def _draw_overlay(self, width: int, height: int) -> None:
        overlay = compose(self._spec, width, height, self._fonts)
        self._overlay_size = width, height
        self._blender.set_overlay(overlay)
        self._link.send_json(WorkerMessage.NOTE, notes=overlay.notes)

    # ---- the encoder ----

    def _open(self, picture: DecodedPicture, rate: Fraction) -> None:
        """Opens an encoder for pictures like this one. If its parameter sets are unchanged, the epoch continues."""
        assert self._video is not None, "it made the picture"
        previous = self._encoder
        frame = picture.frame
        width, height = frame.width & ~1, frame.height & ~1
        bitrate = self._bitrate or self._source_bitrate(width * height, float(rate))
        decoder = self._video.decoder
        recipe = VideoRecipe(
            "libx264", width, height, bitrate, maxrate=round(bitrate * _VBV), rate=rate,
            timescale=decoder.track.timescale, sample_aspect=decoder.sample_aspect,
            preset=self._preset, threads=self._threads,
            profile="high", level=level(width * height, float(rate), bitrate * _VBV),
        )  # fmt: skip
        encoder = VideoEncoder(recipe, frame)
        if previous is not None:
            self._link.send_units(previous.flush())
        if previous is None or previous.track != encoder.track:
            self._link.send_tracks(Tracks(encoder.track, None, self._tracks.epoch))
        self._encoder = encoder

    def _source_bitrate(self, pixels: int, rate: float) -> int:
        kilobits = self._metadata("videodatarate")
        return target_bitrate(self._meter.bits_per_second(), kilobits and kilobits * 1000, pixels, rate)

    def _has_wrong_bitrate(self, recipe: VideoRecipe) -> bool:
        if self._bitrate or self._meter.bits_per_second() is None:
            return False
        target = self._source_bitrate(recipe.width * recipe.height, float(recipe.rate))
        return not recipe.bitrate / _MAX_DEVIATION <= target <= recipe.bitrate * _MAX_DEVIATION


def work(link: program.ParentLink) -> None:
    """Runs until END or until the gateway closes the link. The first frame must be SETUP."""
    setup = link.receive_setup()
    if setup is None:
        return
    worker = WatermarkWorker(link, wire.read_json(setup))
    try:
        program.serve(link, worker, {WorkerMessage.DATA: worker.set_watermark})
    except CodecFailed as error:
        link.send(WorkerMessage.FAILED, str(error).encode())


if __name__ == "__main__":
    program.exit_now(program.run(work))
