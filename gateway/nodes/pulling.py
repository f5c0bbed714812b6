"""Pulling: the two ends of `GET /_node/<stream>`: units on their way from a stream to a replica of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.hub.channel import Channel
from gateway.hub.fanout import EndReason, Fanout, Sink
from gateway.lib.metrics import Counter
from gateway.media.errors import InvalidData
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.nodes.peers import Link
from gateway.nodes.silence import Silence
from gateway.nodes.writer import UnitWriter
from gateway.protocols import wire
from gateway.protocols.nodes import Hello, LinkMessage
from gateway.protocols.wire import Message

if TYPE_CHECKING:
    from gateway.hub.stream import Stream
    from gateway.servers.http import Lease

MOST_FRAME: Final = 17_000_000  # a frame of a link; RTMP messages are at most 16 MB

# What a replica is told of its channel: how players are to be treated, which ladder a worker is to make; no secret.
_TOLD: Final = (
    *("isFlv", "isHls", "isCMAF", "playAuth", "refererAllow", "logLevel", "videoname", "isCluster"),
    *("isCodec", "ld", "sd", "hd", "ud", "codec", "ladder"),
)
_FOR_EVER: Final = "9999-12-31"  # until when it may be pushed: its holder knows
_SWITCHED: Final = {"isFlv": "flv", "isHls": "hls", "isCMAF": "cmaf"}


def told_of(channel: Channel) -> dict[str, Any]:
    """The fields of a channel that other nodes may know."""
    return {name: channel.item[name] for name in _TOLD if name in channel.item}


def told_channel(told: Mapping[str, Any], channel: str) -> Channel:
    """A channel as another node has told of it."""
    return Channel({**told, "id": channel, "outdate": _FOR_EVER})


def told_now(stream: Stream) -> dict[str, Any]:
    """The same of a stream's channel, its outputs as they are switched now."""
    told, outputs = told_of(stream.channel), stream.outputs
    return told if outputs is None else told | {flag: outputs.enabled(name) for flag, name in _SWITCHED.items()}


class Source(Protocol):
    """What a pull gets: a stream of this node, or a replica that it gives on."""

    def hello(self) -> Hello:
        """As it is now."""
        ...

    def tell(self, tracks: Tracks) -> Tracks:
        """These as the holder counts its epochs."""
        ...

    def attach(self, sink: Sink) -> None: ...

    def detach(self, sink: Sink) -> None: ...


class Own:
    """A Source: a stream that this node holds, or its original."""

    def __init__(self, stream: Stream, session: str, original: bool) -> None:
        self._stream = stream
        self._session = session
        self._shown: Fanout = stream.original if original else stream

    def hello(self) -> Hello:
        return Hello(self._session, self._stream.started, told_now(self._stream))

    def tell(self, tracks: Tracks) -> Tracks:
        return tracks

    def attach(self, sink: Sink) -> None:
        self._shown.attach(sink)

    def detach(self, sink: Sink) -> None:
        self._shown.detach(sink)


class UnitSender(asyncio.Protocol):
    """A source's end of a pull, on the connection that it took over."""

    def __init__(self, transport: asyncio.Transport, lease: Lease, source: Source, dropped: Counter) -> None:
        self._transport = transport
        self._lease = lease
        self._source = source
        self._said = source.hello()
        self._writer = UnitWriter(transport, dropped, self._look, self._tell)

    def begin(self) -> None:
        """Says hello, then everything from the cache's beginning."""
        self._hello(self._said)
        self._writer.begin()
        self._source.attach(self._writer)

    def data_received(self, data: bytes) -> None:
        """A puller has nothing to say."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._source.detach(self._writer)
        self._writer.stop()
        self._lease.release()

    def _hello(self, hello: Hello) -> None:
        self._said = hello
        self._transport.write(wire.frame(LinkMessage.HELLO, hello.encode()))

    def _look(self) -> None:
        hello = self._source.hello()
        if hello.session == self._said.session and hello.channel != self._said.channel:
            self._said = hello
            self._transport.write(wire.frame(LinkMessage.CHANNEL, wire.write_json(dict(hello.channel))))

    def _tell(self, tracks: Tracks) -> Tracks:
        """A replica's holder may have been followed by another: times do not go on as they were counted."""
        hello = self._source.hello()
        if hello.session != self._said.session:
            self._hello(hello)
        return self._source.tell(tracks)


class Receiver(Protocol):
    """Who takes what a pull brings, on the loop, in order."""

    def hello(self, hello: Hello) -> None: ...

    def channel(self, told: Mapping[str, Any]) -> None: ...

    def tracks(self, tracks: Tracks) -> None: ...

    def unit(self, unit: AccessUnit) -> None: ...

    def timed(self, timed: Timed) -> None: ...


class PullLink(Link):
    """A replica's end of a pull. `over` is done with the stream's end, or None where the link broke."""

    _transport: asyncio.Transport

    def __init__(self, receiver: Receiver, failed: Callable[[str], None] = lambda reason: None) -> None:
        """failed: told why, where what came made no sense."""
        self._receiver = receiver
        self._failed = failed
        self._framer = wire.Framer(MOST_FRAME)
        self._tracks: Tracks | None = None
        self._silence = Silence(self.close)
        self.over: asyncio.Future[EndReason | None] = asyncio.get_running_loop().create_future()

    def opened(self, transport: asyncio.Transport, rest: bytes) -> None:
        self._transport = transport
        self._silence.begin()
        if rest:
            self.data_received(rest)

    def close(self) -> None:
        """Nothing more is wanted."""
        self._finish(None)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hot."""
        self._silence.heard = time.monotonic()
        if self.over.done():
            return
        try:
            for kind, body in self._framer.receive(data):
                if kind == Message.UNIT:
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
            case Message.TRACKS:
                self._tracks = wire.decode_tracks(body)
                self._receiver.tracks(self._tracks)
            case Message.TIMED:
                self._receiver.timed(wire.decode_timed(body))
            case LinkMessage.HELLO:
                self._receiver.hello(Hello.decode(body))
            case LinkMessage.CHANNEL:
                self._receiver.channel(wire.read_json(body))
            case LinkMessage.OVER:
                self._finish(reason_of(body))
            case _:  # a ping, or what a later version says
                pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(None)

    def _finish(self, reason: EndReason | None) -> None:
        self._silence.stop()
        if not self.over.done():
            self.over.set_result(reason)


def reason_of(body: bytes) -> EndReason:
    """The reason of an OVER or EVICT frame; an unknown one is as good as a lost publisher. Raises InvalidData."""
    said = wire.read_json(body).get("reason")
    try:
        return EndReason(str(said))
    except ValueError:
        return EndReason.PUBLISHER_GONE
