"""Two sans-I/O ends that talk to each other, and a scripted client for invalid messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.formats import amf0
from gateway.protocols.rtmp.chunk_reader import ChunkReader
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.client import ClientConnection, ClientRole
from gateway.protocols.rtmp.message import Message
from gateway.protocols.rtmp.server import ServerConnection
from gateway.protocols.rtmp.url import parse_url


def talk(
    client: ClientConnection, server: ServerConnection, answer: Callable[[Any], None] = lambda event: None
) -> tuple[list[Any], list[Any]]:
    """Carries bytes until both are silent; returns the events of the client and of the server."""
    heard: tuple[list[Any], list[Any]] = ([], [])
    while True:
        up, down = client.data_to_send(), server.data_to_send()
        if not up and not down:
            return heard
        for event in server.receive(up) if up else []:
            heard[1].append(event)
            answer(event)
        heard[0].extend(client.receive(down) if down else [])


def a_client(
    role: ClientRole = ClientRole.PUBLISH, url: str = "rtmp://h/stream/id?sign=1-a", **options: Any
) -> ClientConnection:
    return ClientConnection(parse_url(url), role, **options)


class Scripted:
    """A client that sends exact raw messages to a server and reads the server's messages."""

    def __init__(self, server: ServerConnection | None = None) -> None:
        self.server = server or ServerConnection()
        self.writer = ChunkWriter()
        self.reader = ChunkReader()
        self.server.receive(b"\x03" + bytes(1536))
        assert len(self.server.data_to_send()) == 1 + 1536 + 1536
        self.server.receive(bytes(1536))

    def message(self, kind: int, payload: bytes, stream: int = 0, time: int = 0) -> list[Any]:
        """Sends one message; returns the events of the server."""
        return self.server.receive(self.writer.write(3, kind, time, stream, payload))

    def command(self, name: str, transaction: float, *values: Any, stream: int = 0) -> list[Any]:
        return self.message(20, amf0.encode(name, transaction, *values), stream)

    def heard(self) -> list[Message]:
        """The messages that the server has sent since the last call."""
        return self.reader.receive(self.server.data_to_send())

    def commands(self) -> list[list[Any]]:
        """The command messages of `heard`, decoded."""
        return [amf0.decode(m.payload) for m in self.heard() if m.type_id == 20]

    def codes(self) -> list[str]:
        """The status codes among them."""
        return [v[-1]["code"] for v in self.commands() if isinstance(v[-1], dict) and "code" in v[-1]]

    def connect(self, app: str = "stream", **more: Any) -> list[Any]:
        return self.command("connect", 1, {"app": app, "tcUrl": "rtmp://h/stream", **more})

    def publishing(self, name: str = "id?sign=1-a") -> Scripted:
        """Sends commands until the publish runs."""
        self.connect()
        self.command("createStream", 2, None)
        self.command("publish", 3, None, name, "live", stream=1)
        self.server.accept_publish()
        self.heard()
        return self

    def playing(self, name: str = "id") -> Scripted:
        """Sends commands until the play runs."""
        self.connect()
        self.command("createStream", 2, None)
        self.command("play", 3, None, name, stream=1)
        self.server.accept_play()
        self.heard()
        return self
