"""The server's side of WebSocket (RFC 6455) as far as viewers need it: handshake, frames out, control frames in.

What viewers send beside control frames means nothing here: it is checked, bounded and thrown away as it arrives, so
that a viewer costs no more memory than its connection. No extension is negotiated.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final

from gateway.protocols.errors import RemoteProtocolError
from gateway.servers.request import Request

BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
TOO_BIG: Final = 1009

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION: Final = 0x0
_DATA: Final = frozenset({0x0, 0x1, 0x2})
_CONTROL: Final = frozenset({CLOSE, PING, PONG})
_MOST_DATA: Final = 65_536  # bytes of a data frame: viewers have nothing to say


class WebSocketError(RemoteProtocolError):
    """The peer broke the protocol; `code` is for the close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Control:
    """A close, ping or pong that arrived, unmasked."""

    opcode: int
    payload: bytes


def wants_upgrade(request: Request) -> bool:
    """Whether the request asks for a WebSocket."""
    upgrade = request.headers.get("upgrade")
    return (
        upgrade is not None
        and request.http11
        and "websocket" in [t.strip() for t in upgrade.lower().split(",")]
        and "upgrade" in [t.strip() for t in request.headers.get("connection", "").lower().split(",")]
    )


def accept_key(request: Request) -> str:
    """The value of Sec-WebSocket-Accept. Raises WebSocketError where the key is none (§4.2.1: 16 bytes in base64)."""
    key = request.headers.get("sec-websocket-key", "")
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise WebSocketError(PROTOCOL_ERROR, "malformed Sec-WebSocket-Key")
    digest = hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")


def frame(opcode: int, payload: bytes) -> bytes:
    """One final, unmasked frame: §5.1 "A server MUST NOT mask any frames that it sends"."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, size))
    elif size < 65_536:
        head = bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big")
    return head + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; the reason is cut to what a control frame holds."""
    words = reason.encode()[:123].decode(errors="ignore").encode()
    return frame(CLOSE, code.to_bytes(2, "big") + words)


class ClientFrames:
    """Parses what a client sends: `receive` returns the control frames and drops everything else.

    Holds at most one control frame; costs the same however the bytes are cut.
    """

    __slots__ = ("_buffer", "_fragmented", "_skip")

    def __init__(self) -> None:
        self._buffer = b""
        self._skip = 0  # bytes of a data frame still to come
        self._fragmented = False

    def receive(self, data: bytes) -> list[Control]:
        """Raises WebSocketError; nothing can be received after that."""
        controls: list[Control] = []
        if self._buffer:
            data = self._buffer + data
        at, end = 0, len(data)
        while at < end:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                at += step
                continue
            step = self._frame(data, at, end, controls)
            if not step:
                break
            at += step
        self._buffer = data[at:]
        return controls

    def _frame(self, data: bytes, at: int, end: int, controls: list[Control]) -> int:
        """Reads one frame's head (of a control frame all of it) at `at`: its length; 0 where bytes are missing."""
        if end - at < 2:
            return 0
        first, second = data[at], data[at + 1]
        opcode, size, final = first & 0x0F, second & 0x7F, bool(first & 0x80)
        if first & 0x70:
            raise WebSocketError(PROTOCOL_ERROR, "reserved bits without an extension")
        if opcode not in _DATA and opcode not in _CONTROL:
            raise WebSocketError(PROTOCOL_ERROR, "unknown opcode")
        if not second & 0x80:  # §5.1: "a server MUST close the connection upon receiving a frame that is not masked"
            raise WebSocketError(PROTOCOL_ERROR, "frame without a mask")
        if opcode in _CONTROL:
            if not final or size > 125:  # §5.5
                raise WebSocketError(PROTOCOL_ERROR, "control frame fragmented or too long")
            if end - at < 6 + size:
                return 0
            payload = unmask(data[at + 6 : at + 6 + size], data[at + 2 : at + 6])
            if opcode == CLOSE and size == 1:  # §5.5.1: the body, if there is one, begins with a 2-byte code
                raise WebSocketError(PROTOCOL_ERROR, "malformed close frame")
            controls.append(Control(opcode, payload))
            return 6 + size
        wide = {126: 2, 127: 8}.get(size, 0)
        if end - at < 2 + wide + 4:
            return 0
        if wide:
            size = int.from_bytes(data[at + 2 : at + 2 + wide], "big")
        if size > _MOST_DATA:
            raise WebSocketError(TOO_BIG, "viewers have nothing to send")
        if (opcode == _CONTINUATION) is not self._fragmented:  # §5.4
            raise WebSocketError(PROTOCOL_ERROR, "fragments out of order")
        self._fragmented = not final
        self._skip = size
        return 2 + wide + 4


def unmask(payload: bytes, mask: bytes) -> bytes:
    """§5.3; masking is its own inverse."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
