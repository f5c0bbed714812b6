"""The holder's end of `POST /_node/<stream>`: publishes the units that another node sends."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from gateway.cluster.link_timeout import LinkTimeout
from gateway.cluster.pull import MAX_FRAME
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.media.errors import InvalidData
from gateway.media.track import Kind, Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.protocols.nodes import PING, LinkMessage
from gateway.protocols.wire import StreamMessage

if TYPE_CHECKING:
    from gateway.http.connection_slot import ConnectionSlot

log = structlog.get_logger(__name__)


class UnitReceiver(asyncio.Protocol):
    """Owns the connection after the upgrade. A node that sends nothing for SILENT_SECONDS is dead.

    keep_time: whether the stream is a rendition. If a worker follows another, units that the stream has already are
    left out.
    """

    def __init__(self, transport: asyncio.Transport, lease: ConnectionSlot, name: str, keep_time: bool = False) -> None:
        self._transport = transport
        self._lease = lease
        self._name = name
        self._keep_time = keep_time
        self._after: int | None = None  # decode time, in milliseconds, up to which units are left out
        self._framer = wire.Framer(MAX_FRAME)
        self._tracks: Tracks | None = None
        self._publisher: StreamPublisher | None = None
        self._timeout = LinkTimeout(self._cut, self._ping)

    def begin(self, publisher: StreamPublisher, rest: bytes) -> None:
        """Starts to receive. publisher: the lease, which this connection now owns. rest: bytes received after the
        request.
        """
        self._publisher = publisher
        if self._keep_time and publisher.stream.last_push:
            self._after = publisher.stream.last_dts_ms
        self._timeout.begin()
        if rest:
            self.data_received(rest)

    def evicted(self, reason: EndReason) -> None:
        """Tells the other node that the hub has taken the lease away, and closes the connection."""
        self._publisher = None
        if not self._transport.is_closing():
            self._transport.write(wire.frame(LinkMessage.EVICT, wire.write_json({"reason": str(reason)})))
            self._transport.close()

    # ---- asyncio.Protocol ----

    def data_received(self, data: bytes) -> None:
        """Reads frames. Hot path."""
        now = self._timeout.heard = time.monotonic()
        try:
            for kind, body in self._framer.receive(data):
                publisher = self._publisher
                if publisher is None:
                    return
                if kind == StreamMessage.UNIT:
                    unit = wire.decode_unit(body, self._tracks)
                    if self._after is None or self._goes_on(unit, self._after):
                        publisher.push(unit, now)
                else:
                    self._other(publisher, kind, body)
        except InvalidData as error:
            log.warning("a node's push made no sense", stream=self._name, reason=str(error))
            self._leave()
            self._transport.abort()

    def _goes_on(self, unit: AccessUnit, after: int) -> bool:
        """Whether this is the key frame at which a later worker continues. After it, nothing is left out."""
        if unit.key and unit.track.kind is Kind.VIDEO and unit.dts * 1000 > after * unit.track.timescale:
            self._after = None
        return self._after is None

    def _other(self, publisher: StreamPublisher, kind: int, body: bytes) -> None:
        match kind:
            case StreamMessage.TRACKS:
                before, tracks = self._tracks, wire.decode_tracks(body)
                self._tracks = tracks
                continuous = before is None or before.epoch == tracks.epoch
                publisher.set_tracks(tracks.video, tracks.audio, tracks.metadata, continuous=continuous)
            case StreamMessage.TIMED:
                publisher.push_timed(wire.decode_timed(body))
            case LinkMessage.OVER:
                self._leave()
                self._transport.close()
            case _:  # a ping, or a message of a later version
                pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._timeout.stop()
        self._lease.release()

    def _leave(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()

    def _cut(self) -> None:
        self._transport.abort()

    def _ping(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(PING)
