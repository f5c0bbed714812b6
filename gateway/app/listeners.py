"""Opens and closes the listeners of one process: push, playback HTTP(S) and admin."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from gateway.app.channel_caches import ChannelCaches
from gateway.app.node_parts import NodeParts
from gateway.channels.addresses import OpenPorts
from gateway.channels.stream_key import SigningSecrets
from gateway.http.connection import HttpLimits
from gateway.http.forwarded import Forwarded
from gateway.http.server import HttpServer
from gateway.ingest.admission import Admission
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.pending_connections import PendingConnections
from gateway.ingest.services import ListenerServices
from gateway.lib.metric_table import BYTES_OUT, REFUSED, MetricSample
from gateway.lib.sockets import Opener, listen, port_of, tls_context
from gateway.live.publisher import AcquirePublisher
from gateway.packaging.backlog import Backlogs
from gateway.playback.cloudfront import CloudFrontVerifier
from gateway.playback.play_format import PlayableStreams
from gateway.playback.protection import PlaybackProtection
from gateway.playback.router import OTHER_METHODS, PlaybackRouter
from gateway.playback.webrtc.signalling import RemoteSessions, Signalling
from gateway.playback.webrtc.whep import BrowserMedia, WhepPlayback
from gateway.playback.webrtc.whep_format import ADDRESS as WHEP
from gateway.processes.metrics_aggregator import MetricsAggregator
from gateway.processes.sibling_server import SiblingServer
from gateway.settings import Settings
from gateway.webrtc.endpoint import WebRtcEndpoint
from gateway.webrtc.handover import Handover
from gateway.webrtc.samples import endpoint_samples
from gateway.webrtc.sockets import WebRtcSockets, open_port
from gateway.webrtc.tcp import TcpLimits

if TYPE_CHECKING:
    from gateway.cluster.node_endpoint import NodeEndpoint
    from gateway.playback.cloudfront_keys import PublicKey


_TARGET_BYTES: Final = 8192  # limit of a request's target; the limit of the whole head is a setting


class AdminServer(Protocol):
    """The server on the admin port."""

    async def listen(self, sockets: Iterable[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Serves on listening sockets. Closes them at the end."""

    def retire(self) -> None:
        """Stops accepting connections, because another process now owns the port."""

    async def close(self) -> None: ...


class NodeServers(Protocol):
    """Creates the servers for the ports of a gateway or an edge. The methods are called once, in this order.

    node_endpoint: answers other nodes; None: a single node.
    metrics_aggregator: collects the metrics of sibling processes; None: a single process.
    viewer_memory: limits the bytes that wait for viewers.
    browser_streams, browser_media: what viewers by WebRTC get.
    remote_sessions: the WebRTC sessions of other processes; None: there are none.
    Both are valid after `playback`.
    """

    acquire_publisher: AcquirePublisher
    admission: Admission
    streams: PlayableStreams
    channels: ChannelCaches
    protection: PlaybackProtection
    browser_streams: PlayableStreams
    browser_media: BrowserMedia
    remote_sessions: RemoteSessions | None
    viewer_memory: Backlogs
    node_endpoint: NodeEndpoint | None
    metrics_aggregator: MetricsAggregator | None

    def open_pushes(self, services: ListenerServices) -> Sequence[OpenListeners]:
        """Binds the ports of the ingest protocols. Raises ListenError."""

    async def playback(self, ports: OpenPorts) -> PlaybackRouter:
        """Returns the request handler for players. ports: the open ports."""

    def admin(self) -> AdminServer: ...


