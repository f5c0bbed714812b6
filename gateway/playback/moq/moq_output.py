"""The output `moq` of one stream: its broadcast, while it has viewers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from gateway.lib.viewer_memory import ViewerMemory
from gateway.lib.waiting import wait_at_most
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.packaging.feed import FeedCounts
from gateway.packaging.services import PackagingServices
from gateway.playback.play_format import FormatCode

if TYPE_CHECKING:
    from gateway.packaging.moq_broadcast import Broadcast  # it loads the library

KIND: Final = "moq"
# Time for the ends of tracks before their session ends. The renderer of Chromium 156 crashes if it gets both at once.
_END_SECONDS: Final = 1.0


class MoqViewer(Protocol):
    """One session. `end` closes it; then it leaves the output."""

    def end(self, reason: str) -> None: ...


class MoqOutput:
    """Without viewers it has no broadcast and costs nothing.

    cache_bytes: limit of the units that the library keeps. counts: counts the bytes of viewers.
    memory: counts and limits what waits for viewers that do not read.
    """

    def __init__(self, stream: Stream, cache_bytes: int, counts: FeedCounts, memory: ViewerMemory) -> None:
        self.stream = stream
        self.memory = memory
        self._cache_bytes = cache_bytes
        self._counts = counts
        self._broadcast: Broadcast | None = None
        self._viewers: set[MoqViewer] = set()
        self._empty = asyncio.Event()  # it has no viewers
        self._empty.set()

    def join(self, viewer: MoqViewer) -> Broadcast:
        """Counts a viewer, and returns the broadcast for its session."""
        from gateway.packaging.moq_broadcast import Broadcast

        broadcast = self._broadcast
        if broadcast is None:
            broadcast = self._broadcast = Broadcast(self.stream.name, self._cache_bytes, self._failed)
            self.stream.attach(broadcast)
        self._viewers.add(viewer)
        self._empty.clear()
        self.stream.viewers[KIND] += 1
        self.stream.playback.uses += 1
        return broadcast

    def leave(self, viewer: MoqViewer) -> None:
        """Removes a viewer. Idempotent."""
        if viewer not in self._viewers:
            return
        self._viewers.remove(viewer)
        self.stream.viewers[KIND] -= 1
        self.stream.playback.uses -= 1
        if not self._viewers:
            self._close()
            self._empty.set()

    @property
    def written(self) -> int:
        """Bytes of units that the present broadcast has got."""
        return self._broadcast.written if self._broadcast is not None else 0

    def count_sent(self, size: int) -> None:
        self._counts.sent[KIND] += size
        self.stream.tally.sent += size

    def count_stalled(self) -> None:
        self._counts.stalled += 1

    async def run(self, stream: Stream) -> None:
        """Implements StreamOutput: ends the broadcast with the stream, and then the viewers.

        If the output is switched off, it ends the viewers. The last one that leaves closes the broadcast.
        """
        try:
            await stream.over()
            self._close()
            await wait_at_most(_END_SECONDS, self._empty)
        finally:
            self._end_all(str(stream.ended or EndReason.OUTPUT_OFF))

    def _failed(self, error: Exception) -> None:
        """Ends the viewers. The next one gets a new broadcast."""
        asyncio.get_running_loop().call_exception_handler({"message": "a MoQ broadcast failed", "exception": error})
        self._close()
        self._end_all("an internal error")

    def _end_all(self, reason: str) -> None:
        for viewer in list(self._viewers):
            viewer.end(reason)

    def _close(self) -> None:
        broadcast, self._broadcast = self._broadcast, None
        if broadcast is not None:
            self.stream.detach(broadcast)
            broadcast.close()


def _packager(services: PackagingServices) -> Callable[[Stream], MoqOutput]:
    return lambda stream: MoqOutput(stream, services.settings.stream.gop_bytes, services.feeds, services.backlogs)


CODE: Final = FormatCode(_packager)
