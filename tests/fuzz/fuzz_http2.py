"""Frames of HTTP/2 whole and in pieces: the same events, errors of the protocol only, requests with one meaning."""

from gateway.http.request import HeadParser, RequestError
from gateway.protocols.http2.connection import MAX_STREAMS, Http2Error, Http2Event, Http2Protocol, RequestHead
from gateway.protocols.http2.frames import END_HEADERS, END_STREAM, PREFACE, FrameKind, frame
from gateway.protocols.http2.heads import MalformedRequest, request_head

_GET = b"\x82\x87\x84\x41\x01a"
_START = PREFACE + frame(FrameKind.SETTINGS, 0, 0, b"\0\4\0\0\x10\0")
SEEDS = [
    _START + frame(FrameKind.HEADERS, END_HEADERS | END_STREAM, 1, _GET) + frame(FrameKind.RST_STREAM, 0, 1, bytes(4)),
    _START + frame(FrameKind.HEADERS, END_HEADERS, 1, _GET) + frame(FrameKind.DATA, 9, 1, b"\x01ab\0"),
    _START
    + frame(FrameKind.HEADERS, 0x20, 1, bytes(5) + _GET)
    + frame(FrameKind.CONTINUATION, END_HEADERS, 1, b"\x90"),
    _START + frame(FrameKind.WINDOW_UPDATE, 0, 0, b"\0\0\0\1") + frame(FrameKind.PING, 0, 0, bytes(8)),
    _START
    + frame(FrameKind.PRIORITY, 0, 3, bytes(5))
    + frame(FrameKind.GOAWAY, 0, 0, bytes(8))
    + frame(0x42, 1, 9, b"x"),
    _START + frame(FrameKind.HEADERS, END_HEADERS, 1, _GET + b"\x40\x0aconnection\x05close\x00\x81\x1f\x82\x1f\xff"),
]
_parser = HeadParser(8192)


def _events(data: bytes, step: int) -> tuple[list[Http2Event], int | None, bytes]:
    protocol = Http2Protocol()
    events: list[Http2Event] = []
    error = None
    try:
        for at in range(0, len(data), step):
            protocol.receive(data[at : at + step])
            events += protocol.events()
    except Http2Error as raised:
        error = raised.code
    return events, error, b"".join(protocol.output)


def fuzz(data: bytes) -> None:
    whole = _events(data, len(data) + 1)
    # An error in one piece hides the events before it, which the owner has had already.
    events, error, output = _events(data, 1)
    assert (error, output) == whole[1:]
    assert error is not None or events == whole[0]
    assert len(output) < 200 + 20 * len(data)
    assert sum(isinstance(event, RequestHead) for event in events) <= MAX_STREAMS + len(data) // 13
    for event in events:
        if isinstance(event, RequestHead):
            try:
                head, _ = request_head(event.fields, not event.ended)
                _parser.parse(head)
            except (MalformedRequest, RequestError):
                continue
