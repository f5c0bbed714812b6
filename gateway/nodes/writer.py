"""Writer: a sink that writes a stream's units as frames to another node, bounded by dropping groups of pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.hub.fanout import EndReason
from gateway.lib.metrics import Counter
from gateway.media.track import Kind, Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.protocols import nodes, wire
from gateway.protocols.nodes import LinkMessage
from gateway.protocols.wire import Message

BACKLOG: Final = 8_000_000  # bytes that may wait for a node before whole groups of pictures are dropped
STALL_SECONDS: Final = 15.0  # a node that takes nothing for so long is cut


class UnitWriter:
    """A Sink. A node too far behind loses whole groups of pictures, which `dropped` counts as "node"."""

    def __init__(
        self,
        transport: asyncio.Transport,
        dropped: Counter,
        look: Callable[[], None] = lambda: None,
        tell: Callable[[Tracks], Tracks] = lambda tracks: tracks,
    ) -> None:
        """look: called every PING_SECONDS, before the ping. tell: called before tracks are written; gives what is."""
        self._transport = transport
        self._dropped = dropped
        self._look = look
        self._tell = tell
        self._has_video = False
        self._late = False
        self._unsent = 0
        self._stalled = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Pings from now on, until `stop`."""
        self._tick()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        self._has_video = tracks.video is not None
        self._transport.write(wire.frame(Message.TRACKS, wire.encode_tracks(self._tell(tracks))))

    def on_unit(self, unit: AccessUnit) -> None:
        """Hot. What waits is only what the kernel did not take."""
        transport = self._transport
        if self._late:
            starts = unit.key and (unit.track.kind is Kind.VIDEO or not self._has_video)
            if not starts or transport.get_write_buffer_size() > BACKLOG // 2:
                self._dropped.add("node")
                return
            self._late = False
        elif transport.get_write_buffer_size() > BACKLOG:
            self._late = True
            self._dropped.add("node")
            return
        transport.writelines((wire.unit_head(unit), unit.payload))

    def on_timed(self, timed: Timed) -> None:
        if not self._late:
            self._transport.write(wire.frame(Message.TIMED, wire.encode_timed(timed)))

    def on_end(self, reason: EndReason) -> None:
        self.stop()
        self._transport.write(wire.frame(LinkMessage.OVER, wire.write_json({"reason": str(reason)})))
        self._transport.close()

    def on_failed(self, error: Exception) -> None:
        self._transport.abort()  # the other node comes again

    def _tick(self) -> None:
        transport = self._transport
        self._timer = asyncio.get_running_loop().call_later(nodes.PING_SECONDS, self._tick)
        unsent = transport.get_write_buffer_size()
        self._stalled = self._stalled + nodes.PING_SECONDS if unsent >= self._unsent > 0 else 0.0
        self._unsent = unsent
        if self._stalled >= STALL_SECONDS:
            transport.abort()
            return
        self._look()
        if not unsent:
            transport.write(nodes.PING)
