"""The WS and WSS listeners: they answer opening handshakes, find clients behind proxies, and start push sessions."""

import asyncio
import logging
import ssl
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import parse_qsl, unquote, urlencode

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from gateway.channels import relay_urls
from gateway.http.forwarded import Forwarded
from gateway.http.origin_policy import OriginPolicy, host_name
from gateway.ingest.admission import PushRequest
from gateway.ingest.push import Push
from gateway.ingest.services import ListenerServices
from gateway.ingest.websocket.compatible_targets import CompatibleTargets, RelayDestination
from gateway.ingest.websocket.connection import CLOSE_SECONDS, EARLY_MESSAGE, PlainPush, PushConnection, SecurePush
from gateway.ingest.websocket.container_intake import ContainerIntake
from gateway.ingest.websocket.frames_intake import FramesIntake
from gateway.ingest.websocket.push_messages import CompatiblePushMessages, PushMessages
from gateway.ingest.websocket.services import WsServices
from gateway.ingest.websocket.session import PushSession
from gateway.lib.scheduled_reads import ScheduledProtocol
from gateway.lib.sockets import BACKLOG
from gateway.listeners.port_listener import OpenListeners, PortListener, peer_address
from gateway.live.shelf import StreamLimits
from gateway.outputs.services import OutputServices
from gateway.ports.auth_hook import HookDetails
from gateway.ports.errors import NotAuthorized
from gateway.protocols import push, push_original

PING_TIMEOUT: Final = 20.0  # seconds for the answer: a busy tab or a phone that changes its network needs some
QUEUE: Final = 4  # messages that may wait; at this limit the socket is not read
STREAM: Final = "/stream/"
HEALTH: Final = "/healthcheck"
_MAX_PARAMETERS: Final = 32
_FRAMES: Final = Subprotocol(push.SUBPROTOCOL)

# The library logs each connection with its path, which contains a key. So its log is off.
_quiet = logging.getLogger("millrace.websockets")
_quiet.setLevel(logging.ERROR)


def open_websocket(services: ListenerServices, outputs: OutputServices) -> OpenListeners:
    """Binds the ports of WS and WSS. Raises ListenError."""
    settings = services.settings
    compatible = _compatible(services, outputs)
    ws_services = WsServices(
        services,
        container=lambda publisher: ContainerIntake(publisher, outputs.workers, settings.transcode),
        frames=lambda publisher: FramesIntake(publisher, outputs.workers),
        origins=OriginPolicy(settings.ws.origins),
        forwarded=Forwarded(settings.ws.forwarded_from),
        compatible=compatible,
    )
    listeners = [WsListener(ws_services, address.host, address.port, tls) for address, tls in services.addresses("ws")]
    if compatible is None:
        return OpenListeners(listeners, services.tasks)
    services.tasks.keep(compatible.shelf.run, "compatible pushes")
    return OpenListeners(listeners, services.tasks, finish=compatible.finish)


def _compatible(services: ListenerServices, outputs: OutputServices) -> CompatibleTargets | None:
    """Returns the targets for pushes of the old system's client; None if these pushes are off."""
    settings = services.settings
    if not settings.ws.compatible:
        return None
    limits = StreamLimits(0, 0, settings.stream.gop_seconds, settings.stream.gop_bytes, settings.limits.publishers)
    return CompatibleTargets(settings.ws.compatible, outputs.relays, limits, services.ports)


