"""One rung: a thread that scales, encodes and sends pictures, and sends the audio in its place between them."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

import av

from gateway.media.track import MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.workers.ladder_plan import FittedStep
from gateway.workers.programs import program
from gateway.workers.programs.codec import CodecFailed, DecodedPicture, VideoEncoder, VideoRecipe
from gateway.workers.programs.filters import Scaler

# Pictures and audio units in the queue of a rung: about a quarter of a second. A full queue blocks the decoder, then
# the socket, then the gateway, which drops whole groups of pictures.
_MAX_WAITING: Final = 24


@dataclass(frozen=True, slots=True)
class StepSettings:
    """The settings of a rung, which `StepEncoder.change` can replace.

    fitted: the rung and the size of its pictures. encoder, preset, threads: those of the LadderPlan.
    epoch, timescale: of the source. rate: of its pictures, frames per second. audio: the audio track of the rung.
    """

    fitted: FittedStep
    encoder: str
    preset: str
    threads: int
    epoch: int
    timescale: int
    rate: Fraction
    audio: MediaTrack | None


_Work: TypeAlias = DecodedPicture | AccessUnit | StepSettings | None


class StepEncoder:
    """Scales and encodes the pictures of one rung in its own thread.

    Only the decoding thread calls `put`, which blocks while the rung is late.
    An unexpected error in a rung ends the process: a ladder with a missing rung would not be noticed.
    """

    def __init__(self, terms: StepSettings, link: program.ParentLink, complain: Callable[[str], None]) -> None:
        """complain: called with one line that says why this rung gives no pictures."""
        self.terms = terms
        self.outrun = False  # see VideoEncoder.outrun; read by the decoding thread
        self._link = link
        self._complain = complain
        self._to = 1 << terms.fitted.rung.slot
        self._scaler: Scaler | None = None
        self._encoder: VideoEncoder | None = None
        self._refused = False
        self._queue: queue.Queue[_Work] = queue.Queue(_MAX_WAITING)
        self._thread = program.start_thread(lambda: self._run(terms), terms.fitted.rung.name)

    def put(self, work: DecodedPicture | AccessUnit) -> None:
        """Queues the next picture or audio unit (of the track in `terms`), in the source's order. May block."""
        self._queue.put(work)

    def change(self, terms: StepSettings) -> None:
        """Queues new settings. Pictures before are encoded with the old ones; the next begins with a key frame."""
        self.terms = terms
        self.outrun = False
        self._queue.put(terms)

    def finish(self) -> None:
        """Lets the thread encode the queue, send END and end. `join` waits for that."""
        self._queue.put(None)

    def join(self) -> None:
        self._thread.join()

    # ---- in the thread ----

    def _run(self, terms: StepSettings) -> None:
        while (work := self._queue.get()) is not None:
            if isinstance(work, DecodedPicture):
                self._encode(work, terms)
            elif isinstance(work, StepSettings):
                self._flush()
                terms = work
            elif self._encoder is not None:
                self._link.send_units((work,), self._to)
        self._flush()
        self._link.send_end(self._to)

    def _encode(self, picture: DecodedPicture, terms: StepSettings) -> None:
        if self._refused:
            return
        try:
            units = self._coded(picture, terms)
        except (CodecFailed, av.FFmpegError) as error:
            # The pictures cannot be scaled or encoded. The other rungs go on; this one tries again with its next terms.
            self._refused = True
            self._complain(f"{terms.fitted.rung.name}: {error}")
            return
        self._link.send_units(units, self._to)

    def _coded(self, picture: DecodedPicture, terms: StepSettings) -> list[AccessUnit]:
        if self._scaler is None:
            self._scaler = Scaler(terms.fitted.width, terms.fitted.height)
        frame = self._scaler.scale(picture.frame)
        encoder = self._encoder
        if encoder is None:
            encoder = self._encoder = VideoEncoder(_recipe(terms), frame)
            self._announce(encoder.track, terms)
        units = encoder.encode(frame, picture)
        if encoder.outrun and terms is self.terms:
            self.outrun = True
        return units

    def _flush(self) -> None:
        encoder, self._encoder = self._encoder, None
        self._refused, self._scaler = False, None
        if encoder is not None:
            self._link.send_units(encoder.flush(), self._to)

    def _announce(self, video: MediaTrack, terms: StepSettings) -> None:
        fitted = terms.fitted
        metadata = {
            "width": float(fitted.width),
            "height": float(fitted.height),
            "framerate": round(float(terms.rate), 3),
            "videodatarate": fitted.rung.bitrate / 1000,
        }
        tracks = Tracks(video, terms.audio, terms.epoch, dict(metadata))
        self._link.send_tracks(tracks, self._to)


def _recipe(terms: StepSettings) -> VideoRecipe:
    fitted = terms.fitted
    return VideoRecipe(
        encoder=terms.encoder,
        width=fitted.width,
        height=fitted.height,
        bitrate=fitted.rung.bitrate,
        maxrate=round(fitted.rung.bitrate * fitted.rung.vbv),
        rate=terms.rate,
        timescale=terms.timescale,
        preset=terms.preset,
        threads=terms.threads,
    )
