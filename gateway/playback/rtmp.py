"""Connects one RTMP player to a feed, and handles pause."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.packaging.feed import Feed
from gateway.packaging.rtmp_output import RtmpOutput
from gateway.packaging.services import PackagingServices
from gateway.packaging.viewer import Viewer
from gateway.playback.framing import RTMP
from gateway.playback.play_format import FormatCode


@dataclass(slots=True, eq=False)
class RtmpPlayback:
    """A player that gets `feed`. It uses the stream until `leave`, also while it is paused.

    backlog: bytes that may always wait for the player. `Feed.backlog` allows more at a high bit rate.
    on_end: called once when the stream ends. on_flood: called if the player joins repeatedly without reading.
    """

    feed: Feed
    transport: asyncio.Transport
    backlog: int
    address: str
    on_end: Callable[[EndReason], None]
    on_flood: Callable[[], None]
    _viewer: Viewer | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.feed.stream.playback.uses += 1

    @property
    def paused(self) -> bool:
        return self._viewer is None

    def join(self, *, burst: bool = True, early: bool = False) -> None:
        """Joins the feed.

        burst: whether it gets the GOP cache first. False after a pause: it then starts at the next key frame.
        early: whether it waited for the stream. It then gets the stream from the first frame.
        """
        transport = self.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > self.feed.backlog(self.backlog):
            self.on_flood()
            return
        self._viewer = Viewer(transport, RTMP, self.backlog, self.address, self.on_end, waited_for_start=early)
        self.feed.join(self._viewer, burst=burst)

    def pause(self, paused: bool) -> None:
        if paused:
            self._leave_feed()
        elif self._viewer is None:
            self.join(burst=False)

    def leave(self) -> None:
        """Ends the playback. Called at most once."""
        self._leave_feed()
        self.feed.stream.playback.uses -= 1

    def _leave_feed(self) -> None:
        viewer, self._viewer = self._viewer, None
        if viewer is not None:
            self.feed.leave(viewer)

    def check(self) -> None:
        """Reports the end of the stream during a pause, because the feed does not report it then."""
        reason = self.feed.stream.ended
        if self._viewer is None and reason is not None:
            self.on_end(reason)


def _packager(services: PackagingServices) -> Callable[[Stream], RtmpOutput]:
    return lambda stream: RtmpOutput(lambda rendering: services.make_feed(stream, rendering))


CODE: Final = FormatCode(_packager)
