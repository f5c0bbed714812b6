"""WebSocket frames of viewers: the same control frames however the bytes are cut, nothing kept, WebSocketError only."""

from __future__ import annotations

from gateway.http.websocket import (
    CLOSE,
    INVALID_DATA,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TOO_BIG,
    ClientFrames,
    Control,
    WebSocketError,
    close_frame,
    frame,
    unmask,
)


def _masked(opcode: int, payload: bytes, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    plain = frame(opcode, payload)
    head = plain[: len(plain) - len(payload)]
    return bytes((head[0], head[1] | 0x80)) + head[2:] + mask + unmask(payload, mask)


SEEDS = [
    _masked(1, b"hello") + _masked(PING, b"ab") + _masked(PONG, b""),
    _masked(2, bytes(300)) + _masked(CLOSE, b"\x03\xe8bye"),
    b"\x01" + _masked(1, b"first")[1:] + _masked(PING, bytes(125)) + b"\x80" + _masked(1, b"last")[1:],
    _masked(2, bytes(65_535))[:200],
    _masked(CLOSE, b""),
    b"\x89\xfe" + bytes(140),  # a ping of 126 bytes
    b"\x82\xff" + (1 << 62).to_bytes(8, "big") + bytes(20),
]


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module; a close frame of ours is one that the peer can read."""
    whole = _read(data, len(data) or 1)
    for size in (1, 3, 11):
        assert _read(data, size) == whole
    words = data[:400].decode("utf-8", "replace")
    closing = close_frame(1000 + len(data) % 4000, words)
    assert closing[0] == 0x80 | CLOSE
    assert closing[1] == len(closing) - 2 <= 125
    assert words.startswith(closing[4:].decode())
    back = ClientFrames()
    assert back.receive(_masked(PING, data[:125])) == [Control(PING, data[:125])]


def _read(data: bytes, size: int) -> tuple[list[Control], int]:
    """The control frames and 0, or none and the code of the error."""
    frames = ClientFrames()
    found: list[Control] = []
    for at in range(0, len(data), size):
        try:
            controls = frames.receive(data[at : at + size])
        except WebSocketError as error:
            assert error.code in (PROTOCOL_ERROR, TOO_BIG, INVALID_DATA)
            return [], error.code  # how many came before it depends on the cuts
        found += controls
        for control in controls:
            assert control.opcode in (CLOSE, PING, PONG)
            assert len(control.payload) <= 125
        assert len(frames._buffer) < 2 + 4 + 125
    return found, 0
