"""Taking: the holder's end of `POST /_node/<stream>`: units that another node carries here become a push."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from gateway.hub.fanout import EndReason
from gateway.hub.publisher import Publisher
from gateway.media.errors import InvalidData
from gateway.media.track import Kind, Tracks
from gateway.media.unit import AccessUnit
from gateway.nodes.pulling import MOST_FRAME
from gateway.nodes.silence import Silence
from gateway.protocols import wire
from gateway.protocols.nodes import PING, LinkMessage
from gateway.protocols.wire import Message

if TYPE_CHECKING:
    from gateway.servers.http import Lease

log = structlog.get_logger(__name__)


class UnitTaker(asyncio.Protocol):
    """Owns the connection from the upgrade on. A node that says nothing for SILENT_SECONDS is dead.

    keep_time: a rung; of a worker that comes after another, what the stream has already is left out.
    """

    def __init__(self, transport: asyncio.Transport, lease: Lease, name: str, keep_time: bool = False) -> None:
        self._transport = transport
        self._lease = lease
        self._name = name
        self._keep_time = keep_time
        self._after: int | None = None  # decode time, in milliseconds, up to which units are left out
        self._framer = wire.Framer(MOST_FRAME)
        self._tracks: Tracks | None = None
        self._publisher: Publisher | None = None
        self._silence = Silence(self._cut, self._ping)

    def begin(self, publisher: Publisher, rest: bytes) -> None:
        """The lease is this connection's. rest: what came behind the request."""
        self._publisher = publisher
        if self._keep_time and publisher.stream.last_push:
            self._after = publisher.stream.last_dts_ms
        self._silence.begin()
        if rest:
            self.data_received(rest)

    def evicted(self, reason: EndReason) -> None:
        """The hub takes the lease away."""
        self._publisher = None
        if not self._transport.is_closing():
            self._transport.write(wire.frame(LinkMessage.EVICT, wire.write_json({"reason": str(reason)})))
            self._transport.close()

    # ---- asyncio.Protocol ----

    def data_received(self, data: bytes) -> None:
        """Hot."""
        now = self._silence.heard = time.monotonic()
        try:
            for kind, body in self._framer.receive(data):
                publisher = self._publisher
                if publisher is None:
                    return
                if kind == Message.UNIT:
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
        """Whether this is the key frame at which a later worker begins; then nothing is left out any more."""
        if unit.key and unit.track.kind is Kind.VIDEO and unit.dts * 1000 > after * unit.track.timescale:
            self._after = None
        return self._after is None

    def _other(self, publisher: Publisher, kind: int, body: bytes) -> None:
        match kind:
            case Message.TRACKS:
                before, tracks = self._tracks, wire.decode_tracks(body)
                self._tracks = tracks
                continuous = before is None or before.epoch == tracks.epoch
                publisher.set_tracks(tracks.video, tracks.audio, tracks.metadata, continuous=continuous)
            case Message.TIMED:
                publisher.push_timed(wire.decode_timed(body))
            case LinkMessage.OVER:
                self._leave()
                self._transport.close()
            case _:  # a ping, or what a later version says
                pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._silence.stop()
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