class WsListener(PortListener[PushSession]):
    """One port of WS or WSS."""

    def __init__(self, services: WsServices, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._services = services
        self._tls = tls
        super().__init__("wss" if tls is not None else "ws", host, port, services.shared.opener)
        self._servers: list[Server] = []

    async def start(self) -> None:
        settings = self._services.shared.settings.ws
        for sock in self._sockets:
            server = await serve(
                self._handle,
                sock=sock,
                backlog=BACKLOG,
                subprotocols=[_FRAMES],
                compression=None,  # media cannot be compressed further
                process_request=self._answer_opening,
                process_response=_without_body,
                server_header=None,
                open_timeout=self._services.shared.settings.limits.handshake or None,
                ping_interval=settings.ping_interval or None,
                ping_timeout=PING_TIMEOUT,
                close_timeout=CLOSE_SECONDS,
                max_size=EARLY_MESSAGE,
                max_queue=QUEUE,
                logger=_quiet,
                create_connection=cast(Any, self._make_connection),  # a function, though its type requires a class
            )
            self._servers.append(server)

    def close(self) -> None:
        for server in self._servers:
            server.server.close()  # stops accepting at once; the next call only starts a task of the library
            server.close(close_connections=False)
        if not self._servers:
            for sock in self._sockets:
                sock.close()

    async def hang_up(self, grace: float) -> None:
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

    def _make_connection(self, protocol: ServerProtocol, server: Server, **options: Any) -> ScheduledProtocol:
        """Returns the asyncio protocol of a new socket."""
        # Set here: the library's own option would keep every connection alive until the garbage collector runs.
        setattr(protocol, "select_subprotocol", _subprotocol)  # noqa: B010
        connection = PushConnection(protocol, server, **options)
        if self._tls is None:
            return PlainPush(connection, self._services)
        return SecurePush(connection, self._tls, self._services)

    # ---- the opening handshake ----

    def _answer_opening(self, connection: ServerConnection, request: Request) -> Response | None:
        """Returns the answer that replaces the upgrade; None if the upgrade is allowed."""
        assert isinstance(connection, PushConnection), "`_make_connection` creates them"
        headers = request.headers
        address, exempt = self._client(connection, headers)
        if not exempt and connection.pending is not None and not connection.pending.move(address):
            busy = connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "Too many connections from this address.\n")
            busy.headers["Retry-After"] = "1"
            return busy
        if request.path.partition("?")[0] == HEALTH:
            return connection.respond(HTTPStatus.OK, "OK")
        if not self._services.origins.allows(headers.get_all("Origin"), self._hosts(connection, headers)):
            self._refused(address, request, "pages of this origin may not push")
            return connection.respond(HTTPStatus.FORBIDDEN, "Pages of this origin may not push here (ws.origins).\n")
        if request.path.startswith(STREAM):
            return None
        parsed, compatible = push_original.parse_path(request.path), self._services.compatible
        if parsed is None or compatible is None:
            return connection.respond(HTTPStatus.NOT_FOUND, "Push to /stream/<id>?sign=<expiry>-<hash>.\n")
        if not compatible.allows(parsed.target):
            target = relay_urls.masked([parsed.target])[0]
            self._refused(address, request, f"the target {target} is not allowed")
            return connection.respond(HTTPStatus.FORBIDDEN, "This target is not allowed (ws.compatible).\n")
        return None

    def _refused(self, address: str, request: Request, reason: str) -> None:
        id = request.path.partition("?")[0].removeprefix(STREAM)
        self._services.shared.admission.refuse(id, address, self.name, NotAuthorized(reason))

    def _client(self, connection: ServerConnection, headers: Headers) -> tuple[str, bool]:
        """Returns the client's address, and whether it is the address of a trusted proxy."""
        peer = peer_address(connection.remote_address)
        forwarded = self._services.forwarded
        chain = ",".join(headers.get_all("X-Forwarded-For"))
        address = forwarded.client(peer, {"x-forwarded-for": chain} if chain else {})
        return address, forwarded.trusts(address)

    def _hosts(self, connection: ServerConnection, headers: Headers) -> list[str]:
        """Returns the hosts that the client asks for, also behind a trusted proxy: one, or the request is malformed."""
        peer, named = peer_address(connection.remote_address), ",".join(headers.get_all("X-Forwarded-Host"))
        return [self._services.forwarded.host(peer, {"x-forwarded-host": named}, h) for h in headers.get_all("Host")]

    # ---- pushes ----

    async def _handle(self, connection: ServerConnection) -> None:
        assert isinstance(connection, PushConnection), "`_make_connection` creates them"
        session = self._make_session(connection)
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)

    def _make_session(self, connection: PushConnection) -> PushSession:
        """Returns the session of an upgraded push."""
        services = self._services
        assert connection.request is not None, "it was upgraded"
        path = connection.request.path
        address, exempt = self._client(connection, connection.request.headers)

        def push_to(id: str, query: Mapping[str, str]) -> Push:
            sign, input = query.get("sign"), query.get("input", "")
            return services.shared.make_push(
                PushRequest(id, sign, address, self.name, exempt, input, HookDetails(urlencode(query)))
            )

        if path.startswith(STREAM):
            id, _, query = path.removeprefix(STREAM).partition("?")
            return PushSession(services, connection, push_to(unquote(id), _parameters(query)), PushMessages())
        parsed, compatible = push_original.parse_path(path), services.compatible
        assert parsed is not None and compatible is not None, "others are not upgraded"
        host = next(iter(self._hosts(connection, connection.request.headers)), "")
        local = compatible.local_stream(parsed.target, host_name(f"ws://{host}"))
        if local is not None:
            return PushSession(services, connection, push_to(local.name, local.query), CompatiblePushMessages())
        destination = RelayDestination(parsed.target)
        request = PushRequest(destination.name, None, address, self.name, exempt)
        push = Push(services.shared.admission, compatible.shelf.acquire_publisher, request, destination.channel)
        return PushSession(services, connection, push, CompatiblePushMessages(), destination)


def _without_body(connection: ServerConnection, request: Request, response: Response) -> None:
    """Removes the body of an answer to HEAD. RFC 9110 §9.3.2: "the server MUST NOT send content in the response"."""
    if request.method == "HEAD":
        response.body = b""


def _subprotocol(offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Selects frames if the client offers them, otherwise containers.

    The library's own rule would refuse clients without any subprotocol.
    """
    return _FRAMES if _FRAMES in offered else None


def _parameters(query: str) -> Mapping[str, str]:
    """Returns the parameters of a query; the first of each name. Returns none if there are too many."""
    try:
        return dict(reversed(parse_qsl(query, max_num_fields=_MAX_PARAMETERS)))
    except ValueError:
        return {}
