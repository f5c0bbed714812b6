"""Frames a feed's bytes for HTTP, WebSocket, RTMP, SRT and RTSP. One object of each kind serves all viewers."""

from typing import Final

from gateway.http import websocket
from gateway.live.sink import EndReason
from gateway.packaging.viewer import Framing


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""  # an empty chunk would end the body


# Bytes. A browser gives a message to the page when it is complete, so a whole GOP on a slow link would come late.
_MESSAGE: Final = 16_384


def _unchanged(data: bytes) -> bytes:
    return data


def _nothing(reason: EndReason) -> bytes:
    return b""


def _message(data: bytes) -> bytes:
    if len(data) <= _MESSAGE:
        return websocket.frame(websocket.BINARY, data)
    pieces = (data[at : at + _MESSAGE] for at in range(0, len(data), _MESSAGE))
    return b"".join(websocket.frame(websocket.BINARY, piece) for piece in pieces)


def _close(reason: EndReason) -> bytes:
    code = websocket.GOING_AWAY if reason is EndReason.SHUTDOWN else websocket.NORMAL
    return websocket.close_frame(code, str(reason))


# One HTTP/1.1 chunk for each batch (RFC 9112 §7.1).
CHUNKED: Final = Framing("flv", _chunk, lambda reason: b"0\r\n\r\n")
# HTTP/1.0: the end of the connection ends the body.
RAW: Final = Framing("flv", _unchanged, _nothing)
# A feed of RTMP renders complete messages, which need no frame. The player's RTMP connection reports the end.
RTMP: Final = Framing("rtmp", _unchanged, _nothing)
# A transport stream needs no frame.
SRT: Final = Framing("srt", _unchanged, _nothing)
# Packets of RTP between the messages of a connection have their own length.
RTSP: Final = Framing("rtsp", _unchanged, _nothing)
# Binary WebSocket messages: one for each small batch. They are not masked, so all viewers get the same bytes.
MESSAGES: Final = Framing("wsflv", _message, _close)
