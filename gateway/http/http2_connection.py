"""One HTTP/2 connection: its streams are answered by the code that answers HTTP/1.

Each request gets a stream, which is the transport of a protocol of the server, so limits, time-outs, bodies and long
answers are those of HTTP/1. This file adds what only HTTP/2 has: turns of the streams, and bounds of frames that are no
requests.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from gateway.http.http2_stream import Http2Stream
from gateway.lib.certificates import HTTP2
from gateway.lib.scheduled_reads import SLICE_SECONDS, ReadScheduler, RequestReads, shared_view
from gateway.lib.token_bucket import TokenBucket
from gateway.protocols.http2.connection import (
    Data,
    GoAway,
    Http2Error,
    Http2Event,
    Http2Protocol,
    RequestHead,
    Reset,
    SettingsChanged,
    WindowOpened,
)
from gateway.protocols.http2.frames import MAX_PAYLOAD, WINDOW, Code
from gateway.protocols.http2.heads import MalformedRequest, request_head

_READ: Final = 16 * 1024  # bytes of one read
_UNSENT_HIGH: Final = 64 * 1024  # unsent bytes above which no more data is written
_UNSENT_MOST: Final = 128 * 1024  # unsent bytes, with the answers to control frames, above which nothing is read
# Frames that are no part of an answer: resets, settings, pings, empty data. Browsers send a few in a second.
_CONTROL_BURST: Final = 1_000
_CONTROL_RATE: Final = 100.0  # in a second
_PAID_BYTES: Final = 64  # of data, for which a client may send one more frame that opens a window or means nothing
_LINGER: Final = 2.0  # seconds for the last bytes of a connection


@dataclass(frozen=True, slots=True)
class Http2Host:
    """What the connections of one server need of it.

    connections: the server's set, whose `deadline`s it checks each second. now: monotonic seconds.
    head_seconds, keep_alive: limits until the first request, and between two requests.
    stall_seconds: returns the limit for a client that reads nothing.
    stays_open: whether connections stay open after an answer.
    answering: returns a new protocol for one request on this connection. It is counted like a connection.
    window: bytes of the body of a request that a client sends before the server reads them.
    hold_unsent: counts bytes that the client has not read, and returns the end of the count; None: there are too many.
    """

    scheduler: ReadScheduler
    connections: set[Any]
    now: Callable[[], float]
    head_seconds: float
    keep_alive: float
    stall_seconds: Callable[[], float]
    stays_open: Callable[[], bool]
    answering: Callable[[], asyncio.BaseProtocol]
    window: int = WINDOW
    hold_unsent: Callable[[int], Callable[[], None] | None] = lambda size: lambda: None


class Http2Connection(RequestReads):
    """The frames of one client.

    deadline: time at which the server calls `timed_out`.
    lost: called at the end of the connection.
    """

    # fmt: off
    __slots__ = (
        "_control", "_frames", "_host", "_info", "_is_ending", "_lost", "_minor", "_processing", "_ready",
        "_release_unsent", "_send_awaited", "_soon", "_streams", "_turn_awaited", "_unsent", "_unwritable", "deadline",
    )
    # fmt: on

    whole_view = shared_view(_READ)

    def __init__(self, host: Http2Host, lost: Callable[[], None]) -> None:
        super().__init__(host.scheduler, _READ)
        self._host = host
        self._lost = lost
        self._frames = Http2Protocol(host.window)
        self._info: dict[str, Any] = {}  # what streams have asked the transport
        self._streams: dict[int, Http2Stream] = {}
        self._ready: deque[Http2Stream] = deque()  # streams that may send, in the order of their turns
        self._turn_awaited = False  # frames that have arrived wait for the scheduler
        self._send_awaited = False  # data that could be sent wait for the scheduler
        self._processing = False  # a flush follows
        self._soon: asyncio.Handle | None = None  # the next flush
        self._is_ending = False  # new streams are refused; the connection closes behind the last one
        self._unwritable = False
        self._unsent = 0  # at the last check
        self._release_unsent: Callable[[], None] | None = None  # ends the count of the unsent bytes
        self._control = TokenBucket(_CONTROL_RATE, _CONTROL_BURST)
        self._minor = TokenBucket(_CONTROL_RATE, _CONTROL_BURST)  # frames that open windows or mean nothing
        self.deadline = math.inf

    # ---- RequestReads ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = tcp = cast(asyncio.Transport, transport)  # uvloop's is not derived from asyncio's
        tcp.set_write_buffer_limits(high=_UNSENT_HIGH)
        self._host.connections.add(self)
        self.deadline = self._host.now() + self._host.head_seconds
        self._write()

    def bytes_received(self, data: bytes) -> None:
        self._frames.receive(data)
        if not self._turn_awaited:  # TLS may have more than the paused read
            self._process()

    def eof_received(self) -> bool | None:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._host.connections.discard(self)
        if self._soon is not None:
            self._soon.cancel()
        streams, self._streams = self._streams, {}
        self._ready.clear()
        for stream in streams.values():
            stream.lose(exc)
        self._count_sent()
        self._lost()

    def pause_writing(self) -> None:
        self._unwritable = True
        self._limit_stall()
        self._release_unsent = self._host.hold_unsent(self._unsent)
        if self._release_unsent is None:
            self.abort()

    def resume_writing(self) -> None:
        self._unwritable = False
        self._count_sent()
        self._set_deadline()
        self._flush()

    # ---- the server's side ----

    @property
    def is_answering(self) -> bool:
        """Whether the client has not read an answer yet. The streams are connections of the server themselves."""
        return self._unwritable

    def timed_out(self) -> None:
        """Handles a deadline that has passed."""
        unsent, before = self._transport.get_write_buffer_size(), self._unsent
        if self._unwritable and unsent < before:
            self._limit_stall()  # the client reads slowly
        elif unsent or self._is_ending:
            self._transport.abort()
        else:
            self.drain()

    def drain(self) -> None:
        """Refuses further streams, and closes behind the last answer (RFC 9113 §6.8)."""
        if self._is_ending or self._transport.is_closing():
            return
        self._frames.go_away(Code.NO_ERROR)
        self._write()
        self._is_ending = True
        self._set_deadline()

    def abort(self) -> None:
        self._transport.abort()

    # ---- frames of the client ----

    def _process(self) -> None:
        """Reads frames for one slice; the rest waits for the turn of this connection."""
        began = time.perf_counter()
        self._processing = True
        try:
            for event in self._frames.events():
                if self._transport.is_closing():
                    return
                self._handle(event)
                if self._frames.has_frame and (took := time.perf_counter() - began) > SLICE_SECONDS:
                    self._turn_awaited = True
                    self._scheduler.wait(self._on_turn, took)
                    break
        except Http2Error as error:
            self._frames.go_away(error.code)
            self._close()
            return
        finally:
            self._processing = False
        if self._frames.ignored:
            self._count(self._minor, self._frames.ignored)
            self._frames.ignored = 0
        self._flush()

    def _on_turn(self) -> None:
        self._turn_awaited = False
        if not self._transport.is_closing():
            self._process()

    def _handle(self, event: Http2Event) -> None:
        if isinstance(event, RequestHead):
            self._begin(event)
        elif isinstance(event, Data):
            self._take_data(event)
        elif isinstance(event, WindowOpened):
            self._open_window(event.stream)
            self._count(self._minor)
        elif isinstance(event, Reset):
            if (stream := self._streams.pop(event.stream, None)) is not None:
                self._lose_soon(stream, ConnectionResetError("the client has reset the stream"))
            self._count(self._control)
        elif isinstance(event, GoAway):
            self._is_ending = True
            self._set_deadline()
            self._count(self._control)
        else:
            if isinstance(event, SettingsChanged):
                self._open_window(0)
            self._count(self._control)

    def _begin(self, request: RequestHead) -> None:
        id = request.stream
        if self._is_ending:
            self._frames.reset(id, Code.REFUSED_STREAM)
            self._count(self._control)
            return
        try:
            head, chunked = request_head(request.fields, not request.ended)
        except MalformedRequest:
            self._frames.reset(id, Code.PROTOCOL_ERROR)
            self._count(self._control)
            return
        stream = self._streams[id] = Http2Stream(self, id, chunked)
        self._set_deadline()
        stream.begin(self._host.answering(), head)

    def _take_data(self, event: Data) -> None:
        stream = self._streams.get(event.stream)
        if stream is None:
            self._frames.acknowledge(event.stream, event.counted)  # the answer did not need it
            return
        stream.receive(event.data, event.counted)
        if event.ended:
            stream.receive_end()
        elif not event.data:
            self._count(self._control)

    def _open_window(self, id: int) -> None:
        """Handles a larger window of one stream, or of all streams (0)."""
        if id == 0:
            for stream in self._streams.values():
                self._list(stream)
        elif (one := self._streams.get(id)) is not None:
            self._list(one)

    def _count(self, frames: TokenBucket, number: int = 1) -> None:
        """Counts frames that are no part of an answer. Too many of them end the connection."""
        if not frames.take(number, self._host.now()) and not self._transport.is_closing():
            self._frames.go_away(Code.ENHANCE_YOUR_CALM)
            self._close()

    # ---- StreamOwner ----

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name not in self._info:
            self._info[name] = self._transport.get_extra_info(name, default)
        return self._info[name]

    def send_soon(self, stream: Http2Stream) -> None:
        if self._streams.get(stream.id) is stream:
            self._list(stream)
            self._flush_soon()

    def consumed(self, stream: Http2Stream, size: int) -> None:
        if not self._transport.is_closing():
            self._frames.acknowledge(stream.id, size)
            self._flush_soon()

    def reset(self, stream: Http2Stream) -> None:
        if self._streams.pop(stream.id, None) is stream:
            self._frames.reset(stream.id, Code.INTERNAL_ERROR)
            self._lose_soon(stream, None)
            self._flush_soon()

    # ---- output ----

    def _list(self, stream: Http2Stream) -> None:
        if not stream.is_listed and stream.has_output:
            stream.is_listed = True
            self._ready.append(stream)

    def _flush_soon(self) -> None:
        if self._soon is None and not self._processing:
            self._soon = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Sends frames, one of each stream in turn, as far as the client reads, for one slice."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._transport.is_closing():
            return
        ready = self._ready
        began, size = time.perf_counter(), 0
        while ready and not self._unwritable and not self._send_awaited:
            stream = ready.popleft()
            stream.is_listed = False
            if self._streams.get(stream.id) is stream:
                size += self._send(stream)
                if size >= _UNSENT_HIGH:
                    self._write()
                    size = 0
                    if (took := time.perf_counter() - began) > SLICE_SECONDS:
                        self._send_awaited = True
                        self._scheduler.wait(self._on_send_turn, took)
        self._write()
        if self._turn_awaited or self._transport.get_write_buffer_size() > _UNSENT_MOST:
            self.hold_reading()
        elif self._read_held:
            self.release_reading()

    def _on_send_turn(self) -> None:
        self._send_awaited = False
        self._flush()

    def _send(self, stream: Http2Stream) -> int:
        """Sends the next frames of a stream. Returns their bytes of data."""
        frames, id = self._frames, stream.id
        headers, stream.headers = stream.headers, None
        is_last = stream.is_finished
        if headers is not None:
            frames.send_headers(id, headers, ended=is_last)
        elif is_last:
            frames.send_data(id, [], 0, ended=True)
        if is_last:
            self._end(stream)
            return 0
        limit = min(frames.window(id), MAX_PAYLOAD)
        if limit <= 0 or not stream.has_data:
            return 0
        pieces, size = stream.take(limit)
        is_last = stream.is_finished
        frames.send_data(id, pieces, size, ended=is_last)
        self._minor.give(size / _PAID_BYTES)
        if is_last:
            self._end(stream)
        else:
            stream.sent()
            self._list(stream)
        return size

    def _end(self, stream: Http2Stream) -> None:
        """Ends a stream behind its whole answer."""
        del self._streams[stream.id]
        self._lose(stream, None)
        if not self._host.stays_open():
            self.drain()
        self._set_deadline()

    def _write(self) -> None:
        output = self._frames.output
        if output:
            self._transport.write(b"".join(output))
            output.clear()

    # ---- the end ----

    def _close(self) -> None:
        """Closes behind the frames that are ready."""
        self._write()
        self._is_ending = True
        self._transport.close()
        self.deadline = self._host.now() + _LINGER

    def _lose(self, stream: Http2Stream, error: Exception | None) -> None:
        """Tells a stream its end. Data that it did not read count for the window of the connection (§6.9)."""
        if unread := stream.lose(error):
            self.consumed(stream, unread)

    def _lose_soon(self, stream: Http2Stream, error: Exception | None) -> None:
        """Ends a stream whose protocol may have begun in this turn of the loop, or is in a call of its transport."""
        if stream.is_listed:
            self._ready.remove(stream)
        asyncio.get_running_loop().call_soon(self._lose, stream, error)
        self._set_deadline()

    def _set_deadline(self) -> None:
        """Sets the time-out of the state, and closes a connection that ends and has no streams."""
        if self._unwritable:
            return
        if self._streams:
            self.deadline = math.inf
        elif not self._is_ending:
            self.deadline = self._host.now() + self._host.keep_alive
        elif not self._transport.is_closing():
            self._close()

    def _count_sent(self) -> None:
        release, self._release_unsent = self._release_unsent, None
        if release is not None:
            release()

    def _limit_stall(self) -> None:
        """Limits the time in which the client reads nothing."""
        self._unsent = self._transport.get_write_buffer_size()
        self.deadline = self._host.now() + self._host.stall_seconds()


class ByAlpn(asyncio.Protocol):
    """Gives an accepted TLS connection to the protocol of HTTP that the client has chosen (RFC 7301).

    http1: of a connection that is counted already. http2: returns the other protocol.
    """

    def __init__(self, http1: asyncio.BaseProtocol, http2: Callable[[asyncio.Transport], asyncio.BaseProtocol]) -> None:
        self._http1, self._http2 = http1, http2

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tcp = cast(asyncio.Transport, transport)  # uvloop's is not derived from asyncio's
        is_http2 = tcp.get_extra_info("ssl_object").selected_alpn_protocol() == HTTP2
        chosen = self._http2(tcp) if is_http2 else self._http1
        tcp.set_protocol(chosen)
        chosen.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Handles a failed handshake."""
        self._http1.connection_lost(exc)
