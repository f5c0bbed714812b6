"""What packagers have in common as outputs: attached while their stream lives, given up for codecs they cannot take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.hub.errors import OutputUnsupported
from gateway.hub.stream import EndReason
from gateway.media.errors import InvalidData
from gateway.media.unit import Timed
from gateway.packagers.gate import Gate, Waiters

if TYPE_CHECKING:
    from gateway.hub.stream import Stream
    from gateway.media.track import Tracks
    from gateway.media.unit import AccessUnit


_BATCH = 32  # units that may wait to be packaged, about 0.4 s of picture and sound


class Packager:
    """An Output that is its own Sink. Subclasses take tracks and units, and finish what is open in `finish`.

    Units are packaged at once only while somebody waits for what they make (`waiters`); else a batch at a time, which
    costs a third, and whenever somebody asks: whoever reads calls `catch_up` first.

    refused: why this stream cannot be packaged, in words for a player; None while it can. ready: there are playlists.
    ended: the stream has ended. stopped: this packager has, for whatever reason; nothing will change any more.
    """

    def __init__(self) -> None:
        self.refused: str | None = None
        self.ready = False
        self.ended = False
        self.stopped = False
        self.on_stopped: Callable[[], None] = lambda: None
        self.waiters = Waiters(self.catch_up)
        self.changed = Gate(self.waiters)  # opens when playlists change, before all when they begin to exist
        self._backlog: list[AccessUnit] = []
        self._failed = False
        self._over: asyncio.Future[None] | None = None

    @property
    def over(self) -> bool:
        """Nothing new will come."""
        return self.ended or self.stopped

    def begin(self, stream: Stream) -> None:
        """Takes the stream's units from now on: no GOP is missed while the task that runs this starts."""
        self._over = asyncio.get_running_loop().create_future()
        stream.attach(self)

    async def run(self, stream: Stream) -> None:
        """Until the stream has ended. Raises OutputUnsupported for tracks that this form cannot carry."""
        if self._over is None:
            self.begin(stream)
        assert self._over is not None
        try:
            await self._over
        finally:
            stream.detach(self)
            self.stopped = True
            self.release()
            self.on_stopped()

    def catch_up(self) -> None:
        """Packages what waits. What goes wrong ends the packager, not its caller."""
        units, self._backlog = self._backlog, []
        try:
            for unit in units:
                self.take(unit)
        except Exception as error:
            self.on_failed(error)

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        self.catch_up()
        self.take_tracks(tracks)

    def on_unit(self, unit: AccessUnit) -> None:
        """Hot."""
        if self._failed:
            return
        backlog = self._backlog
        backlog.append(unit)
        if self.waiters.count or len(backlog) >= _BATCH:
            self.catch_up()

    def on_timed(self, timed: Timed) -> None:
        """Script data has no place in segments."""

    def on_end(self, reason: EndReason) -> None:
        self.catch_up()
        self.ended = True
        self.finish()
        self._settle(None)

    def on_failed(self, error: Exception) -> None:
        self._failed = True
        if isinstance(error, InvalidData):
            # Broken units are dropped one by one; what comes here is a configuration that will not get better.
            self.refused = str(error)
            error = OutputUnsupported(str(error))
        self._settle(error)

    # ---- what a form does ----

    def take_tracks(self, tracks: Tracks) -> None:
        raise NotImplementedError

    def take(self, unit: AccessUnit) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Completes what is open; no more units will come."""
        raise NotImplementedError

    def release(self) -> None:
        """The output stops, ended or not: whoever waits for it must be let go."""
        raise NotImplementedError

    def _settle(self, error: Exception | None) -> None:
        over = self._over
        if over is not None and not over.done():
            if error is None:
                over.set_result(None)
            else:
                over.set_exception(error)
