"""The frames of one HTTP/2 connection, and the states of its streams (RFC 9113 §5, §6). Bytes in, events out.

A client opens streams with odd numbers. In each, it sends headers and perhaps data, and the server answers with headers
and data:

    idle ── HEADERS ──► open ── END_STREAM of the client ──► half-closed ── END_STREAM of the server ──► closed
                          └──────────────────── RST_STREAM of either side ─────────────────────────────────┘

Data need room in two windows, of the stream and of the connection, which WINDOW_UPDATE enlarges. An error of a stream
ends it with RST_STREAM; an error of the connection is raised, and the owner sends GOAWAY and closes.

What a client can make us hold is bounded: one frame, one block of headers, the table of HPACK and `MAX_STREAMS`
streams. Our encoder has no table, so the bytes of an answer's head depend on nothing
else and are remembered.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.lib.numbers import read_integer
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HEAD_BYTES,
    MAX_PAYLOAD,
    MAX_WINDOW,
    PADDED,
    PREFACE,
    PRIORITY_FLAG,
    WINDOW,
    Code,
    FrameKind,
    Setting,
    frame,
)
from gateway.protocols.http2.header_decoder import Field, HeaderDecoder, HeadersError, HeadersTooLarge

MAX_STREAMS: Final = 100  # simultaneous streams of a connection
MAX_HEADERS: Final = 32_768  # bytes of the headers of a request, before and after decoding (§6.5.2)
_REMEMBERED: Final = 256  # streams that we have reset, whose late frames mean nothing


class Http2Error(RemoteProtocolError):
    """An error of the connection. code: for GOAWAY."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code


