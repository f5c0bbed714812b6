"""PushedOpus: the sink of the Opus that a publisher sends beside the tracks of its stream."""

from collections.abc import Callable

import structlog

from gateway.live.sink import PartialSink
from gateway.media.track import AccessUnit, Tracks

log = structlog.get_logger(__name__)


class PushedOpus(PartialSink):
    """Passes the units of `Stream.pushed_sound.opus` to `push`.

    changed: called when the Opus begins. Its end is only noted, until `OpusSound` has seen it: a lingering stream has
    no sound, and its publisher may come back with Opus.
    """

    def __init__(self, changed: Callable[[], None], push: Callable[[AccessUnit], None]) -> None:
        self._changed = changed
        self._push = push
        self.tracks: Tracks | None = None
        """None: the publisher sends no Opus."""
        self.was_withdrawn = False

    def on_tracks(self, tracks: Tracks) -> None:
        self.was_withdrawn = tracks.audio is None
        self.tracks = None if self.was_withdrawn else tracks
        if self.tracks is not None:
            self._changed()

    def on_unit(self, unit: AccessUnit) -> None:
        """Hot path."""
        if self.tracks is not None:
            self._push(unit)

    def on_failed(self, error: Exception) -> None:
        self.tracks, self.was_withdrawn = None, True
        log.error("pushed Opus is no longer passed on", exc_info=error)
