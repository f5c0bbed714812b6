"""The common base of all packagers: attached while their stream lives, stopped for codecs that they cannot carry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from gateway.lib.gate import Gate, Waiters
from gateway.live.sink import EndReason
from gateway.media.errors import InvalidData
from gateway.media.unit import Timed
from gateway.ports.errors import OutputUnsupported

if TYPE_CHECKING:
    from gateway.live.stream import Stream
    from gateway.media.track import Tracks
    from gateway.media.unit import AccessUnit


log = structlog.get_logger(__name__)

_BATCH = 32  # units that may wait to be packaged, about 0.4 s of video and audio
_CALM = 16  # batches without a waiting client, about 7 s, after which the publisher may be read in batches, too


class Packager:
    """An Output that is its own Sink. Subclasses take tracks and units, and complete the open segment in `finish`.

    Units are packaged at once only while a client waits for the result (`waiters`). Otherwise they are packaged in
    batches, which costs a third, and on each read: a reader calls `catch_up` first. When nobody has waited for a while,
    the publisher may be read in batches, too (`Fanout.is_awaited`).

    refused: why this stream cannot be packaged, as a text for a player; None while it can.
    ready: there are playlists.
    cache: what servers made of the present state; emptied when it changes.
    broken: number of units that could not be read.
    ended: the stream has ended.
    stopped: this packager has stopped, for any reason; nothing will change any more.
    """

    def __init__(self, name: str = "", output: str = "") -> None:
        """name: of the stream; output: its name; both for logs."""
        self._name = name
        self._output = output
        self.cache: dict[object, object] = {}
        self.broken = 0
        self.refused: str | None = None
        self.ready = False
        self.ended = False
        self.stopped = False
        self.on_stopped: Callable[[], None] = lambda: None
        self.waiters = Waiters(self.catch_up)
        self.changed = Gate(self.waiters)  # opens when playlists change, and first when they begin to exist
        self._backlog: list[AccessUnit] = []
        self._calm = _CALM  # batches since a client last waited; at first none does
        self._failed = False
        self._over: asyncio.Future[None] | None = None

    @property
    def over(self) -> bool:
        """No new media will come."""
        return self.ended or self.stopped

    def begin(self, stream: Stream) -> None:
        """Takes the stream's units from now on, so that no GOP is missed before the task of `run` starts."""
        self._over = asyncio.get_running_loop().create_future()
        stream.attach(self, waits=lambda: self._calm < _CALM)

    async def run(self, stream: Stream) -> None:
        """Runs until the stream has ended. Raises OutputUnsupported for tracks that this format cannot carry."""
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
        """Packages the waiting units. An error ends the packager; it is not raised to the caller."""
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
        """Queues a unit; packages the queue if a client waits or the batch is full. Hot path."""
        if self._failed:
            return
        backlog = self._backlog
        backlog.append(unit)
        if self.waiters.count:
            self._calm = 0
            self.catch_up()
        elif len(backlog) >= _BATCH:
            self._calm += 1
            self.catch_up()

    def on_timed(self, timed: Timed) -> None:
        """Does nothing: segments carry no script data."""

    def on_end(self, reason: EndReason) -> None:
        self.catch_up()
        self.ended = True
        self.finish()
        self._settle(None)

    def on_failed(self, error: Exception) -> None:
        self._failed = True
        if isinstance(error, InvalidData):
            # Subclasses drop broken units one by one. An error here is about the configuration and will not go away.
            self.refused = str(error)
            error = OutputUnsupported(str(error))
        self._settle(error)

    # ---- for subclasses ----

    @property
    def numbers(self) -> Any:
        """The numbers with which the next packager of the stream continues."""
        raise NotImplementedError

    def take_tracks(self, tracks: Tracks) -> None:
        raise NotImplementedError

    def take(self, unit: AccessUnit) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Completes the open segment; no more units will come."""
        raise NotImplementedError

    def release(self) -> None:
        """Lets all waiting clients go on, because the output stops, at the stream's end or before."""
        raise NotImplementedError

    def warn_forced(self, times: int, target: int | None) -> None:
        """Logs that a segment had to begin without a key frame, for the `times`-th time."""
        if times & (times - 1) == 0:  # 1, 2, 4, 8 …: one line an order of magnitude
            log.warning("segment cut without a key frame", stream=self._name, output=self._output, times=times,
                        target=target)  # fmt: skip

    def note_broken(self, error: InvalidData) -> None:
        """Counts and logs a unit that could not be read."""
        self.broken += 1
        if self.broken & (self.broken - 1) == 0:
            log.info("unit dropped", stream=self._name, output=self._output, reason=str(error), times=self.broken)

    def _settle(self, error: Exception | None) -> None:
        over = self._over
        if over is not None and not over.done():
            if error is None:
                over.set_result(None)
            else:
                over.set_exception(error)
