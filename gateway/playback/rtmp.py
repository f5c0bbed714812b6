"""Connects one RTMP player to a feed, and handles pause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.packaging.feed import Feed
from gateway.packaging.rtmp_output import RtmpOutput
from gateway.packaging.services import PackagingServices
from gateway.packaging.viewer import Viewer
from gateway.playback.play_format import PlayAddress, PlayFormat


class _NoFraming:
    """RTMP needs no framing: rendered messages are chunks already, and each connection's own core reports the end."""

    kind = "rtmp"

    def wrap(self, data: bytes) -> bytes:
        return data

    def last(self, reason: EndReason) -> bytes:
        return b""


_FRAMING = _NoFraming()


class RtmpPlayback:
    """A player on `feed`.

    ended: called once when the stream ends. flooded: called if it joins repeatedly without reading.
    """

    def __init__(
        self,
        feed: Feed,
        transport: asyncio.Transport,
        backlog: int,
        address: str,
        ended: Callable[[EndReason], None],
        flooded: Callable[[], None],
    ) -> None:
        self._feed = feed
        self._transport = transport
        self._backlog = backlog
        self._address = address
        self._ended = ended
        self._flooded = flooded
        self._viewer: Viewer | None = None

    @property
    def paused(self) -> bool:
        return self._viewer is None

    def join(self, *, burst: bool = True, early: bool = False) -> None:
        """Onto the feed. Without burst: from the next key frame on, for a player that has seen the pictures so far.

        early: it waited for the stream, which it gets from the first frame.
        """
        transport = self._transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > self._feed.backlog(self._backlog):
            self._flooded()
            return
        self._viewer = Viewer(transport, _FRAMING, self._backlog, self._address, self._ended, waited_for_start=early)
        self._feed.join(self._viewer, burst=burst)

    def pause(self, paused: bool) -> None:
        if paused:
            self.leave()
        elif self._viewer is None:
            self.join(burst=False)

    def leave(self) -> None:
        viewer, self._viewer = self._viewer, None
        if viewer is not None:
            self._feed.leave(viewer)

    def look(self) -> None:
        """Notices the end of the stream during a pause, when no feed reports it."""
        reason = self._feed.stream.ended
        if self._viewer is None and reason is not None:
            self._ended(reason)


def _packager(services: PackagingServices) -> Callable[[Stream], RtmpOutput]:
    chunk = services.settings.rtmp.chunk_size
    return lambda stream: RtmpOutput(chunk, lambda rendering: services.feed(stream, rendering))


# `ingest.rtmp` answers its players, because they and publishers connect alike.
FORMAT: Final = PlayFormat(
    output="rtmp", flag="", addresses=(PlayAddress("rtmp", "", "RTMP", "rtmp"),), packager=_packager, pulled=True
)
