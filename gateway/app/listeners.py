"""Opens and closes the listeners of one process: push, playback HTTP(S) and admin."""

import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from gateway.adapters.acme.challenge_answers import FOLDER as CHALLENGES
from gateway.app.node_parts import NodeParts
from gateway.app.role import AdminServer, Role, Servers
from gateway.channels.addresses import OpenPorts
from gateway.http.connection_server import HttpLimits
from gateway.http.forwarded import Forwarded
from gateway.http.response import Handler
from gateway.http.server import HttpServer
from gateway.ingest.services import ListenerServices
from gateway.lib.metric_table import BYTES_OUT, REFUSED, MetricSample
from gateway.lib.quota import Quota
from gateway.lib.sockets import Opener, Transport, listen, port_of
from gateway.listeners.handover import Handover
from gateway.listeners.load_agent import LoadAgent
from gateway.listeners.pending_connections import PendingConnections
from gateway.listeners.port_listener import OpenListeners
from gateway.listeners.udp_listener import UdpListener
from gateway.playback.formats import FORMATS
from gateway.playback.https_redirect import HttpsRedirect
from gateway.playback.router import OTHER_METHODS, PlaybackRouter
from gateway.playback.srt import SrtPlay
from gateway.ports.events import Event, EventType
from gateway.processes.sibling_server import SiblingServer
from gateway.settings import Settings
from gateway.settings.models import AGENT
from gateway.webrtc.endpoint import WebRtcEndpoint
from gateway.webrtc.signalling import Signalling
from gateway.webrtc.sockets import WebRtcSockets, open_port
from gateway.webrtc.tcp import TcpLimits

_TARGET_BYTES: Final = 8192  # limit of a request's target
_HEAD_BYTES: Final = 16_384  # of a request: browsers send less, with the cookies of other services too
# RTMP and WebSocket connections that neither publish nor play yet, of one address and in memory: an office behind one
# address reconnects at once, and a flood of handshakes takes 56 MB at most.
_PENDING_PER_ADDRESS: Final = 512
_PENDING_BYTES: Final = 56_000_000
# Of the admin listener: an office of operators is behind one address, and pages never take the files of viewers.
ADMIN_PER_ADDRESS: Final = 256
ADMIN_CONNECTIONS: Final = 1_024


