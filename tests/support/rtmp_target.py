"""An RTMP relay target that records its input and can misbehave at any stage."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from gateway.formats import amf0
from gateway.formats.flv import muxer
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.command import status
from gateway.protocols.rtmp.events import Connected, PublishEnded, PublishRequested, ScriptTag
from gateway.protocols.rtmp.message import COMMAND, Message
from gateway.protocols.rtmp.server import ServerConnection
from tests.support.flv_reader import Tag
from tests.support.time_outs import at_most

SECONDS = 20.0


@dataclass
class Session:
    """One connection and its data. script: (time, name, values)."""

    writer: asyncio.StreamWriter
    connect: dict[str, Any] = field(default_factory=dict)
    app: str = ""
    name: str = ""
    query: dict[str, str] = field(default_factory=dict)
    tags: list[Tag] = field(default_factory=list)
    scripts: list[ScriptTag] = field(default_factory=list)
    finished: bool = False  # the peer ended its push with the closing commands
    closed: bool = False

    @property
    def media(self) -> list[Tag]:
        """Audio and video messages without sequence headers."""
        return [t for t in self.tags if t.payload[1:2] != b"\0" and t.payload[0] not in (0x90,)]

    @property
    def headers(self) -> list[Tag]:
        """The sequence headers."""
        return [t for t in self.tags if t not in self.media]

    def flv(self) -> bytes:
        """The received data as an FLV file."""
        tags = b"".join(muxer.tag(t.type_id, t.timestamp, t.payload) for t in self.tags)
        return muxer.file_header(True, True) + tags

    def cut(self) -> None:
        """Resets the connection."""
        self.writer.transport.abort()


def refused_connect(description: str) -> bytes:
    """The message by which a server refuses `connect`."""
    info = status("error", "NetConnection.Connect.Rejected", description)
    return ChunkWriter().write(3, COMMAND, 0, 0, amf0.encode("_error", 1.0, None, info))


Judge = Callable[[Session], tuple[str, str] | None]


class RtmpTarget:
    """Use as `async with RtmpTarget() as target`; `target.url()` is the push URL.

    judge: returns a code and description to refuse a publish, or None. watch: called for each message; false
    disconnects. guard: returns the description to refuse a `connect` by its tcUrl; "": none.
    receive_buffer: bytes that the kernel may keep unread; 0: as many as it likes.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        app: str = "live",
        judge: Judge | None = None,
        watch: Callable[[Session, Message], bool] | None = None,
        guard: Callable[[str], str] = lambda tc_url: "",
        receive_buffer: int = 0,
    ) -> None:
        self._receive_buffer = receive_buffer
        self._guard = guard
        self._host, self._tls, self._app = host, tls, app
        self._judge, self._watch = judge, watch
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Condition()
        self._running: set[asyncio.Task[Any]] = set()
        self.port = port
        self.sessions: list[Session] = []
        self.mute = False  # if true, no publish is answered
        self.reading = asyncio.Event()  # if cleared, nothing more is read
        self.reading.set()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Listens, on the previous port after `close`."""
        self._server = await asyncio.start_server(self._serve, self._host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        if self._receive_buffer:
            self._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)

    async def close(self) -> None:
        """Closes the port and resets all connections."""
        assert self._server is not None
        self._server.close()
        for session in self.sessions:
            session.cut()
        self.reading.set()
        if self._running:
            await asyncio.wait(self._running)
        await self._server.wait_closed()

    def url(self, key: str = "cam", *, host: str | None = None, scheme: str | None = None) -> str:
        scheme = scheme or ("rtmps" if self._tls else "rtmp")
        return f"{scheme}://{host or self._host}:{self.port}/{self._app}/{key}"

    async def until(self, condition: Callable[[], Any], what: str = "arrives at the target") -> None:
        """Waits until `condition()` is true, checked whenever data arrives."""
        try:
            async with asyncio.timeout(at_most(SECONDS)), self._changed:
                await self._changed.wait_for(lambda: bool(condition()))
        except TimeoutError:
            raise AssertionError(f"not within {SECONDS:.0f} s: {what}") from None

    async def session(self, number: int = 0, *, media: int = 1) -> Session:
        """Waits for the n-th accepted push with this number of frames."""
        await self.until(lambda: len(self.sessions) > number and len(self.sessions[number].media) >= media)
        return self.sessions[number]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        server = ServerConnection(apps={self._app})
        session = Session(writer)
        try:
            while not server.closing and (data := await reader.read(65536)):
                await self.reading.wait()
                events: list[Any] = list(server.receive(data))
                while events:
                    self._event(server, session, events.pop(0), events)
                writer.write(server.data_to_send())
                await writer.drain()
                async with self._changed:
                    self._changed.notify_all()
        except (ConnectionError, RemoteProtocolError, ssl.SSLError):
            pass
        finally:
            session.closed = True
            writer.close()
            async with self._changed:
                self._changed.notify_all()

    def _event(self, server: ServerConnection, session: Session, event: Any, events: list[Any]) -> None:
        if isinstance(event, Connected):
            session.app = event.app
            session.connect = {"tcUrl": event.tc_url, "fourCcList": list(event.fourccs)}
            if refused := self._guard(event.tc_url):
                session.writer.write(refused_connect(refused))
                server.release_buffers()
        elif isinstance(event, PublishRequested):
            session.name, session.query = event.name, event.query
            if self.mute:
                return
            refusal = self._judge(session) if self._judge is not None else None
            if refusal is not None:
                server.reject_publish(*refusal)
                return
            self.sessions.append(session)
            events += server.accept_publish()
        elif isinstance(event, Message):
            session.tags.append(Tag(event.type_id, event.timestamp, event.payload))
            if self._watch is not None and not self._watch(session, event):
                session.cut()
        elif isinstance(event, ScriptTag):
            session.scripts.append(event)
        elif isinstance(event, PublishEnded):
            session.finished = event.reason != "connection closed"
