"""One rung at work: a thread that scales and encodes the pictures it is given and sends them off, sound in between."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

import av

from gateway.media.track import Track, Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.protocols.wire import Message
from gateway.transcode import child
from gateway.transcode.codec import CodecFailed, Picture, VideoEncoder, VideoRecipe
from gateway.transcode.filters import Scaler
from gateway.transcode.ladder import Fitted

# Pictures and sounds that wait for a rung: about a quarter of a second. A full queue holds the decoder back, and that
# the socket, and that the gateway, which then drops whole groups of pictures.
_MOST_WAITING: Final = 24


@dataclass(frozen=True, slots=True)
class Terms:
    """What a rung encodes until further notice.

    fitted: the rung and its pictures' size; encoder, preset, threads: as of ladder.Plan; epoch, timescale: the
    source's; rate: of its pictures, frames a second; audio: the sound that goes along.
    """

    fitted: Fitted
    encoder: str
    preset: str
    threads: int
    epoch: int
    timescale: int
    rate: Fraction
    audio: Track | None


_Work: TypeAlias = Picture | AccessUnit | Terms | None


class RungThread:
    """`put` belongs to the decoding thread and blocks while the rung is behind; everything else happens in the rung's
    own thread. A rung that fails in a way nobody foresaw ends the process: half a ladder would go unnoticed."""

    def __init__(self, terms: Terms, send: Callable[[int, bytes], None], complain: Callable[[str], None]) -> None:
        """complain: told in one line why this rung gives no pictures."""
        self.terms = terms
        self.outrun = False  # see VideoEncoder.outrun; read by the decoding thread
        self._send = send
        self._complain = complain
        self._to = 1 << terms.fitted.rung.slot
        self._scaler: Scaler | None = None
        self._encoder: VideoEncoder | None = None
        self._refused = False
        self._queue: queue.Queue[_Work] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._run, args=(terms,), name=terms.fitted.rung.name, daemon=True)
        self._thread.start()

    def put(self, work: Picture | AccessUnit) -> None:
        """The next picture, or unit of sound (of the track in `terms`), in the source's order."""
        self._queue.put(work)

    def change(self, terms: Terms) -> None:
        """What waits is encoded; what comes next is encoded anew, beginning with a key frame."""
        self.terms = terms
        self.outrun = False
        self._queue.put(terms)

    def finish(self) -> None:
        """Encodes what waits and says END; `join` waits for that."""
        self._queue.put(None)

    def join(self) -> None:
        self._thread.join()

    # ---- in the thread ----

    def _run(self, terms: Terms) -> None:
        try:
            while (work := self._queue.get()) is not None:
                if isinstance(work, Picture):
                    self._encode(work, terms)
                elif isinstance(work, Terms):
                    self._flush()
                    terms = work
                elif self._encoder is not None:
                    self._send(Message.UNIT, wire.encode_unit(work, self._to))
            self._flush()
            self._send(Message.END, wire.encode_end(self._to))
        except OSError:
            child.leave(0)  # the gateway is gone
        except BaseException:
            child.say(traceback.format_exc())
            child.leave(1)

    def _encode(self, picture: Picture, terms: Terms) -> None:
        if self._refused:
            return
        try:
            units = self._coded(picture, terms)
        except (CodecFailed, av.FFmpegError) as error:
            # Pictures that cannot be scaled or encoded: the other rungs go on, and this one tries with its next terms.
            self._refused = True
            self._complain(f"{terms.fitted.rung.name}: {error}")
            return
        self._deliver(units)

    def _coded(self, picture: Picture, terms: Terms) -> list[AccessUnit]:
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
            self._deliver(encoder.flush())

    def _deliver(self, units: list[AccessUnit]) -> None:
        for unit in units:
            self._send(Message.UNIT, wire.encode_unit(unit, self._to))

    def _announce(self, video: Track, terms: Terms) -> None:
        fitted = terms.fitted
        metadata = {
            "width": float(fitted.width),
            "height": float(fitted.height),
            "framerate": round(float(terms.rate), 3),
            "videodatarate": fitted.rung.bitrate / 1000,
        }
        tracks = Tracks(video, terms.audio, terms.epoch, dict(metadata))
        self._send(Message.TRACKS, wire.encode_tracks(tracks, self._to))


def _recipe(terms: Terms) -> VideoRecipe:
    fitted = terms.fitted
    most = round(fitted.rung.bitrate * fitted.rung.vbv)
    return VideoRecipe(
        encoder=terms.encoder,
        width=fitted.width,
        height=fitted.height,
        bitrate=fitted.rung.bitrate,
        maxrate=most,
        bufsize=most,
        rate=terms.rate,
        timescale=terms.timescale,
        preset=terms.preset,
        threads=terms.threads,
    )
