"""The encoder of one rendition: a thread that scales, encodes and sends pictures, and audio in order with them."""

import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import av

from gateway.media.track import AccessUnit, AmfValue, MediaTrack, Tracks
from gateway.workers.ladder_plan import LadderStep
from gateway.workers.programs import program
from gateway.workers.programs.codec import CodecFailed, DecodedPicture, VideoEncoder, VideoRecipe
from gateway.workers.programs.filters import Scaler

# Pictures and audio units in the queue of a rendition: about a quarter of a second. A full queue blocks the decoder,
# then the socket, then the gateway, which drops whole groups of pictures.
_MAX_QUEUED: Final = 24
_RETRY_SECONDS: Final = 10  # of source time between attempts to encode again after failures


@dataclass(frozen=True, slots=True)
class StepSettings:
    """The settings of a rendition, which `StepEncoder.change` can replace.

    recipe: of the video encoder. epoch: of the source. audio: the audio track of the rendition.
    every: n, if only every n-th picture after a key picture is encoded.
    """

    step: LadderStep
    recipe: VideoRecipe
    epoch: int
    audio: MediaTrack | None
    every: int = 1


_Item: TypeAlias = DecodedPicture | AccessUnit | StepSettings | None


class StepEncoder:
    """Scales and encodes the pictures of one rendition in its own thread.

    Only the decoding thread calls `put`, which blocks while the rendition is late.
    An unexpected error ends the process, so that the gateway notices it: it would not notice a missing rendition.

    If a picture cannot be encoded, the rendition continues at the next key picture. Later attempts are 10 s apart,
    because in some sources every picture is a key picture.

    report_error: called with one line if the pictures of this rendition cannot be encoded; with None if they can again.
    """

    def __init__(
        self, settings: StepSettings, link: program.ParentLink, report_error: Callable[[str | None], None]
    ) -> None:
        self.settings = settings
        self.outrun = False  # see VideoEncoder.outrun; read by the decoding thread
        self._link = link
        self._report_error = report_error
        self._to = 1 << settings.step.slot
        self._scaler: Scaler | None = None
        self._encoder: VideoEncoder | None = None
        self._failed = False
        self._retry_pts: int | None = None  # ticks; after a failure, earlier pictures are not tried
        self._since_key = 0  # pictures of the source since the last key picture
        self._queue: queue.Queue[_Item] = queue.Queue(_MAX_QUEUED)
        self._thread = program.start_thread(lambda: self._run(settings), settings.step.name)

    def put(self, item: DecodedPicture | AccessUnit) -> None:
        """Queues the next picture or audio unit (of the track in `settings`), in the source's order. May block."""
        self._queue.put(item)

    def change(self, settings: StepSettings) -> None:
        """Queues new settings. They apply from the next picture, which becomes a key frame."""
        self.settings = settings
        self.outrun = False
        self._queue.put(settings)

    def finish(self) -> None:
        """Queues the end: the thread then sends END and ends. `join` waits for it."""
        self._queue.put(None)

    def join(self) -> None:
        self._thread.join()

    # ---- in the thread ----

    def _run(self, settings: StepSettings) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, DecodedPicture):
                self._encode(item, settings)
            elif isinstance(item, StepSettings):
                self._flush()
                self._retry_pts = None  # the next pictures may have earlier times
                settings = item
            elif self._encoder is not None:
                self._link.send_units((item,), self._to)
        self._flush()
        self._link.send_end(self._to)

    def _encode(self, picture: DecodedPicture, settings: StepSettings) -> None:
        self._since_key = 0 if picture.key else self._since_key + 1
        retries = self._failed and picture.key and (self._retry_pts is None or picture.pts >= self._retry_pts)
        if (self._failed and not retries) or self._since_key % settings.every:
            return
        if retries:
            self._flush()
            self._retry_pts = picture.pts + _RETRY_SECONDS * settings.recipe.timescale
        try:
            units = self._encode_units(picture, settings)
        except (CodecFailed, av.FFmpegError) as error:
            # The pictures cannot be scaled or encoded. The other renditions continue.
            self._failed = True
            reason = str(error) if isinstance(error, CodecFailed) else "its pictures cannot be scaled or encoded"
            self._report_error(f"{settings.step.name}: {reason}")
            return
        if retries:
            self._report_error(None)
        self._link.send_units(units, self._to)

    def _encode_units(self, picture: DecodedPicture, settings: StepSettings) -> list[AccessUnit]:
        if self._scaler is None:
            self._scaler = Scaler(settings.recipe.width, settings.recipe.height)
        frame = self._scaler.scale(picture.frame)
        encoder = self._encoder
        if encoder is None:
            encoder = self._encoder = VideoEncoder(settings.recipe, frame)
            self._announce(encoder.track, settings)
        units = encoder.encode(frame, picture)
        if encoder.outrun and settings is self.settings:
            self.outrun = True
        return units

    def _flush(self) -> None:
        encoder, self._encoder = self._encoder, None
        failed, self._failed, self._scaler = self._failed, False, None
        if encoder is not None and not failed:  # the delayed picture of a failed encoder would come too late
            self._link.send_units(encoder.flush(), self._to)

    def _announce(self, video: MediaTrack, settings: StepSettings) -> None:
        recipe = settings.recipe
        size: dict[str, AmfValue] = {"width": float(recipe.width), "height": float(recipe.height)}
        rates = {"framerate": round(float(recipe.rate), 3), "videodatarate": recipe.bitrate / 1000}
        self._link.send_tracks(Tracks(video, settings.audio, settings.epoch, {**size, **rates}), self._to)
