"""Messages of real clients, cut into pieces for targets: the seeds of several of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from gateway.protocols.rtmp.chunk_reader import ChunkReader
from gateway.protocols.rtmp.message import Message

_GOLDEN = Path(__file__).parents[1] / "golden" / "rtmp"
_SHAKEN = 3073  # C0, C1 and C2
_COMMAND, _DATA = 20, 18


@cache
def connections(most: int = 6000) -> list[bytes]:
    """The first bytes behind the handshake of each captured connection."""
    return [path.read_bytes()[_SHAKEN : _SHAKEN + most] for path in sorted(_GOLDEN.glob("*.bin"))]


@cache
def greetings() -> list[bytes]:
    """Handshake and connect, whole."""
    return [path.read_bytes()[: _SHAKEN + 600] for path in sorted(_GOLDEN.glob("*.bin"))]


@cache
def messages() -> list[Message]:
    """The RTMP messages of all captures."""
    return [
        m for path in sorted(_GOLDEN.glob("*.bin")) for m in ChunkReader().receive(path.read_bytes()[_SHAKEN:20000])
    ]


def media(most: int = 300) -> list[Message]:
    """The first audio, video and data messages of each kind; payloads are cut to `most` bytes."""
    found: dict[tuple[int, bytes], Message] = {}
    for message in messages():
        if message.type_id in (8, 9, _DATA) and message.payload:
            found.setdefault((message.type_id, message.payload[:6]), message)
    return [replace(m, payload=m.payload[:most]) for m in found.values()][:60]


def values() -> list[bytes]:
    """The AMF bodies of commands and data messages."""
    return list(dict.fromkeys(m.payload for m in messages() if m.type_id in (_COMMAND, _DATA)))[:60]


def pushes() -> list[list[Message]]:
    """Returns the first media and data messages of each captured publisher, except large ones."""
    found = []
    for path in sorted(_GOLDEN.glob("*.bin")):
        messages = ChunkReader().receive(path.read_bytes()[_SHAKEN:])
        kept = [m for m in messages if m.type_id in (8, 9, _DATA) and 0 < len(m.payload) < 1500]
        if len(kept) > 5:
            found.append(kept[:30])
    return found
