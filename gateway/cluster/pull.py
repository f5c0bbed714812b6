"""The two ends of `GET /_node/<stream>`, which carries the units of a stream to a replica on another node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.channels.channel import Channel
from gateway.cluster.link_timeout import LinkTimeout
from gateway.cluster.peers import NodeLink
from gateway.cluster.remote_sink import RemoteSink
from gateway.lib.metrics import Counter
from gateway.live.fanout import Fanout
from gateway.live.sink import EndReason, Sink
from gateway.media.errors import InvalidData
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.playback.formats import OPTIONAL_OUTPUTS
from gateway.protocols import wire
from gateway.protocols.nodes import Hello, LinkMessage
from gateway.protocols.wire import StreamMessage

if TYPE_CHECKING:
    from gateway.http.connection_slot import ConnectionSlot
    from gateway.live.stream import Stream

MAX_FRAME: Final = 17_000_000  # bytes of a frame; RTMP messages are at most 16 MB

# The fields that a replica gets: the rules for players, and the ladder for a transcoding worker. None is a secret.
_SHARED: Final = (
    *(*OPTIONAL_OUTPUTS, "playAuth", "refererAllow", "logLevel", "videoname", "isCluster"),
    *("isCodec", "ld", "sd", "hd", "ud", "codec", "ladder"),
)
_FOR_EVER: Final = "9999-12-31"  # as "outdate": only the holder checks how long it may be pushed


def shared_fields(channel: Channel) -> dict[str, Any]:
    """Returns the fields of a channel that other nodes may know."""
    return {name: channel.item[name] for name in _SHARED if name in channel.item}


def shared_channel(fields: Mapping[str, Any], channel: str) -> Channel:
    """Returns a channel from the fields that another node has sent."""
    return Channel({**fields, "id": channel, "outdate": _FOR_EVER})


def shared_fields_now(stream: Stream) -> dict[str, Any]:
    """Returns the shared fields of a stream's channel, with its outputs as they are switched now."""
    fields, outputs = shared_fields(stream.channel), stream.outputs
    return (
        fields if outputs is None else fields | {flag: outputs.enabled(name) for flag, name in OPTIONAL_OUTPUTS.items()}
    )


class PullSource(Protocol):
    """The source of a pull: a stream of this node, or a replica that this node sends on."""

    def hello(self) -> Hello:
        """Returns the hello message for the present state."""
        ...

    def tell(self, tracks: Tracks) -> Tracks:
        """Returns `tracks` with the epoch number of the holder."""
        ...

    def attach(self, sink: Sink, *, early: bool) -> None:
        """Attaches a sink. early: see `Fanout.attach`."""
        ...

    def detach(self, sink: Sink) -> None: ...


class OwnStream:
    """A PullSource for a stream that this node holds. original: what the publisher pushed, not what players get."""

    def __init__(self, stream: Stream, session: str, original: bool) -> None:
        self._stream = stream
        self._session = session
        self._shown: Fanout = stream.original if original else stream

    def hello(self) -> Hello:
        return Hello(self._session, self._stream.started, shared_fields_now(self._stream))

    def tell(self, tracks: Tracks) -> Tracks:
        return tracks

    def attach(self, sink: Sink, *, early: bool) -> None:
        self._shown.attach(sink, early=early)

    def detach(self, sink: Sink) -> None:
        self._shown.detach(sink)


class UnitSender(asyncio.Protocol):
    """The sending end of a pull, on the connection that it took over. early: see `Fanout.attach`."""

    def __init__(
        self,
        transport: asyncio.Transport,
        lease: ConnectionSlot,
        source: PullSource,
        dropped: Counter,
        early: bool = False,
    ) -> None:
        self._transport = transport
        self._early = early
        self._lease = lease
        self._source = source
        self._said = source.hello()
        self._writer = RemoteSink(transport, dropped, self._send_changes, self._before_tracks)

    def begin(self) -> None:
        """Sends the hello message. Then sends everything from the beginning of the cache, or of the stream."""
        self._hello(self._said)
        self._writer.begin()
        self._source.attach(self._writer, early=self._early)
        self._writer.replayed()

    def data_received(self, data: bytes) -> None:
        """Ignores the data: a puller sends nothing."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._source.detach(self._writer)
        self._writer.stop()
        self._lease.release()

    def _hello(self, hello: Hello) -> None:
        self._said = hello
        self._transport.write(wire.frame(LinkMessage.HELLO, hello.encode()))

    def _send_changes(self) -> None:
        hello = self._source.hello()
        if hello.session == self._said.session and hello.channel != self._said.channel:
            self._said = hello
            self._transport.write(wire.frame(LinkMessage.CHANNEL, wire.write_json(dict(hello.channel))))

    def _before_tracks(self, tracks: Tracks) -> Tracks:
        """Returns the tracks to send.

        The holder of a replica may have changed. Then the timestamps are not continuous, and a new hello goes first.
        """
        hello = self._source.hello()
        if hello.session != self._said.session:
            self._hello(hello)
        return self._source.tell(tracks)


class Receiver(Protocol):
    """Takes what a pull brings, on the event loop, in order."""

    def hello(self, hello: Hello) -> None: ...

    def channel(self, fields: Mapping[str, Any]) -> None: ...

    def tracks(self, tracks: Tracks) -> None: ...

    def unit(self, unit: AccessUnit) -> None: ...

    def timed(self, timed: Timed) -> None: ...


class PullLink(NodeLink):
    """The receiving end of a pull. The result of `over` is the reason for the stream's end, or None if the link
    broke.
    """

    _transport: asyncio.Transport

    def __init__(self, receiver: Receiver, failed: Callable[[str], None] = lambda reason: None) -> None:
        """failed: called with the reason, if the received data is not valid."""
        self._receiver = receiver
        self._failed = failed
        self._framer = wire.Framer(MAX_FRAME)
        self._tracks: Tracks | None = None
        self._timeout = LinkTimeout(self.close)
        self.over: asyncio.Future[EndReason | None] = asyncio.get_running_loop().create_future()

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
        self._timeout.heard = time.monotonic()
        if self.over.done():
            return
        try:
            for kind, body in self._framer.receive(data):
                if kind == StreamMessage.UNIT:
                    self._receiver.unit(wire.decode_unit(body, self._tracks))
                else:
                    self._other(kind, body)
                    if self.over.done():
                        return
        except InvalidData as error:
            self._failed(str(error))
            self.close()

    def _other(self, kind: int, body: bytes) -> None:
        match kind:
            case StreamMessage.TRACKS:
                self._tracks = wire.decode_tracks(body)
                self._receiver.tracks(self._tracks)
            case StreamMessage.TIMED:
                self._receiver.timed(wire.decode_timed(body))
            case LinkMessage.HELLO:
                self._receiver.hello(Hello.decode(body))
            case LinkMessage.CHANNEL:
                self._receiver.channel(wire.read_json(body))
            case LinkMessage.OVER:
                self._finish(reason_of(body))
            case _:  # a ping, or a message of a later version
                pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(None)

    def _finish(self, reason: EndReason | None) -> None:
        self._timeout.stop()
        if not self.over.done():
            self.over.set_result(reason)


def reason_of(body: bytes) -> EndReason:
    """Returns the reason of an OVER or EVICT frame. An unknown reason becomes PUBLISHER_GONE. Raises InvalidData."""
    said = wire.read_json(body).get("reason")
    try:
        return EndReason(str(said))
    except ValueError:
        return EndReason.PUBLISHER_GONE
