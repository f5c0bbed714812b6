"""RTMP, both ends: any input gives RemoteProtocolError or documented events, with bounded memory."""

from __future__ import annotations

import contextlib

from gateway.formats.flv.tag import ScriptTag
from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError
from gateway.protocols.rtmp import events as known
from gateway.protocols.rtmp.chunk_reader import MAX_MESSAGE, ChunkReader
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.client import ClientConnection, ClientRole
from gateway.protocols.rtmp.events import PlayRequested, PublishRequested
from gateway.protocols.rtmp.handshake import SIZE
from gateway.protocols.rtmp.message import SET_CHUNK_SIZE, VIDEO
from gateway.protocols.rtmp.server import ServerConnection
from gateway.protocols.rtmp.url import parse_url, resolve
from gateway.protocols.rtmp.wire import WireLimits
from tests.fuzz import captures

_LIMITS = WireLimits(message=1 << 16, pending=1 << 17, early_media=1 << 14, chunk_streams=8, aggregate=64)
_SHAKEN = b"\x03" + bytes(2 * SIZE)
_EVENTS = tuple(vars(known)[name] for name in vars(known) if isinstance(vars(known)[name], type))


def seeds() -> list[bytes]:
    """Real connections: whole ones (8: the handshake too), and behind their handshake in each way of cutting."""
    whole = [b"\x0e" + data for data in captures.greetings()]
    return [_small_chunks(), *whole] + [bytes((4 | n % 4,)) + data for n, data in enumerate(captures.connections(4000))]


def _small_chunks() -> bytes:
    """Chunk sizes that change, so small that the message which tells them spans chunks."""
    writer, data = ChunkWriter(), b"\x01"
    for size in (1, 2, 3, 127, 5):
        data += writer.write(2, SET_CHUNK_SIZE, 0, 0, size.to_bytes(4, "big"))
        writer.chunk_size = size
        data += writer.write(6, VIDEO, size, 1, bytes(40))
    return data


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module. The first byte says how the rest is cut and what the owner answers."""
    choice, rest = (data[0], data[1:]) if data else (0, b"")
    size = (1, 7, 128, 1 << 20)[choice & 3]
    _chunks(rest, size, ChunkReader(max_message=1 << 16, max_pending=1 << 17, max_streams=8), 1 << 16)
    _chunks(rest, 1 << 20, ChunkReader(), MAX_MESSAGE)
    _serve(_SHAKEN + rest, size, accept=bool(choice & 4))
    if choice & 8:
        _serve(rest, size, accept=True)
    for role in ClientRole:
        _ask(role, rest, size)
    text = rest[:200].decode("utf-8", "replace")
    resolve(text, text[::-1], text[:50])
    try:
        parse_url(text)
        parse_url("rtmp://" + text)
    except ValueError:
        pass


def _chunks(data: bytes, size: int, reader: ChunkReader, most: int) -> None:
    try:
        for at in range(0, len(data), size):
            for message in reader.receive(data[at : at + size]):
                assert 0 <= message.timestamp < 1 << 32
                assert len(message.payload) <= most
            assert reader.pending <= min(at + size, 2 * most), "declared and not arrived"
    except RemoteProtocolError:
        pass


def _serve(data: bytes, size: int, *, accept: bool) -> None:
    server = ServerConnection(limits=_LIMITS)
    try:
        for at in range(0, len(data), size):
            events = list(server.receive(data[at : at + size]))
            while events:
                event = events.pop(0)
                assert isinstance(event, (*_EVENTS, ScriptTag))
                if isinstance(event, PublishRequested):
                    events += server.accept_publish() if accept else []
                elif isinstance(event, PlayRequested):
                    events += server.accept_play() if accept else []
            assert len(server.data_to_send()) <= 8192 + 64 * (len(data) + size)
    except RemoteProtocolError:
        assert server.closing
        assert server.close_reason
    server.release_buffers()
    assert server.receive(data[:16]) == []


def _ask(role: ClientRole, data: bytes, size: int) -> None:
    client = ClientConnection(parse_url("rtmp://h/stream/id"), role, limits=_LIMITS)
    try:
        client.receive(_SHAKEN)
        for at in range(0, len(data), size):
            assert all(isinstance(event, (*_EVENTS, ScriptTag)) for event in client.receive(data[at : at + size]))
            client.data_to_send()
    except RemoteProtocolError:
        assert client.closing
    with contextlib.suppress(LocalProtocolError):
        client.send_media(9, 0, b"v")