Fields: TypeAlias = "tuple[Field, ...]"


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A client opens a stream. ended: whether the request has no body."""

    stream: int
    fields: Fields
    ended: bool


@dataclass(frozen=True, slots=True)
class Data:
    """A part of a body. counted: bytes of flow control, to be acknowledged. ended: whether it is the last part."""

    stream: int
    data: bytes
    counted: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """A stream that was open has ended with an error, of the client or of its frames."""

    stream: int


@dataclass(frozen=True, slots=True)
class WindowOpened:
    """Data may be sent again. stream: 0 for all."""

    stream: int


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """The client has sent settings. They may open windows of all streams."""


@dataclass(frozen=True, slots=True)
class ControlFrame:
    """A frame that is no part of a request or an answer."""


@dataclass(frozen=True, slots=True)
class GoAway:
    """The client opens no further streams."""


Http2Event: TypeAlias = RequestHead | Data | Reset | WindowOpened | SettingsChanged | ControlFrame | GoAway


class _Stream:
    """An open stream.

    sends: whether the client may still send. length: of its body, as announced; -1: not.
    """

    __slots__ = ("length", "received", "sends", "unacknowledged", "window", "window_in")

    def __init__(self, window: int, window_in: int) -> None:
        self.window, self.window_in = window, window_in
        self.sends = True
        self.length = -1
        self.received = self.unacknowledged = 0


class Http2Protocol:
    """The server's side of one connection. `output` collects the frames to send, in pieces.

    ignored: number of frames without an event, since the owner has set it to 0.
    window: bytes that a client may send on a stream, and on the connection, before they are acknowledged.
    """

    # fmt: off
    __slots__ = (
        "_block", "_buffer", "_decoder", "_initial_window", "_opened", "_preface_left", "_settings_due", "_streams",
        "_unacknowledged", "_we_reset", "_window", "_window_in", "_window_size", "ignored", "output",
    )
    # fmt: on

    def __init__(self, window: int = WINDOW) -> None:
        self.output: list[bytes | memoryview] = []
        self.ignored = 0
        self._buffer = b""
        self._preface_left = PREFACE
        self._settings_due = True  # §3.4: they are the first frame
        self._decoder = HeaderDecoder(MAX_HEADERS)
        self._block: tuple[int, int, bytearray] | None = None  # stream, flags and bytes of headers without an end
        self._streams: dict[int, _Stream] = {}
        self._opened = 0  # the last stream
        self._we_reset: dict[int, int] = {}  # the last ones, with the bytes of their bodies to come; -1: any
        self._initial_window = WINDOW
        self._window = WINDOW
        self._window_size = self._window_in = window
        self._unacknowledged = 0
        settings = {
            Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            Setting.INITIAL_WINDOW_SIZE: window,
            Setting.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
        }
        self.output.append(frame(FrameKind.SETTINGS, 0, 0, _settings(settings)))
        if window > WINDOW:
            self.output.append(frame(FrameKind.WINDOW_UPDATE, 0, 0, (window - WINDOW).to_bytes(4, "big")))

    # ---- received bytes ----

    def receive(self, data: bytes) -> None:
        """Adds received bytes. `events` reads them."""
        self._buffer += data

    @property
    def has_frame(self) -> bool:
        """Whether a whole frame has not been read."""
        buffer = self._buffer
        return len(buffer) >= HEAD_BYTES and len(buffer) >= HEAD_BYTES + int.from_bytes(buffer[:3], "big")

    def events(self) -> Iterator[Http2Event]:
        """Yields the events of the received frames. Raises Http2Error.

        The owner may stop after any event, and go on with a new iterator.
        """
        self._read_preface()
        while len(self._buffer) >= HEAD_BYTES:
            buffer = self._buffer
            size = int.from_bytes(buffer[:3], "big")
            if size > MAX_PAYLOAD:
                raise Http2Error(Code.FRAME_SIZE_ERROR, "the frame is too large")
            end = HEAD_BYTES + size
            if len(buffer) < end:
                return
            self._buffer = buffer[end:]
            kind, flags = buffer[3], buffer[4]
            stream = int.from_bytes(buffer[5:9], "big") & MAX_WINDOW
            event = self._read(kind, flags, stream, buffer[HEAD_BYTES:end])
            if event is not None:
                yield event
            else:
                self.ignored += 1

    def _read_preface(self) -> None:
        left = self._preface_left
        if left:
            start = self._buffer[: len(left)]
            if not left.startswith(start):
                raise Http2Error(Code.PROTOCOL_ERROR, "no preface of HTTP/2")
            self._preface_left, self._buffer = left[len(start) :], self._buffer[len(start) :]

    def _read(self, kind: int, flags: int, stream: int, payload: bytes) -> Http2Event | None:
        if self._block is not None:
            if kind != FrameKind.CONTINUATION or stream != self._block[0]:
                raise Http2Error(Code.PROTOCOL_ERROR, "headers without an end")
            return self._continue_headers(flags, payload)
        if self._settings_due:
            if kind != FrameKind.SETTINGS:
                raise Http2Error(Code.PROTOCOL_ERROR, "the first frame has no settings")
            self._settings_due = False
        if kind == FrameKind.HEADERS:
            return self._read_headers(flags, stream, payload)
        if kind == FrameKind.DATA:
            return self._read_data(flags, stream, payload)
        if kind == FrameKind.WINDOW_UPDATE:
            return self._read_window_update(stream, payload)
        if kind == FrameKind.RST_STREAM:
            return self._read_reset(stream, payload)
        if kind == FrameKind.SETTINGS:
            return self._read_settings(flags, stream, payload)
        if kind == FrameKind.PING:
            return self._read_ping(flags, stream, payload)
        if kind == FrameKind.PRIORITY:
            return self._read_priority(stream, payload)
        if kind == FrameKind.GOAWAY:
            if stream or len(payload) < 8:
                raise Http2Error(Code.FRAME_SIZE_ERROR if not stream else Code.PROTOCOL_ERROR, "malformed GOAWAY")
            return GoAway()
        if kind in (FrameKind.PUSH_PROMISE, FrameKind.CONTINUATION):
            raise Http2Error(Code.PROTOCOL_ERROR, "unexpected frame")
        return ControlFrame()  # §4.1: unknown types are ignored

    # ---- headers ----

    def _read_headers(self, flags: int, stream: int, payload: bytes) -> Http2Event | None:
        if stream % 2 == 0:
            raise Http2Error(Code.PROTOCOL_ERROR, "not a stream of a client")
        block = _without_padding(flags, payload)
        if flags & PRIORITY_FLAG:
            if len(block) < 5:
                raise Http2Error(Code.FRAME_SIZE_ERROR, "headers without their priority")
            if _depends_on(block) == stream:
                raise Http2Error(Code.PROTOCOL_ERROR, "the stream depends on itself")
            block = block[5:]
        if flags & END_HEADERS:
            return self._take_headers(stream, flags, block)
        self._block = stream, flags, bytearray(block)
        return None

    def _continue_headers(self, flags: int, payload: bytes) -> Http2Event | None:
        assert self._block is not None, "the caller has checked it"
        stream, first_flags, block = self._block
        block += payload
        if len(block) > MAX_HEADERS:
            raise Http2Error(Code.ENHANCE_YOUR_CALM, "too large headers")
        if not flags & END_HEADERS:
            if not payload:
                raise Http2Error(Code.ENHANCE_YOUR_CALM, "headers without an end")
            return None
        self._block = None
        return self._take_headers(stream, first_flags, bytes(block))

    def _take_headers(self, id: int, flags: int, block: bytes) -> Http2Event | None:
        try:  # also of refused streams: the table of the decoder belongs to the connection
            fields = self._decoder.decode(block)
        except HeadersTooLarge as error:
            raise Http2Error(Code.ENHANCE_YOUR_CALM, str(error)) from None
        except HeadersError as error:
            raise Http2Error(Code.COMPRESSION_ERROR, str(error)) from None
        stream = self._streams.get(id)
        if stream is not None:
            return self._take_trailers(id, stream, flags, fields)
        if id <= self._opened:
            if id in self._we_reset and flags & END_STREAM:  # trailers of a body that no answer needs
                return None
            raise Http2Error(Code.PROTOCOL_ERROR, "headers for a closed stream")
        self._opened = id
        if len(self._streams) >= MAX_STREAMS:
            self._send_reset(id, Code.REFUSED_STREAM)
            return ControlFrame()
        stream = self._streams[id] = _Stream(self._initial_window, self._window_size)
        ended = bool(flags & END_STREAM)
        stream.sends = not ended
        for name, value in fields:
            if name == b"content-length" and (length := read_integer(value.decode("latin-1"), 2**63)) is not None:
                stream.length = length
        if ended and stream.length > 0:  # §8.1.1
            return self._break(id, Code.PROTOCOL_ERROR)
        return RequestHead(id, fields, ended)

    def _take_trailers(self, id: int, stream: _Stream, flags: int, fields: Fields) -> Http2Event | None:
        if not stream.sends:
            return self._break(id, Code.STREAM_CLOSED)
        if not flags & END_STREAM or any(name[:1] == b":" for name, _ in fields):  # §8.1
            return self._break(id, Code.PROTOCOL_ERROR)
        return self._end_body(id, stream, b"", 0)

    # ---- data ----

    def _read_data(self, flags: int, id: int, payload: bytes) -> Http2Event | None:
        if not id or id > self._opened:
            raise Http2Error(Code.PROTOCOL_ERROR, "data without a stream")
        counted = len(payload)
        self._window_in -= counted
        if self._window_in < 0:
            raise Http2Error(Code.FLOW_CONTROL_ERROR, "more data than allowed")
        data = _without_padding(flags, payload)
        stream = self._streams.get(id)
        if stream is None or not stream.sends:
            self.acknowledge(0, counted)
            if stream is None and id in self._we_reset:
                self._skip_data(id, len(data), bool(flags & END_STREAM))
                return None
            if stream is not None:
                return self._break(id, Code.STREAM_CLOSED)
            self._send_reset(id, Code.STREAM_CLOSED)
            return ControlFrame()
        stream.window_in -= counted
        stream.received += len(data)
        if stream.window_in < 0 or 0 <= stream.length < stream.received:
            self.acknowledge(0, counted)
            return self._break(id, Code.FLOW_CONTROL_ERROR if stream.window_in < 0 else Code.PROTOCOL_ERROR)
        if flags & END_STREAM:
            return self._end_body(id, stream, data, counted)
        return Data(id, data, counted, False)

    def _skip_data(self, id: int, size: int, ended: bool) -> None:
        """Counts data behind an answer that did not need them."""
        left = self._we_reset[id]
        if left >= 0:
            left -= size
            if left < 0 or (ended and left):
                raise Http2Error(Code.PROTOCOL_ERROR, "another length than announced")
            self._we_reset[id] = left

    def _end_body(self, id: int, stream: _Stream, data: bytes, counted: int) -> Http2Event:
        stream.sends = False
        if stream.length not in (-1, stream.received):  # §8.1.1
            self.acknowledge(0, counted)
            return self._break(id, Code.PROTOCOL_ERROR)
        return Data(id, data, counted, True)

    # ---- control frames ----

    def _read_window_update(self, id: int, payload: bytes) -> Http2Event | None:
        if len(payload) != 4:
            raise Http2Error(Code.FRAME_SIZE_ERROR, "malformed WINDOW_UPDATE")
        if id > self._opened:
            raise Http2Error(Code.PROTOCOL_ERROR, "window of an idle stream")
        more = int.from_bytes(payload, "big") & MAX_WINDOW
        if not id:
            if not more:
                raise Http2Error(Code.PROTOCOL_ERROR, "window that does not open")
            self._window += more
            if self._window > MAX_WINDOW:
                raise Http2Error(Code.FLOW_CONTROL_ERROR, "too large window")
            return WindowOpened(0)
        stream = self._streams.get(id)
        if stream is None:
            return None  # §5.1: it may come behind the end
        stream.window += more
        if not more or stream.window > MAX_WINDOW:
            return self._break(id, Code.FLOW_CONTROL_ERROR if more else Code.PROTOCOL_ERROR)
        return WindowOpened(id)

    def _read_reset(self, id: int, payload: bytes) -> Http2Event:
        if len(payload) != 4:
            raise Http2Error(Code.FRAME_SIZE_ERROR, "malformed RST_STREAM")
        if not id or id > self._opened:
            raise Http2Error(Code.PROTOCOL_ERROR, "reset of an idle stream")
        self._streams.pop(id, None)
        return Reset(id)

    def _read_settings(self, flags: int, id: int, payload: bytes) -> Http2Event | None:
        if id:
            raise Http2Error(Code.PROTOCOL_ERROR, "settings of a stream")
        if len(payload) % 6 or (flags & ACK and payload):
            raise Http2Error(Code.FRAME_SIZE_ERROR, "malformed settings")
        if flags & ACK:
            return None
        window = self._initial_window
        for at in range(0, len(payload), 6):
            value = int.from_bytes(payload[at + 2 : at + 6], "big")
            match int.from_bytes(payload[at : at + 2], "big"):
                case Setting.ENABLE_PUSH if value > 1:
                    raise Http2Error(Code.PROTOCOL_ERROR, "malformed setting")
                case Setting.MAX_FRAME_SIZE if not MAX_PAYLOAD <= value < 2**24:
                    raise Http2Error(Code.PROTOCOL_ERROR, "malformed setting")
                case Setting.INITIAL_WINDOW_SIZE if value > MAX_WINDOW:
                    raise Http2Error(Code.FLOW_CONTROL_ERROR, "too large window")
                case Setting.INITIAL_WINDOW_SIZE:
                    window = value
        self._change_windows(window)  # once: a frame has room for thousands of values
        self.output.append(frame(FrameKind.SETTINGS, ACK, 0))
        return SettingsChanged()

    def _change_windows(self, size: int) -> None:
        """Changes the windows of all streams (§6.9.2); they may become negative."""
        more, self._initial_window = size - self._initial_window, size
        for stream in self._streams.values():
            stream.window += more
            if stream.window > MAX_WINDOW:
                raise Http2Error(Code.FLOW_CONTROL_ERROR, "too large window")

    def _read_ping(self, flags: int, id: int, payload: bytes) -> Http2Event:
        if id:
            raise Http2Error(Code.PROTOCOL_ERROR, "ping of a stream")
        if len(payload) != 8:
            raise Http2Error(Code.FRAME_SIZE_ERROR, "malformed ping")
        if not flags & ACK:
            self.output.append(frame(FrameKind.PING, ACK, 0, payload))
        return ControlFrame()

    def _read_priority(self, id: int, payload: bytes) -> Http2Event | None:
        if not id:
            raise Http2Error(Code.PROTOCOL_ERROR, "priority without a stream")
        if len(payload) != 5 or _depends_on(payload) == id:
            return self._break(id, Code.FRAME_SIZE_ERROR if len(payload) != 5 else Code.PROTOCOL_ERROR)
        return None  # RFC 9113 §5.3: priorities have no meaning

    # ---- frames to send ----

    def window(self, id: int) -> int:
        """Returns the bytes of data that may be sent on an open stream now; not positive: none."""
        return min(self._streams[id].window, self._window)

    def send_headers(self, id: int, block: bytes, *, ended: bool) -> None:
        """Sends encoded headers. ended: whether the answer has no body."""
        flags = END_HEADERS | (END_STREAM if ended else 0)
        if len(block) <= MAX_PAYLOAD:
            self.output.append(frame(FrameKind.HEADERS, flags, id, block))
        else:
            pieces = [block[at : at + MAX_PAYLOAD] for at in range(0, len(block), MAX_PAYLOAD)]
            self.output.append(frame(FrameKind.HEADERS, flags & END_STREAM, id, pieces[0]))
            for piece in pieces[1:-1]:
                self.output.append(frame(FrameKind.CONTINUATION, 0, id, piece))
            self.output.append(frame(FrameKind.CONTINUATION, END_HEADERS, id, pieces[-1]))
        if ended:
            self._end_stream(id)

    def send_data(self, id: int, pieces: Iterable[memoryview], size: int, *, ended: bool) -> None:
        """Sends one frame of data.

        size: of all pieces, at most MAX_PAYLOAD and `window(id)`. ended: whether it is the last frame of the answer.
        """
        self._window -= size
        self._streams[id].window -= size
        self.output.append(b"%b\0%c%b" % (size.to_bytes(3, "big"), END_STREAM if ended else 0, id.to_bytes(4, "big")))
        self.output.extend(pieces)
        if ended:
            self._end_stream(id)

    def _end_stream(self, id: int) -> None:
        if self._streams[id].sends:  # §8.1: the client shall stop to send the body, which the answer does not need
            self.reset(id, Code.NO_ERROR)
        else:
            del self._streams[id]

    def reset(self, id: int, code: Code) -> None:
        """Ends a stream. It may be closed already."""
        stream = self._streams.pop(id, None)
        if stream is not None:
            self._send_reset(id, code, stream.length - stream.received if stream.length >= 0 else -1)

    def _break(self, id: int, code: Code) -> Http2Event:
        """Ends a stream because of its frame."""
        self._streams.pop(id, None)
        self._send_reset(id, code)
        return Reset(id)

    def _send_reset(self, id: int, code: Code, left: int = -1) -> None:
        """Sends a reset, and remembers it. left: bytes of the body that will still come; -1: any number."""
        if len(self._we_reset) >= _REMEMBERED:
            del self._we_reset[next(iter(self._we_reset))]
        self._we_reset[id] = left
        self.output.append(frame(FrameKind.RST_STREAM, 0, id, code.to_bytes(4, "big")))

    def go_away(self, code: Code) -> None:
        """Tells the client that no further streams are answered."""
        payload = self._opened.to_bytes(4, "big") + code.to_bytes(4, "big")
        self.output.append(frame(FrameKind.GOAWAY, 0, 0, payload))

    def acknowledge(self, id: int, size: int) -> None:
        """Lets the client send `size` more bytes. id: the stream on which they came; 0: it is closed."""
        self._unacknowledged += size
        if self._unacknowledged >= self._window_size // 2:
            self.output.append(frame(FrameKind.WINDOW_UPDATE, 0, 0, self._unacknowledged.to_bytes(4, "big")))
            self._window_in += self._unacknowledged
            self._unacknowledged = 0
        stream = self._streams.get(id)
        if stream is not None and stream.sends:
            stream.unacknowledged += size
            if stream.unacknowledged >= self._window_size // 2:
                self.output.append(frame(FrameKind.WINDOW_UPDATE, 0, id, stream.unacknowledged.to_bytes(4, "big")))
                stream.window_in += stream.unacknowledged
                stream.unacknowledged = 0


def _settings(values: Mapping[Setting, int]) -> bytes:
    return b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in values.items())


def _depends_on(priority: bytes) -> int:
    return int.from_bytes(priority[:4], "big") & MAX_WINDOW


def _without_padding(flags: int, payload: bytes) -> bytes:
    """Returns a payload without its padding (§6.1)."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Http2Error(Code.PROTOCOL_ERROR, "malformed padding")
    return payload[1 : len(payload) - payload[0]]