class Listeners:
    """Opens all listeners of the settings. agent: answers agent checks."""

    def __init__(self, parts: NodeParts, role: Role, agent: LoadAgent) -> None:
        self._parts, self._settings, self._role, self._agent = parts, parts.settings, role, agent
        self._servers: Servers | None = None
        self._pending = PendingConnections(_PENDING_PER_ADDRESS, _PENDING_BYTES)
        self._listeners: Sequence[OpenListeners] = ()
        self._bound: list[socket.socket] = []  # all that `open` has opened
        self._http: HttpServer | None = None
        self._admin: AdminServer | None = None
        self._siblings: SiblingServer | None = None
        self._webrtc: WebRtcEndpoint | None = None
        self._sessions: Signalling | None = None
        self._handover: Handover | None = None

    async def open(self) -> None:
        """Binds all ports first, so that no port stays open if one is in use. Then starts to accept.

        Raises ListenError.
        """
        settings, role, link = self._settings, self._role, self._parts.link
        certificate = self._parts.certificate
        tls = certificate.server.context if certificate is not None else None
        web_tls = certificate.server.web_context if certificate is not None and settings.http.http2 else tls
        challenges = certificate.challenges if certificate is not None else None
        opener = self._remember(listen if link is None else link.sockets)
        webrtc_sockets = self._webrtc_sockets()
        tcp_limits = TcpLimits(role.viewers.memory, settings.limits.viewer_stall)
        webrtc = self._webrtc = WebRtcEndpoint(settings.webrtc, webrtc_sockets, tcp_limits)
        sessions = self._sessions = Signalling(webrtc, role.played.remote_sessions, settings.webrtc.ice_servers)
        self._parts.events.listen(self._prepare_webrtc)
        services = self._services(opener, tls, sessions)
        found = [format.listener for format in FORMATS if format.is_on(settings)]
        players = [listener.open for listener in found if listener and listener.open]
        self._listeners = [*role.open_pushes(services), *(open(services) for open in players)]
        own_names = ("http", "https", "admin", AGENT) if self._parts.first else ("http", "https")
        addresses = [address for address in settings.listeners() if address.name in own_names]
        sockets = {address.name: opener(address.name, address.host, address.port) for address in addresses}
        webrtc_sockets.warn()
        ports = (
            {"webrtc": webrtc.port} if link is None else {name: link.ports[name] for name in ("admin", "webrtc", "moq")}
        )
        for listeners in self._listeners:
            ports |= listeners.ports
        ports |= {name: port_of(bound) for name, bound in sockets.items()}
        await self._parts.own_address.announce(OpenPorts(**ports))
        servers = self._servers = await role.serve(sessions)
        router = servers.playback
        self._http = self._playback(servers)
        for listeners in self._listeners:
            for name, respond in listeners.sessions.items():
                router.add_sessions(name, respond)
        await self._http.listen(sockets["http"])
        if web_tls is not None:
            await self._http.listen(sockets["https"], web_tls, challenges.context if challenges is not None else None)
        if self._siblings is not None:
            await self._siblings.open()
        if "admin" in sockets:
            self._admin = servers.admin()
            await self._admin.listen(sockets["admin"], web_tls if settings.admin.tls else None)
        if settings.cluster.agent_port >= 0 and self._parts.first:
            await self._agent.listen(sockets[AGENT])
        if (slot := self._parts.identity.slot) is not None:
            ports_of_all = (port for listeners in self._listeners for port in listeners.listeners)
            udp_ports = [port for port in ports_of_all if isinstance(port, UdpListener)]
            self._handover = Handover([webrtc, *udp_ports], slot.handover, slot.earlier_handovers)
            await self._handover.open()
        await webrtc.start()
        for listeners in self._listeners:
            await listeners.start()

    def _remember(self, opener: Opener) -> Opener:
        """Returns an opener whose sockets `close` closes: if one port is in use, the others belong to nobody yet."""

        def remembering(name: str, host: str, port: int, transport: Transport = "tcp") -> list[socket.socket]:
            sockets = opener(name, host, port, transport)
            self._bound += sockets
            return sockets

        return remembering

    def _prepare_webrtc(self, event: Event) -> None:
        """Loads DTLS and SRTP when a stream begins, so that its first viewer does not wait for them."""
        if event.type is EventType.STREAM_STARTED and self._webrtc is not None and not self._webrtc.is_prepared:
            self._parts.tasks.start(self._webrtc.prepare(), "webrtc")

    def _webrtc_sockets(self) -> WebRtcSockets:
        """Binds the port of WebRTC. Raises ListenError."""
        webrtc, link = self._settings.webrtc, self._parts.link
        if link is None:
            return open_port(webrtc.host, webrtc.port)
        return WebRtcSockets.of(link.sockets("webrtc", webrtc.host, webrtc.port))

    def _services(self, opener: Opener, tls: ssl.SSLContext | None, sessions: Signalling) -> ListenerServices:
        plays, streams = self._role.viewers.plays, self._role.played.streams
        return ListenerServices(
            settings=self._settings,
            opener=opener,
            tls=tls,
            tasks=self._parts.tasks,
            acquire_publisher=self._role.acquire_publisher,
            admission=self._role.admission,
            pending=self._pending,
            streams=streams,
            plays=plays,
            srt_play=partial(SrtPlay, plays, streams, self._settings),
            browser_streams=self._role.played.of_browsers,
            browser_media=self._role.played.browser_media,
            ports=lambda: self._parts.own_address.ports,
            sessions=sessions,
            is_first=self._parts.first,
        )

    def _playback(self, servers: Servers) -> HttpServer:
        """Returns the server for players and other nodes. Also creates the server for processes of this host."""
        viewers = self._role.viewers
        limits = replace(http_limits(self._settings, viewers.plays.connections), memory=viewers.memory)
        forwarded = Forwarded(self._settings.http.forwarded_from)
        handler = self._handler(servers.playback)
        endpoint, slot, aggregator = servers.node_endpoint, self._parts.identity.slot, servers.metrics_aggregator
        if endpoint is None:
            return HttpServer(handler, limits, forwarded, hidden_methods=OTHER_METHODS)
        servers.playback.add_folder("_node", endpoint)
        if slot is not None and aggregator is not None:
            self._siblings = SiblingServer(slot, endpoint, limits, aggregator.save_counters)
        return HttpServer(handler, limits, forwarded, hidden_methods=OTHER_METHODS, exempts=endpoint.is_signed)

    def _handler(self, router: PlaybackRouter) -> Handler:
        """Returns the handler of requests. With a certificate of ACME, pages of browsers go to HTTPS."""
        hook = self._role.viewers.plays.hook
        handler: Handler = router
        if hook is not None:
            from gateway.playback.hooked_playback import HookedPlayback

            handler = HookedPlayback(router, hook)
        if self._parts.certificate is None or self._parts.certificate.challenges is None:
            return handler
        router.add_folder(CHALLENGES, self._parts.certificate.challenges.respond)
        return HttpsRedirect(handler, self._parts.own_address.with_certificate)

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metrics of the listeners. Bytes of FLV and RTMP viewers are counted in their feeds."""
        yield MetricSample(BYTES_OUT, self._http.bytes_out if self._http is not None else 0, ("http",))
        counts = {"publish": self._role.admission.refused, "play": self._role.viewers.protection.refused}
        if self._servers is not None and self._servers.node_endpoint is not None:
            counts["node"] = self._servers.node_endpoint.authenticator.refused
        for scope, reasons in counts.items():
            for reason, count in reasons.items():
                yield MetricSample(REFUSED, count, (scope, reason))
        yield from self._pending.samples()
        if self._webrtc is not None:
            yield from self._webrtc.samples()
        for listeners in self._listeners:
            yield from listeners.samples()

    def stop_accepting(self) -> None:
        """Refuses new publishers, and new sessions of WebRTC. Playback continues until the streams end."""
        for listeners in self._listeners:
            listeners.close()
        if self._sessions is not None and self._webrtc is not None:
            self._sessions.stop_accepting()
            self._webrtc.stop_accepting()

    def retire(self) -> None:
        """Stops accepting, because another process now owns these ports. Open connections continue."""
        self.stop_accepting()
        for server in (self._http, self._admin):
            if server is not None:
                server.retire()

    def is_needed(self) -> bool:
        """Whether answers are sent, or there are sessions of WebRTC, also those whose client has not connected yet."""
        answering = self._http is not None and self._http.is_answering
        return answering or (self._webrtc is not None and self._webrtc.peers > 0)

    async def finish(self) -> None:
        """Waits until open answers and the last data for viewers are sent, then closes the other connections."""
        if self._http is not None:
            await self._http.close(grace=2.0)
        for listeners in self._listeners:
            await listeners.hang_up(grace=2.0)

    async def close(self) -> None:
        """Closes everything at once."""
        self.stop_accepting()
        if self._handover is not None:
            await self._handover.close()
        for listeners in self._listeners:
            listeners.abort()
        for server in (self._webrtc, self._http, self._admin, self._siblings, self._agent):
            if server is not None:
                await server.close()
        for bound in self._bound:
            bound.close()


def http_limits(settings: Settings, connections: Quota) -> HttpLimits:
    """Returns the limits of the playback listener. connections: counts those of an address over all protocols."""
    http, limits = settings.http, settings.limits
    return HttpLimits(
        head_bytes=_HEAD_BYTES,
        target_bytes=_TARGET_BYTES,
        head_seconds=limits.handshake,
        keep_alive=http.keep_alive,
        stall_seconds=limits.viewer_stall,
        of_address=connections,
    )


def admin_http_limits(settings: Settings) -> HttpLimits:
    """Returns the limits of an edge's admin listener, which uses the playback listener's server."""
    return replace(http_limits(settings, Quota(ADMIN_PER_ADDRESS)), connections=ADMIN_CONNECTIONS)
