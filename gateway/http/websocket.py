"""The part of a WebSocket server (RFC 6455) that viewers need: handshake, sent frames, received control frames.

Other data of viewers has no meaning: it is checked, bounded and discarded when it arrives. So a viewer needs no memory
except for its connection. No extension is negotiated.
"""

import base64
import binascii
import codecs
import hashlib
from dataclasses import dataclass
from typing import Final

from gateway.http.request import Request
from gateway.protocols.errors import RemoteProtocolError

BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
INVALID_DATA: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_UTF8: Final = codecs.getincrementaldecoder("utf-8")
_DATA: Final = frozenset({0x0, 0x1, 0x2})
_CONTROL: Final = frozenset({CLOSE, PING, PONG})
_MAX_DATA: Final = 65_536  # limit of a data frame in bytes; viewers do not need to send any


class WebSocketError(RemoteProtocolError):
    """The peer broke the protocol. code: for the close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Control:
    """A received close, ping or pong without its mask."""

    opcode: int
    payload: bytes


def wants_upgrade(request: Request) -> bool:
    """Whether the request wants a WebSocket."""
    upgrade = request.headers.get("upgrade")
    return (
        upgrade is not None
        and request.http11
        and "websocket" in [t.strip() for t in upgrade.lower().split(",")]
        and "upgrade" in [t.strip() for t in request.headers.get("connection", "").lower().split(",")]
    )


def accept_key(request: Request) -> str:
    """Returns the value of Sec-WebSocket-Accept.

    Raises WebSocketError for an invalid key (§4.2.1: 16 bytes in base64).
    """
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
    """Returns one final, unmasked frame: §5.1 "A server MUST NOT mask any frames that it sends"."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, size))
    elif size < 65_536:
        head = bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big")
    return head + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Returns a close frame. The reason is cut to the size of a control frame."""
    text = reason.encode()[:123].decode(errors="ignore").encode()
    return frame(CLOSE, code.to_bytes(2, "big") + text)


class ClientFrames:
    """Parses the data of a client: `receive` returns the control frames and discards all other data.

    It holds at most one control frame. Its cost does not depend on the size of the reads.
    Text must be UTF-8 (§8.1), although it is not used.
    """

    __slots__ = ("_buffer", "_fragmented", "_mask", "_skip", "_text")

    def __init__(self) -> None:
        self._buffer = b""
        self._skip = 0  # bytes of a data frame that have not arrived
        self._fragmented = False
        self._mask = b""  # mask of this frame, rotated to its next byte
        self._text: codecs.IncrementalDecoder | None = None  # decoder of a text message that has not ended

    def receive(self, data: bytes) -> list[Control]:
        """Returns the control frames in the received bytes. Raises WebSocketError; then it cannot be called again."""
        controls: list[Control] = []
        if self._buffer:
            data = self._buffer + data
        at, end = 0, len(data)
        while at < end:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                if self._text is not None:
                    self._check_text(self._text, data[at : at + step])
                at += step
                continue
            step = self._read_frame(data, at, end, controls)
            if not step:
                break
            at += step
        self._buffer = data[at:]
        return controls

    def _read_frame(self, data: bytes, at: int, end: int, controls: list[Control]) -> int:
        """Reads the head of a data frame, or a whole control frame. Returns its length; 0 if bytes are missing."""
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
            if opcode == CLOSE and payload:
                _check_close(payload)
            controls.append(Control(opcode, payload))
            return 6 + size
        wide = {126: 2, 127: 8}.get(size, 0)
        if end - at < 2 + wide + 4:
            return 0
        if wide:
            size = int.from_bytes(data[at + 2 : at + 2 + wide], "big")
        if size > _MAX_DATA:
            raise WebSocketError(TOO_BIG, "the data frame is too large")
        if (opcode == _CONTINUATION) is not self._fragmented:  # §5.4
            raise WebSocketError(PROTOCOL_ERROR, "fragments out of order")
        self._fragmented = not final
        self._skip = size
        if opcode != _CONTINUATION:
            self._text = _UTF8() if opcode == _TEXT else None
        if self._text is not None:
            self._mask = data[at + 2 + wide : at + 6 + wide]
            if not size:
                self._check_text(self._text, b"")
        return 2 + wide + 4

    def _check_text(self, text: codecs.IncrementalDecoder, piece: bytes) -> None:
        """Raises WebSocketError if the next bytes of a text message are not UTF-8. piece: still masked."""
        final = not self._skip and not self._fragmented
        try:
            text.decode(unmask(piece, self._mask), final)
        except UnicodeError:
            raise WebSocketError(INVALID_DATA, "the text is not UTF-8") from None
        shift = len(piece) & 3
        self._mask = self._mask[shift:] + self._mask[:shift]
        if final:
            self._text = None


def _check_close(payload: bytes) -> None:
    """Raises WebSocketError if a close frame has a body that peers may not send.

    §7.4.1: 1004 is reserved; 1005, 1006 and 1015 are never sent.
    §7.4.2: 0-999 are not used. 1000-2999 are for this and later protocols, and the registry has 1000-1014.
    3000-4999 are for libraries and applications.
    """
    code = int.from_bytes(payload[:2], "big")
    # §5.5.1: a body begins with a 2-byte code.
    if len(payload) < 2 or not (1000 <= code <= 1014 or 3000 <= code <= 4999) or code in (1004, 1005, 1006):
        raise WebSocketError(PROTOCOL_ERROR, "malformed close frame")
    try:
        payload[2:].decode("utf-8")
    except UnicodeError:  # §8.1
        raise WebSocketError(INVALID_DATA, "the reason is not UTF-8") from None


def unmask(payload: bytes, mask: bytes) -> bytes:
    """Removes the mask of a payload (§5.3), or adds it."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
