"""Frames a feed's bytes for HTTP, WebSocket and RTMP. One object of each kind serves all viewers."""

from __future__ import annotations

from typing import Final

from gateway.http import websocket
from gateway.live.sink import EndReason
from gateway.packaging.viewer import Framing


class ChunkedFraming:
    """One HTTP/1.1 chunk for each batch (RFC 9112 §7.1)."""

    kind = "flv"

    def wrap(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if data else b""  # an empty chunk would end the body

    def last(self, reason: EndReason) -> bytes:
        return b"0\r\n\r\n"


class RawFraming:
    """The bytes without framing.

    HTTP/1.0: the end of the connection ends the body.
    RTMP: rendered messages are chunks already, and the core of each connection reports the end.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def wrap(self, data: bytes) -> bytes:
        return data

    def last(self, reason: EndReason) -> bytes:
        return b""


class WebSocketFraming:
    """One binary WebSocket message for each batch. It is not masked, so all viewers get equal bytes."""

    kind = "wsflv"

    def wrap(self, data: bytes) -> bytes:
        return websocket.frame(websocket.BINARY, data)

    def last(self, reason: EndReason) -> bytes:
        code = websocket.GOING_AWAY if reason is EndReason.SHUTDOWN else websocket.NORMAL
        return websocket.close_frame(code, str(reason))


CHUNKED: Final[Framing] = ChunkedFraming()
RAW: Final[Framing] = RawFraming("flv")
RTMP: Final[Framing] = RawFraming("rtmp")
MESSAGES: Final[Framing] = WebSocketFraming()
