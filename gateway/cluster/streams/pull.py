"""The two ends of `GET /_node/<stream>`, which sends the units of a stream to a replica on another node."""

from __future__ import annotations

import abc
import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import structlog

from gateway.channels.channel import Channel
from gateway.channels.expiry import NEVER_DATE
from gateway.channels.fields import IS_ENCRYPTED, SRT_PASSPHRASE
from gateway.cluster.members.peers import NodeLink
from gateway.cluster.streams.link_timeout import LinkTimeout
from gateway.cluster.streams.remote_sink import RemoteSink
from gateway.http.connection_slot import ConnectionSlot
from gateway.lib.metrics import Counter
from gateway.live.fanout import Fanout
from gateway.live.publisher import StreamPublisher
from gateway.live.shelf import StreamShelf
from gateway.live.sink import EndReason, Sink, SinkNeeds
from gateway.live.stream import Stream
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind, TimedData, Tracks
from gateway.playback.formats import OPTIONAL_OUTPUTS
from gateway.protocols import wire
from gateway.protocols.nodes import Hello, LinkMessage
from gateway.protocols.wire import StreamMessage

log = structlog.get_logger(__name__)

MAX_FRAME: Final = 17_000_000  # bytes of a frame; RTMP messages are at most 16 MB
# Reasons for the end of a link after which the stream may go on at another node. None: the connection broke.
MAY_CONTINUE: Final = (None, EndReason.SHUTDOWN, EndReason.MOVED)

RENDITIONS: Final = "whepRenditions"  # a field with the sizes of the renditions, which the node with the stream adds
# The fields for a replica: the rules for players, and the ladder for a transcoding worker. They contain no secret.
_SHARED: Final = (
    RENDITIONS,
    *(*OPTIONAL_OUTPUTS, "playAuth", "refererAllow", "maxViewerMbps", "logLevel", "isCluster"),
    *("videoname", "description", "isPublic", "slug", "poster", "color", "chat", "captions", "upcoming"),
    *("isCodec", "ld", "sd", "hd", "ud", "codec", "ladder"),
)


def shared_fields(channel: Channel) -> dict[str, Any]:
    """Returns the fields of a channel that other nodes may get."""
    fields = {name: channel.item[name] for name in _SHARED if name in channel.item}
    return fields | ({IS_ENCRYPTED: True} if channel.text(SRT_PASSPHRASE) else {})


def shared_channel(fields: Mapping[str, Any], channel: str) -> Channel:
    """Returns a channel from the fields that another node has sent."""
    # Only the node that holds the stream checks the expiry.
    return Channel({**fields, "id": channel, "outdate": NEVER_DATE})


def shared_fields_now(stream: Stream) -> dict[str, Any]:
    """Returns the shared fields of a stream's channel, with the current state of its outputs."""
    fields, outputs = shared_fields(stream.channel), stream.outputs
    enabled = {} if outputs is None else {flag: outputs.enabled(name) for flag, name in OPTIONAL_OUTPUTS.items()}
    return fields | enabled


class UnitSource(Protocol):
    """The source of a pull: a stream of this node, or a replica on this node."""

    def hello(self) -> Hello:
        """Returns the hello message for the current state."""

    def map_tracks(self, tracks: Tracks) -> Tracks:
        """Returns `tracks` with the epoch number of the node that holds the stream."""

    def attach(self, sink: Sink, needs: SinkNeeds) -> None:
        """Attaches a sink; see `Fanout.attach`."""

    def detach(self, sink: Sink) -> None: ...


class HeldStream:
    """A UnitSource for a stream that this node holds.

    original: whether to send the publisher's original stream, without the changes for players.
    """

    def __init__(self, stream: Stream, session: str, original: bool) -> None:
        self._stream = stream
        self._session = session
        self._fanout: Fanout = stream.original if original else stream

    def hello(self) -> Hello:
        return Hello(self._session, self._stream.spec.started, shared_fields_now(self._stream))

    def map_tracks(self, tracks: Tracks) -> Tracks:
        return tracks

    def attach(self, sink: Sink, needs: SinkNeeds) -> None:
        self._fanout.attach(sink, needs)

    def detach(self, sink: Sink) -> None:
        self._fanout.detach(sink)


