"""The receiving end of `POST /_node/<stream>`: publishes the units that another node sends."""

import asyncio
import time
from typing import Final

import structlog

from gateway.cluster.streams.link_timeout import LinkTimeout
from gateway.cluster.streams.pull import MAX_FRAME, MAY_CONTINUE, reason_of
from gateway.cluster.streams.remote_sink import write_last
from gateway.http.connection_slot import ConnectionSlot
from gateway.live.network_quality import Quality, quality_of
from gateway.live.next_numbers import NextNumbers
from gateway.live.publisher import StreamPublisher
from gateway.live.pushed_tracks import MAX_PUSHED, TrackInfo, track_info
from gateway.live.sink import EndReason
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind, Tracks
from gateway.protocols import wire
from gateway.protocols.nodes import PING, LinkMessage, encode_numbers
from gateway.protocols.wire import StreamMessage

log = structlog.get_logger(__name__)

_MAX_UNSENT: Final = 65_536  # unsent bytes above which no numbers are sent


class UnitReceiver(asyncio.Protocol):
    """Owns the connection after the upgrade. A node that sends no data for SILENT_SECONDS is dead.

    keep_time: whether the stream is a rendition. When a new worker continues a rendition, units that the stream already
    has are skipped.
    numbers: those of the channel's stream; they are sent to the other node. None: none are sent.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        slot: ConnectionSlot,
        name: str,
        keep_time: bool = False,
        numbers: NextNumbers | None = None,
    ) -> None:
        self._numbers = numbers
        self._transport = transport
        self._slot = slot
        self._name = name
        self._keep_time = keep_time
        self._skip_until: int | None = None  # decode time, in milliseconds, up to which units are skipped
        self._framer = wire.Framer(MAX_FRAME)
        self._tracks: Tracks | None = None
        self._additional: dict[int, Tracks] = {}  # the key is twice the id of the track, plus 1 for audio
        self._publisher: StreamPublisher | None = None
        self._quality: Quality | None = None  # of the connection of the publisher to the other node
        self._timeout = LinkTimeout(transport.abort, self._ping)
        self._closing: asyncio.TimerHandle | None = None  # ends the connection after EVICT

    def begin(self, publisher: StreamPublisher, rest: bytes) -> None:
        """Starts to receive. publisher: this connection now owns it. rest: bytes received after the request."""
        self._publisher = publisher
        publisher.network = lambda: self._quality
        if self._keep_time and publisher.stream.received.last_push:
            self._skip_until = publisher.stream.received.last_dts_ms
        self._timeout.begin()
        if self._numbers is not None:
            self._numbers.watch(self._send_numbers)
        if rest:
            self.data_received(rest)

    def evicted(self, reason: EndReason) -> None:
        """Notifies the other node that the hub has ended the push. It closes the connection."""
        self._publisher = None
        if not self._transport.is_closing():
            self._closing = write_last(self._transport, LinkMessage.EVICT, reason)

    # ---- asyncio.Protocol ----

    def data_received(self, data: bytes) -> None:
        """Reads frames. Hot path."""
        now = self._timeout.last_received = time.monotonic()
        try:
            for kind, body in self._framer.receive(data):
                publisher = self._publisher
                if publisher is None:
                    return
                if kind == StreamMessage.UNIT:
                    unit = wire.decode_unit(body, self._tracks)
                    if self._skip_until is None or self._stop_skipping(unit, self._skip_until):
                        publisher.push(unit, now)
                elif kind == LinkMessage.ADDITIONAL_UNIT:
                    number = wire.destination(body)
                    publisher.push_additional(number, wire.decode_unit(body, self._additional.get(number)), now)
                else:
                    self._receive_other(publisher, kind, body, now)
        except InvalidData as error:
            log.warning("a node's push has invalid data", stream=self._name, reason=str(error))
            self._close_publisher()
            self._transport.abort()

    def _stop_skipping(self, unit: AccessUnit, after: int) -> bool:
        """Stops skipping at the first key frame after `after`, in ms. Returns whether this unit is that frame."""
        if unit.key and unit.track.kind is Kind.VIDEO and unit.dts * 1000 > after * unit.track.timescale:
            self._skip_until = None
        return self._skip_until is None

    def _receive_other(self, publisher: StreamPublisher, kind: int, body: bytes, now: float) -> None:
        match kind:
            case StreamMessage.TRACKS:
                previous, tracks = self._tracks, wire.decode_tracks(body)
                self._tracks = tracks
                continuous = previous is None or previous.epoch == tracks.epoch
                publisher.set_tracks(tracks.video, tracks.audio, tracks.metadata, continuous=continuous)
                if self._additional:
                    publisher.describe_additional(self._info)
            case LinkMessage.ADDITIONAL_TRACK:
                self._receive_additional(publisher, wire.destination(body), wire.decode_tracks(body), now)
            case StreamMessage.TIMED | StreamMessage.TICKS:
                publisher.push_timed(wire.decode_timed(body, kind))
            case LinkMessage.QUALITY:
                self._quality = quality_of(wire.read_json(body))
            case LinkMessage.UNUSABLE:
                publisher.unusable.take_fields(wire.read_json(body))
            case LinkMessage.OVER:
                reason = reason_of(body)
                # Of the other node. The stream stays here, and its viewers at other nodes would wait for another node.
                self._close_publisher(EndReason.PUBLISHER_GONE if reason in MAY_CONTINUE else reason)
                self._transport.close()
            case _:  # a ping, or a message of a later version
                pass

    def _receive_additional(self, publisher: StreamPublisher, number: int, tracks: Tracks, now: float) -> None:
        """Announces an additional track. Raises InvalidData."""
        track = tracks.audio if number % 2 else tracks.video
        if track is None or number < 2 or (number not in self._additional and len(self._additional) >= MAX_PUSHED):
            raise InvalidData(f"an additional track with number {number}")
        self._additional[number] = tracks
        publisher.set_additional(number // 2, track, self._info(track.kind, number // 2), now)
        publisher.describe_additional(self._info)

    def _info(self, kind: Kind, track_id: int) -> TrackInfo:
        return track_info(self._tracks.metadata if self._tracks is not None else {}, kind, track_id)

    def connection_lost(self, exc: Exception | None) -> None:
        self._close_publisher()
        self._timeout.stop()
        if self._closing is not None:
            self._closing.cancel()
        if self._numbers is not None:
            self._numbers.unwatch(self._send_numbers)
        self._slot.release()

    def _close_publisher(self, reason: EndReason = EndReason.PUBLISHER_GONE) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close(reason)

    def _send_numbers(self) -> None:
        """Sends the numbers, unless the other node reads nothing."""
        transport = self._transport
        if self._publisher is not None and transport.get_write_buffer_size() <= _MAX_UNSENT:
            assert self._numbers is not None, "only its watcher calls"
            transport.write(wire.frame(LinkMessage.NUMBERS, encode_numbers(self._numbers.by_output)))

    def _ping(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(PING)