class Listeners:
    """Opens all listeners of the settings. `ports`: the open ports, after `open`."""

    def __init__(self, parts: NodeParts, servers: NodeServers) -> None:
        limits = parts.settings.limits
        self._parts = parts
        self._settings = parts.settings
        self._servers = servers
        self._pending = PendingConnections(limits.pending_per_address, limits.pending_bytes)
        self._push_listeners: Sequence[OpenListeners] = ()
        self._http: HttpServer | None = None
        self._admin: AdminServer | None = None
        self._siblings: SiblingServer | None = None
        self._webrtc: WebRtcEndpoint | None = None
        self._sessions: Signalling | None = None
        self._handover: Handover | None = None
        self.ports = OpenPorts()

    async def open(self) -> None:
        """Binds all ports first, so that no port stays open if one is in use. Then starts to accept.

        Raises ListenError.
        """
        settings, servers, link = self._settings, self._servers, self._parts.link
        tls = tls_context(settings.tls.cert, settings.tls.key) if settings.tls.cert is not None else None
        opener: Opener = listen if link is None else link.sockets
        webrtc_sockets = self._webrtc_sockets()
        tcp_limits = TcpLimits(servers.viewer_memory, settings.limits.viewer_stall)
        webrtc = self._webrtc = WebRtcEndpoint(settings.webrtc, webrtc_sockets, tcp_limits)
        sessions = self._sessions = Signalling(webrtc, servers.remote_sessions, settings.webrtc.ice_servers)
        self._push_listeners = servers.open_pushes(self._services(opener, tls, sessions))
        own_names = ("http", "https", "admin") if self._parts.first else ("http", "https")
        addresses = [address for address in settings.listeners() if address.name in own_names]
        sockets = {address.name: opener(address.name, address.host, address.port) for address in addresses}
        webrtc_sockets.warn()
        ports = {"webrtc": webrtc.port} if link is None else {name: link.ports[name] for name in ("admin", "webrtc")}
        for listeners in self._push_listeners:
            ports |= listeners.ports
        self.ports = OpenPorts(**ports | {name: port_of(bound) for name, bound in sockets.items()})
        router = await servers.playback(self.ports)
        self._http = self._playback(router)
        whep = WhepPlayback(
            sessions,
            servers.browser_streams,
            servers.channels.cached,
            servers.protection,
            servers.browser_media,
            settings,
        )
        router.add_sessions(WHEP.path, whep.respond)
        for listeners in self._push_listeners:
            for name, respond in listeners.sessions.items():
                router.add_sessions(name, respond)
        await self._http.listen(sockets["http"])
        if tls is not None:
            await self._http.listen(sockets["https"], tls)
        if self._siblings is not None:
            await self._siblings.open()
        if "admin" in sockets:
            self._admin = servers.admin()
            await self._admin.listen(sockets["admin"], tls if settings.admin.tls else None)
        if (slot := self._parts.identity.slot) is not None:
            self._handover = Handover(webrtc, slot.handover, slot.earlier_handovers)
            await self._handover.open()
        await webrtc.start()
        for listeners in self._push_listeners:
            await listeners.start()

    def _webrtc_sockets(self) -> WebRtcSockets:
        """Binds the port of WebRTC. Raises ListenError."""
        webrtc, link = self._settings.webrtc, self._parts.link
        if link is None:
            return open_port(webrtc.host, webrtc.port)
        return WebRtcSockets.of(link.sockets("webrtc", webrtc.host, webrtc.port))

    def _services(self, opener: Opener, tls: ssl.SSLContext | None, sessions: Signalling) -> ListenerServices:
        return ListenerServices(
            settings=self._settings,
            opener=opener,
            tls=tls,
            tasks=self._parts.tasks,
            lease=self._servers.acquire_publisher,
            admission=self._servers.admission,
            pending=self._pending,
            streams=self._servers.streams,
            channels=self._servers.channels.cached,
            protection=self._servers.protection,
            ports=lambda: self.ports,
            webrtc=sessions.endpoint,
            sessions=sessions,
        )

    def _playback(self, router: PlaybackRouter) -> HttpServer:
        """Returns the server for players and other nodes. Also creates the server for sibling processes."""
        limits = replace(http_limits(self._settings), memory=self._servers.viewer_memory)
        forwarded = Forwarded(self._settings.http.forwarded_from)
        node_endpoint, slot = self._servers.node_endpoint, self._parts.identity.slot
        metrics_aggregator = self._servers.metrics_aggregator
        if node_endpoint is None:
            return HttpServer(router, limits, forwarded, hidden_methods=OTHER_METHODS)
        router.add_folder("_node", node_endpoint)
        if slot is not None and metrics_aggregator is not None:
            self._siblings = SiblingServer(slot, node_endpoint, limits, metrics_aggregator.keep)
        return HttpServer(router, limits, forwarded, hidden_methods=OTHER_METHODS, exempts=node_endpoint.signed)

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metrics of the listeners. Bytes of FLV and RTMP viewers are counted in their feeds."""
        yield MetricSample(BYTES_OUT, self._http.bytes_out if self._http is not None else 0, ("http",))
        servers = self._servers
        counts = {"publish": servers.admission.refused, "play": servers.protection.refused}
        if servers.node_endpoint is not None:
            counts["node"] = servers.node_endpoint.refused
        for scope, reasons in counts.items():
            for reason, count in reasons.items():
                yield MetricSample(REFUSED, count, (scope, reason))
        yield from self._pending.samples()
        if self._webrtc is not None:
            yield from endpoint_samples(self._webrtc)

    def stop_accepting(self) -> None:
        """Refuses new publishers, and new sessions of WebRTC. Playback continues until the streams end."""
        for listeners in self._push_listeners:
            listeners.close()
        if self._sessions is not None and self._webrtc is not None:
            self._sessions.stop_accepting()
            self._webrtc.stop_accepting()

    def retire(self) -> None:
        """Stops accepting, because another process now owns these ports. Open connections continue."""
        self.stop_accepting()
        if self._http is not None:
            self._http.retire()
        if self._admin is not None:
            self._admin.retire()

    def is_needed(self) -> bool:
        """Whether there are sessions of WebRTC, also those whose client has not connected yet."""
        return self._webrtc is not None and self._webrtc.peers > 0

    async def finish(self) -> None:
        """Waits until open answers and the last data for viewers are sent, then closes the other connections."""
        if self._http is not None:
            await self._http.close(grace=2.0)
        for listeners in self._push_listeners:
            await listeners.hang_up(grace=2.0)

    async def close(self) -> None:
        """Closes everything at once."""
        self.stop_accepting()
        if self._handover is not None:
            await self._handover.close()
        if self._webrtc is not None:
            await self._webrtc.close()
        if self._http is not None:
            await self._http.close()
        if self._admin is not None:
            await self._admin.close()
        if self._siblings is not None:
            await self._siblings.close()


def http_limits(settings: Settings) -> HttpLimits:
    """Returns the limits of the playback listener."""
    http, limits = settings.http, settings.limits
    return HttpLimits(
        head_bytes=http.max_header,
        target_bytes=_TARGET_BYTES,
        head_seconds=limits.handshake,
        keep_alive=http.keep_alive,
        stall_seconds=limits.viewer_stall,
        per_address=limits.playback_per_address,
    )


def admin_http_limits(settings: Settings) -> HttpLimits:
    """Returns the limits of an edge's admin listener, which uses the playback listener's server."""
    limits = settings.limits
    return replace(http_limits(settings), per_address=limits.admin_per_address, connections=limits.admin_connections)


def playback_protection(settings: Settings, secrets: SigningSecrets) -> PlaybackProtection:
    """Returns the rules for playback over HTTP. Raises UnusableKey."""
    playback = settings.playback
    return PlaybackProtection(
        auth=playback.auth,
        referers=playback.referer_allow,
        secrets=secrets,
        cloudfront=_cloudfront(settings),
        refusals_per_minute=settings.limits.refusals_per_minute,
    )


def _cloudfront(settings: Settings) -> CloudFrontVerifier | None:
    """Returns the verifier of CloudFront's signatures; None if CloudFront is not configured."""
    cloudfront = settings.cloudfront
    keys: dict[str, PublicKey] = {}
    if cloudfront.public_keys:
        from gateway.playback.cloudfront_keys import load_keys

        keys = load_keys(cloudfront.public_keys)
    origin_secret = cloudfront.origin_secret.get_secret_value()
    if not keys and not origin_secret:
        return None
    return CloudFrontVerifier(keys, settings.playback.public_url, origin_secret)