class UnitSender(asyncio.Protocol):
    """The sending end of a pull, on the connection that it took over.

    early: whether the other node waited for the stream. Then the stream is sent from its beginning, if possible.
    """

    def __init__(
        self, transport: asyncio.Transport, slot: ConnectionSlot, source: UnitSource, dropped: Counter, early: bool
    ) -> None:
        self._transport = transport
        self._early = early
        self._slot = slot
        self._source = source
        self._last_hello = source.hello()
        self._sink = RemoteSink(transport, dropped, self._send_changes, self._map_tracks)

    def begin(self) -> None:
        """Sends the hello message. Then sends the stream, from the beginning of its cache."""
        self._send_hello(self._last_hello)
        self._sink.begin()
        needs = SinkNeeds(from_start=self._early, on_replayed=self._sink.end_replay)
        self._source.attach(self._sink, needs)

    def data_received(self, data: bytes) -> None:
        """Ignores the data, because a pulling node sends none."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._source.detach(self._sink)
        self._sink.stop()
        self._slot.release()

    def _send_hello(self, hello: Hello) -> None:
        self._last_hello = hello
        self._transport.write(wire.frame(LinkMessage.HELLO, hello.encode()))

    def _send_changes(self) -> None:
        hello = self._source.hello()
        if hello.session == self._last_hello.session and hello.channel != self._last_hello.channel:
            self._last_hello = hello
            self._transport.write(wire.frame(LinkMessage.CHANNEL, wire.write_json(dict(hello.channel))))

    def _map_tracks(self, tracks: Tracks) -> Tracks:
        """Returns the tracks to send.

        The node that holds a replica's stream may have changed. Then timestamps are not continuous, and this sends a
        new hello first.
        """
        hello = self._source.hello()
        if hello.session != self._last_hello.session:
            self._send_hello(hello)
        return self._source.map_tracks(tracks)


class FrameLink(NodeLink):
    """A link whose other end sends frames. ended: the reason for the stream's end, or None if the link broke.

    stream: its name, for logs. takes: the function for the body of each kind of frame. Frames of other kinds are pings,
    or messages of a later version.
    """

    _transport: asyncio.Transport

    def __init__(self, stream: str, takes: Mapping[int, Callable[[bytes], None]]) -> None:
        self._name, self._takes = stream, takes
        self._framer = wire.Framer(MAX_FRAME)
        self._timeout = LinkTimeout(self.close)
        self.ended: asyncio.Future[EndReason | None] = asyncio.get_running_loop().create_future()

    def opened(self, transport: asyncio.Transport, rest: bytes) -> None:
        self._transport = transport
        self._timeout.begin()
        if rest:
            self.data_received(rest)

    def close(self) -> None:
        """Closes the link: the stream is no longer needed."""
        self._finish(None)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Reads frames. Hot path."""
        self._timeout.last_received = time.monotonic()
        takes = self._takes
        try:
            for kind, body in self._framer.receive(data):
                if self.ended.done():
                    return
                if (take := takes.get(kind)) is not None:
                    take(body)
        except InvalidData as error:
            log.warning("the other node sent invalid data", stream=self._name, reason=str(error))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(None)

    def _finish(self, reason: EndReason | None) -> None:
        self._timeout.stop()
        if not self.ended.done():
            self.ended.set_result(reason)


class PullLink(FrameLink):
    """The receiving end of a pull."""

    def __init__(self, receiver: PullReceiver, stream: str) -> None:
        tracks: Tracks | None = None

        def take_tracks(body: bytes) -> None:
            nonlocal tracks
            tracks = wire.decode_tracks(body)
            receiver.tracks(tracks)

        takes: dict[int, Callable[[bytes], None]] = {
            StreamMessage.UNIT: lambda body: receiver.unit(wire.decode_unit(body, tracks)),
            StreamMessage.TRACKS: take_tracks,
            StreamMessage.TIMED: lambda body: receiver.timed(wire.decode_timed(body, StreamMessage.TIMED)),
            StreamMessage.TICKS: lambda body: receiver.timed(wire.decode_timed(body, StreamMessage.TICKS)),
            LinkMessage.HELLO: lambda body: receiver.hello(Hello.decode(body)),
            LinkMessage.CHANNEL: lambda body: receiver.channel(wire.read_json(body)),
            LinkMessage.OVER: lambda body: self._finish(reason_of(body)),
        }
        super().__init__(stream, takes)


class PullReceiver(abc.ABC):
    """Receives the messages of a pull in order, and publishes into a shelf of this process. Timestamps do not change.

    If a link breaks and the next link continues the stream, units that were pushed already are skipped.
    """

    def __init__(self, shelf: StreamShelf) -> None:
        self._shelf = shelf
        self._publisher: StreamPublisher | None = None
        self._session = ""
        self._epoch = -1  # of the last tracks; -1: none in this session
        self._last_dts: dict[Kind, int] = {}  # by kind: decode time of the last unit in this session, ticks
        self._has_video = False
        self._skipping = False  # units that were pushed already are skipped
        self._has_joined = False  # a picture was skipped, so no later one is missing

    @abc.abstractmethod
    def _begin(self, hello: Hello) -> StreamPublisher:
        """Returns the publisher of a new stream that does not continue the previous one. Raises GatewayError."""

    # ---- the messages of PullLink ----

    def hello(self, hello: Hello) -> None:
        if self._publisher is not None and self._publisher.active and hello.session == self._session:
            self._skipping = True  # the sender's cache begins with units that were received already
            self._has_joined = False
            self.channel(hello.channel)
            return
        self._session, self._epoch, self._last_dts, self._skipping = hello.session, -1, {}, False
        self._publisher = self._begin(hello)

    @abc.abstractmethod
    def channel(self, fields: Mapping[str, Any]) -> None: ...

    def tracks(self, tracks: Tracks) -> None:
        publisher = self._publisher
        if publisher is None:
            return
        continuous = tracks.epoch == self._epoch
        if self._epoch >= 0 and not continuous:
            self._skipping = False
        self._epoch = tracks.epoch
        self._has_video = tracks.video is not None
        publisher.set_tracks(tracks.video, tracks.audio, tracks.metadata, continuous=continuous)

    def unit(self, unit: AccessUnit) -> None:
        """Pushes a unit. Hot path."""
        publisher = self._publisher
        if publisher is None:
            return
        kind, dts = unit.track.kind, unit.dts
        if self._skipping:
            if dts <= self._last_dts.get(kind, dts - 1):
                self._has_joined = self._has_joined or kind is Kind.VIDEO
                return
            if kind is Kind.VIDEO or not self._has_video:
                self._skipping = False
                if self._has_video and not self._has_joined:  # the sender's cache was empty, or has only a later GOP
                    publisher.stream.await_key_frame()
        self._last_dts[kind] = dts
        publisher.push(unit, time.monotonic())

    def timed(self, timed: TimedData) -> None:
        if self._publisher is not None and not self._skipping:
            self._publisher.push_timed(timed)


def reason_of(body: bytes) -> EndReason:
    """Returns the reason of an OVER or EVICT frame. An unknown reason becomes PUBLISHER_GONE. Raises InvalidData."""
    reason = wire.read_json(body).get("reason")
    try:
        return EndReason(str(reason))
    except ValueError:
        return EndReason.PUBLISHER_GONE
