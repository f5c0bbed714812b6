"""The listeners of one process: RTMP(S), playback HTTP(S), admin; opened together, closed together."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiohttp import web

from gateway import __version__
from gateway.adapters import Stores
from gateway.admin import Admin
from gateway.api.routes import make_app
from gateway.api.status import summary
from gateway.cores.door import SiblingDoor
from gateway.cores.sums import OPERATION as SUMS
from gateway.cores.sums import Sums
from gateway.hub.access import Secrets
from gateway.hub.addresses import Ports
from gateway.hub.cache import CachedChannels
from gateway.hub.distant import DistantViewers
from gateway.hub.events import Events
from gateway.hub.hub import Hub, StreamLimits
from gateway.hub.lease import Lease
from gateway.hub.readiness import Readiness
from gateway.lib.aio import Tasks
from gateway.lib.quota import Quota
from gateway.lib.refusals import Refusals
from gateway.servers import options
from gateway.servers.admission import Admission
from gateway.servers.audience import NOBODY, Audience
from gateway.servers.flv import FlvViewers
from gateway.servers.forwarded import Forwarded
from gateway.servers.health import Health
from gateway.servers.hls import hls
from gateway.servers.http import HttpServer
from gateway.servers.ingest import RtmpListener
from gateway.servers.inner import Inner
from gateway.servers.ladder import Ladders
from gateway.servers.listen import Opener, listen, port_of, tls_context
from gateway.servers.origins import Origins
from gateway.servers.pages import Pages
from gateway.servers.playback import Playback, Routes, Streams
from gateway.servers.posters import Posters
from gateway.servers.protection import Protection
from gateway.servers.recordings import Recordings
from gateway.servers.rtmp_door import RtmpDoor
from gateway.servers.segmented import ready
from gateway.servers.snapshot import Snapshot
from gateway.servers.vod import VodFiles
from gateway.servers.ws_compat import Compatible
from gateway.servers.ws_door import WsDoor, WsLimits
from gateway.servers.ws_ingest import WsListener
from gateway.settings import Settings
from gateway.sources.container import ContainerIntake
from gateway.sources.frames import FramesIntake

if TYPE_CHECKING:
    from gateway.cores.seat import Seat
    from gateway.nodes.door import Operation
    from gateway.nodes.share import Share
    from gateway.outputs import Makers


class Listeners:
    """Opens everything that `settings` asks for; `ports` tells what is open. Raises ListenError, UnusableKey."""

    def __init__(
        self,
        settings: Settings,
        hub: Hub,
        stores: Stores,
        secrets: Secrets,
        events: Events,
        readiness: Readiness,
        admin: Admin,
        makers: Makers,
        tasks: Tasks,
        share: Share | None = None,
        seat: Seat | None = None,
    ) -> None:
        """share: where other nodes share the streams. seat: of a worker, whose master has opened the ports."""
        self._settings = settings
        self._hub = hub
        self._stores = stores
        self._secrets = secrets
        self._readiness = readiness
        self._admin_part = admin
        self._makers = makers
        self._tasks = tasks
        self._share = share
        self._node = admin.node()
        self._distant = DistantViewers()
        self._seat = seat
        self._opener: Opener = listen if seat is None else seat.sockets
        self._siblings: SiblingDoor | None = None
        self._sums: Sums | None = None
        self._streams: Streams = hub if share is None else share.streams
        self._lease: Lease = hub.lease if share is None else share.lease
        self._channels = CachedChannels(stores.channels)
        self._admission = Admission(
            stores.channels,
            secrets,
            events,
            publishers_per_address=settings.limits.publishers_per_address,
            refusals=Refusals(settings.limits.refusals_per_minute),
        )
        self._rtmp: list[RtmpListener] = []
        self._ws: list[WsListener] = []
        self._compatible = self._make_compatible()
        self._http: HttpServer | None = None
        self._protection: Protection | None = None
        self._admin: web.AppRunner | None = None
        self.ports = Ports()

    async def open(self) -> None:
        """Binds every port first, so that a taken one leaves nothing half open, then accepts."""
        settings = self._settings
        tls = tls_context(settings.tls.cert, settings.tls.key) if settings.tls.cert is not None else None
        self._open_rtmp(tls)
        self._open_ws(tls)
        http, host = settings.http, settings.http.host
        plain = self._opener("http", host, http.port)
        secure = self._opener("https", host, settings.https.port) if tls is not None else []
        here = self._seat is None or self._seat.slot.first
        admin = self._opener("admin", settings.admin.host, settings.admin.port) if here else []
        self.ports = Ports(
            rtmp=self._rtmp[0].port,
            rtmps=self._rtmp[1].port if tls is not None else None,
            http=port_of(plain),
            https=port_of(secure) if secure else None,
            ws=self._ws[0].port,
            wss=self._ws[1].port if tls is not None else None,
            admin=port_of(admin) if here or self._seat is None else self._seat.ports.admin,
        )
        if self._share is not None:
            await self._share.locate(self.ports)
        self._http = await self._make_http()
        await self._http.listen(plain)
        if tls is not None:
            await self._http.listen(secure, tls)
        if self._siblings is not None:
            await self._siblings.open()
        if admin:
            await self._open_admin(admin, tls if settings.admin.tls else None)
        for listener in self._pushes:
            await listener.start()
            self._tasks.start(listener.run(), "connections")
        if self._compatible is not None:
            self._tasks.start(self._compatible.run(), "compatible pushes")

    async def _open_admin(self, sockets: list[socket.socket], tls: ssl.SSLContext | None) -> None:
        context = self._admin_part.context(
            lambda: self._shown_ports,
            self._channels.forget,
            self._node,
            self._distant,
            self._share.cluster if self._share is not None else None,
            self._sums,
        )
        self._admin = web.AppRunner(make_app(context), access_log=None, handle_signals=False)
        await self._admin.setup()
        for sock in sockets:
            await web.SockSite(self._admin, sock, ssl_context=tls).start()

    @property
    def _shown_ports(self) -> Ports:
        """The ports that people are told."""
        settings = self._settings
        if not settings.tls.in_front:
            return self.ports
        return self.ports.with_tls(settings.rtmps.port, settings.wss.port)

    @property
    def _pushes(self) -> list[RtmpListener | WsListener]:
        return [*self._rtmp, *self._ws]

    @property
    def http_bytes(self) -> int:
        """Bytes of answers on the playback listener; what viewers of feeds get is counted there."""
        return self._http.bytes_out if self._http is not None else 0

    @property
    def refused(self) -> Mapping[str, Mapping[str, int]]:
        """Refused pushes and plays by reason."""
        plays = self._protection.refused if self._protection is not None else {}
        return {"publish": self._admission.refused, "play": plays}

    def stop_accepting(self) -> None:
        """No new publishers; playback goes on until the streams have ended."""
        for listener in self._pushes:
            listener.close()

    def retire(self) -> None:
        """Another process has these ports now: nobody new comes in, those who are here go on."""
        self.stop_accepting()
        if self._http is not None:
            self._http.retire()
        admin, self._admin = self._admin, None
        if admin is not None:
            self._tasks.start(admin.cleanup(), "admin")

    async def finish(self) -> None:
        """Lets running answers and the last words to viewers go out, then closes what is left."""
        if self._http is not None:
            await self._http.close(grace=2.0)
        for listener in self._pushes:
            await listener.hang_up(grace=2.0)
        if self._compatible is not None:
            await self._compatible.finish()

    async def close(self) -> None:
        self.stop_accepting()
        if self._http is not None:
            await self._http.close()
        if self._admin is not None:
            await self._admin.cleanup()
        if self._siblings is not None:
            await self._siblings.close()

    # ---- RTMP ----

    def _open_rtmp(self, tls: ssl.SSLContext | None) -> None:
        settings, limits = self._settings, self._settings.limits
        rtmp = settings.rtmp
        door = RtmpDoor(
            streams=self._streams,
            lease=self._lease,
            admission=self._admission,
            may_play=options.play_access(settings, self._streams, self._channels, self._secrets),
            players=Quota(limits.playback_per_address),
            limits=options.rtmp_limits(settings),
            tasks=self._tasks,
        )
        self._rtmp = [RtmpListener(door, rtmp.host, rtmp.port, rtmp.proxy_from, None, self._opener)]
        if tls is not None:
            self._rtmp.append(RtmpListener(door, rtmp.host, settings.rtmps.port, rtmp.proxy_from, tls, self._opener))

    # ---- WebSocket push ----

    def _open_ws(self, tls: ssl.SSLContext | None) -> None:
        settings, limits = self._settings, self._settings.limits
        ws, workers = settings.ws, self._makers.workers
        door = WsDoor(
            lease=self._lease,
            admission=self._admission,
            container=lambda publisher: ContainerIntake(publisher, workers, settings.transcode),
            frames=lambda publisher: FramesIntake(publisher, workers),
            origins=Origins(ws.origins),
            forwarded=Forwarded(ws.forwarded_from),
            limits=WsLimits(
                message=limits.ws_message,
                handshake=limits.handshake,
                first_media=limits.first_media,
                ping_interval=ws.ping_interval,
                ping_timeout=ws.ping_timeout,
                idle_timeout=ws.idle_timeout,
            ),
            compatible=self._compatible,
            tasks=self._tasks,
        )
        self._ws = [WsListener(door, ws.host, ws.port, None, self._opener)]
        if tls is not None:
            self._ws.append(WsListener(door, ws.host, settings.wss.port, tls, self._opener))

    def _make_compatible(self) -> Compatible | None:
        """The original client's pushes, where they are on."""
        settings = self._settings
        if not settings.ws.compatible:
            return None
        limits = StreamLimits(0, 0, settings.stream.gop_seconds, settings.stream.gop_bytes, settings.limits.publishers)
        own = lambda: frozenset(port for port in (self.ports.rtmp, self.ports.rtmps) if port)  # noqa: E731
        return Compatible(settings.ws.compatible, self._makers.relays, limits, own)

    # ---- HTTP ----

    async def _make_http(self) -> HttpServer:
        settings, limits = self._settings, self._settings.limits
        self._protection = protection = options.protection(settings, self._secrets)
        audience = Audience()
        recordings = Recordings(self._stores.objects, self._stores.media)
        films = VodFiles(recordings, protection, self._channels)
        playback = Playback(
            hub=self._streams,
            channels=self._channels,
            protection=protection,
            routes=self._routes(audience),
            flv=FlvViewers(limits.viewer_backlog),
            audience=audience,
            pages=Pages(lambda: self._shown_ports),
            health=Health(self._readiness.missing),
            wait_for_publisher=settings.stream.wait_for_publisher,
            ready=ready,
            recordings=recordings,
            posters=Posters(self._stores.objects, self._tasks),
            folders={"vod": films},
            elsewhere=await self._share.relay(self._channels, protection, audience) if self._share else None,
        )
        http_limits, forwarded = options.http_limits(settings), Forwarded(settings.http.forwarded_from)
        if self._share is None:
            return HttpServer(playback, http_limits, forwarded)
        inner = Inner(self._hub, self._channels, self._routes(NOBODY), playback.statuses, recordings)
        operations = {**self._operations(self._share), "film": films.unjudged}
        if self._seat is not None:
            self._sums = Sums(self._seat.slot, self._admin_part.metrics, self._share.peers)
            operations[SUMS] = self._sums.operate
        door = self._share.door(self._stores.channels, inner, operations)
        playback.add_folder("_node", door)
        if self._seat is not None and self._sums is not None:
            self._siblings = SiblingDoor(self._seat.slot, door, http_limits, self._sums.keep)
        return HttpServer(playback, http_limits, forwarded, unshown=("POST",), exempts=door.signed)

    def _operations(self, share: Share) -> Mapping[str, Operation]:
        """What other nodes may ask of this one."""
        from gateway.nodes.operations import Operations

        operations = Operations(
            node=share.node,
            hub=self._hub,
            channels=self._stores.channels,
            cached=self._channels,
            forget=self._channels.forget,
            distant=self._distant,
            report=lambda: summary(self._node, self._admin_part.metrics, __version__),
            peers=share.peers,
            siblings=share.siblings,
            held=share.held,
        )
        return operations.table()

    def _routes(self, audience: Audience) -> Routes:
        ladders = Ladders(self._hub, audience)
        return Routes.of(hls, ladders.cmaf, ladders.index, ladders.rung, Snapshot(self._makers.stills.latest))
