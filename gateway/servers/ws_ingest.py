"""The WS and WSS listeners: the opening handshake, who is behind a proxy, and the once-a-second look at every push."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, unquote

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from gateway.hub import relays
from gateway.hub.errors import NotAuthorized
from gateway.protocols import push, push_original
from gateway.servers.forwarded import plain_address
from gateway.servers.listen import BACKLOG, Opener, listen, port_of
from gateway.servers.origins import host_name
from gateway.servers.ws_compat import TargetEntry
from gateway.servers.ws_door import WsDoor
from gateway.servers.ws_entry import ChannelEntry, Entry
from gateway.servers.ws_session import PushSession
from gateway.servers.ws_words import JsonWords, OriginalWords, Words

CLOSE_SECONDS: Final = 2.5  # a client that does not answer our close is cut; contract: closed within 3 s
QUEUE: Final = 4  # messages that wait to be taken; then the socket is not read
UNSENT: Final = 1 << 20  # bytes of answers to pings that a client does not read: it is cut
STREAM: Final = "/stream/"
HEALTH: Final = "/healthcheck"
_MOST_PARAMETERS: Final = 32
_FRAMES: Final = Subprotocol(push.SUBPROTOCOL)

# The library tells of each connection, with its path, which has a key in it: we write our own lines.
_quiet = logging.getLogger("millrace.websockets")
_quiet.setLevel(logging.ERROR)


class WsListener:
    """One port. `run` must run while it is open; closing it leaves pushes to the hub's drain."""

    def __init__(self, door: WsDoor, host: str, port: int, tls: ssl.SSLContext | None, opener: Opener = listen) -> None:
        self._door = door
        self._tls = tls
        self._name = "wss" if tls is not None else "ws"
        self._sockets = opener(self._name, host, port)
        self._port = port_of(self._sockets)
        self._servers: list[Server] = []
        self._sessions: set[PushSession] = set()

    @property
    def port(self) -> int:
        return self._port

    @property
    def connections(self) -> int:
        return len(self._sessions)

    async def start(self) -> None:
        """Accepts from now on."""
        limits = self._door.limits
        for sock in self._sockets:
            server = await serve(
                self._handle,
                sock=sock,
                ssl=self._tls,
                backlog=BACKLOG,
                subprotocols=[_FRAMES],
                select_subprotocol=_subprotocol,
                compression=None,  # media does not shrink
                process_request=self._opening,
                server_header=None,
                open_timeout=limits.handshake or None,
                ping_interval=limits.ping_interval or None,
                ping_timeout=limits.ping_timeout or None,
                close_timeout=CLOSE_SECONDS,
                max_size=limits.message or None,
                max_queue=QUEUE,
                logger=_quiet,
                create_connection=_Connection,
            )
            self._servers.append(server)

    async def run(self) -> None:
        """Looks at every push once a second, until cancelled."""
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            for session in list(self._sessions):
                session.tick(now)

    def close(self) -> None:
        """Accepts no more."""
        for server in self._servers:
            server.server.close()  # now: what follows is a task of the library's
            server.close(close_connections=False)
        if not self._servers:
            for sock in self._sockets:
                sock.close()

    async def hang_up(self, grace: float) -> None:
        """Closes every connection that is left, within `grace` seconds."""
        self.close()
        for session in list(self._sessions):
            session.shutdown()
        try:
            async with asyncio.timeout(grace):
                for server in self._servers:
                    await server.wait_closed()
        except TimeoutError:
            for server in self._servers:
                for connection in list(server.all_connections):
                    connection.transport.abort()

    # ---- the opening handshake ----

    def _opening(self, connection: ServerConnection, request: Request) -> Response | None:
        """What is answered instead of an upgrade, if anything."""
        headers = request.headers
        if request.path.partition("?")[0] == HEALTH:
            return connection.respond(HTTPStatus.OK, "OK")
        if not self._door.origins.allows(headers.get_all("Origin"), headers.get_all("Host")):
            self._refused(connection, request, "pages of this origin may not push")
            return connection.respond(HTTPStatus.FORBIDDEN, "Pages of this origin may not push here (ws.origins).\n")
        if request.path.startswith(STREAM):
            return None
        original, compatible = push_original.parse_path(request.path), self._door.compatible
        if original is None or compatible is None:
            return connection.respond(HTTPStatus.NOT_FOUND, "Push to /stream/<id>?sign=<expiry>-<hash>.\n")
        if not compatible.allows(original.target):
            target = relays.masked([original.target])[0]
            self._refused(connection, request, f"the target {target} is not allowed")
            return connection.respond(HTTPStatus.FORBIDDEN, "This target is not allowed (ws.compatible).\n")
        return None

    def _refused(self, connection: ServerConnection, request: Request, why: str) -> None:
        id = request.path.partition("?")[0].removeprefix(STREAM)
        self._door.admission.refuse(id, self._client(connection)[0], self._name, NotAuthorized(why))

    def _client(self, connection: ServerConnection) -> tuple[str, bool]:
        """The client's address, and whether it is a listed proxy's own."""
        peer = plain_address(str((connection.remote_address or ("0.0.0.0",))[0]))
        forwarded = self._door.forwarded
        headers = connection.request.headers if connection.request is not None else Headers()
        chain = ",".join(headers.get_all("X-Forwarded-For"))
        address = forwarded.client(peer, {"x-forwarded-for": chain} if chain else {})
        return address, forwarded.trusts(address)

    # ---- pushes ----

    async def _handle(self, connection: ServerConnection) -> None:
        address, exempt = self._client(connection)
        entry, words = self._entry(connection, address, exempt)
        session = PushSession(self._door, connection, entry, words, address=address, protocol=self._name, exempt=exempt)
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)

    def _entry(self, connection: ServerConnection, address: str, exempt: bool) -> tuple[Entry, Words]:
        """Where a push goes that was upgraded."""
        door, protocol = self._door, self._name
        assert connection.request is not None, "it was upgraded"
        path = connection.request.path

        def channel(id: str, sign: str | None) -> Entry:
            return ChannelEntry(door.lease, door.admission, id, sign, address=address, protocol=protocol, exempt=exempt)

        if path.startswith(STREAM):
            id, _, query = path.removeprefix(STREAM).partition("?")
            return channel(unquote(id), _sign(query)), JsonWords()
        original, compatible = push_original.parse_path(path), door.compatible
        assert original is not None and compatible is not None, "others are not upgraded"
        called = next(iter(connection.request.headers.get_all("Host")), "")
        own = compatible.own(original.target, host_name(f"ws://{called}"))
        if own is not None:
            return channel(own.name, own.query.get("sign")), OriginalWords()
        return TargetEntry(compatible.hub, original.target, address=address, protocol=protocol), OriginalWords()


class _Connection(ServerConnection):
    """Bounds what waits for a client that asks (pings) and does not read."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_write_buffer_size() > UNSENT:
            self.transport.abort()


def _subprotocol(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Frames where they are offered, else containers; the library's own choice would refuse clients without any."""
    return _FRAMES if _FRAMES in offered else None


def _sign(query: str) -> str | None:
    try:
        return next((v for k, v in parse_qsl(query, max_num_fields=_MOST_PARAMETERS) if k == "sign"), None)
    except ValueError:  # more parameters than that
        return None
