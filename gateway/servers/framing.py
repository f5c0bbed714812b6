"""Framings: the envelopes in which a feed's bytes travel over HTTP; one object of each serves every viewer."""

from __future__ import annotations

from typing import Final

from gateway.hub.stream import EndReason
from gateway.packagers.feed import Framing
from gateway.servers import websocket


class Chunked:
    """An HTTP/1.1 chunk a batch (RFC 9112 §7.1)."""

    kind = "flv"

    def wrap(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if data else b""  # an empty chunk would be the last

    def last(self, reason: EndReason) -> bytes:
        return b"0\r\n\r\n"


class Raw:
    """The bytes alone, for HTTP/1.0: the end of the connection ends them."""

    kind = "flv"

    def wrap(self, data: bytes) -> bytes:
        return data

    def last(self, reason: EndReason) -> bytes:
        return b""


class Messages:
    """A binary WebSocket message a batch; unmasked, therefore the same bytes for everyone."""

    kind = "wsflv"

    def wrap(self, data: bytes) -> bytes:
        return websocket.frame(websocket.BINARY, data)

    def last(self, reason: EndReason) -> bytes:
        code = websocket.GOING_AWAY if reason is EndReason.SHUTDOWN else websocket.NORMAL
        return websocket.close_frame(code, str(reason))


CHUNKED: Final[Framing] = Chunked()
RAW: Final[Framing] = Raw()
MESSAGES: Final[Framing] = Messages()
