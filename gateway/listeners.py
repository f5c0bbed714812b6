"""The listeners of one process: RTMP(S), playback HTTP(S), admin; opened together, closed together."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from aiohttp import web

from gateway.adapters import Stores
from gateway.admin import Admin
from gateway.api.routes import make_app
from gateway.hub.access import Secrets, Verdict
from gateway.hub.addresses import Ports
from gateway.hub.cache import CachedChannels
from gateway.hub.channel import Channel
from gateway.hub.errors import NoSuchChannel, NotAuthorized
from gateway.hub.events import Events
from gateway.hub.hub import Hub, StreamLimits
from gateway.hub.names import channel_of
from gateway.hub.readiness import Readiness
from gateway.lib.aio import Tasks
from gateway.lib.quota import Quota
from gateway.lib.refusals import Refusals
from gateway.servers.admission import Admission
from gateway.servers.audience import Audience
from gateway.servers.cloudfront import CloudFront
from gateway.servers.flv import FlvViewers
from gateway.servers.forwarded import Forwarded
from gateway.servers.health import Health
from gateway.servers.hls import hls
from gateway.servers.http import HttpLimits, HttpServer
from gateway.servers.ingest import RtmpListener
from gateway.servers.ladder import Ladders
from gateway.servers.listen import listen, port_of, tls_context
from gateway.servers.origins import Origins
from gateway.servers.pages import Pages
from gateway.servers.playback import Playback, Routes
from gateway.servers.posters import Posters
from gateway.servers.protection import Protection
from gateway.servers.recordings import Recordings
from gateway.servers.rtmp_door import RtmpDoor, RtmpLimits
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
    from gateway.outputs import Makers
    from gateway.servers.signatures import PublicKey

TARGET_BYTES: Final = 8192  # of a request's target; its head's bound is a setting


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
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._stores = stores
        self._secrets = secrets
        self._readiness = readiness
        self._admin_part = admin
        self._makers = makers
        self._tasks = tasks
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
        plain = listen("http", host, http.port)
        secure = listen("https", host, settings.https.port) if tls is not None else []
        admin = listen("admin", settings.admin.host, settings.admin.port)
        self.ports = Ports(
            rtmp=self._rtmp[0].port,
            rtmps=self._rtmp[1].port if tls is not None else None,
            http=port_of(plain),
            https=port_of(secure) if secure else None,
            ws=self._ws[0].port,
            wss=self._ws[1].port if tls is not None else None,
            admin=port_of(admin),
        )
        self._http = self._make_http()
        await self._http.listen(plain)
        if tls is not None:
            await self._http.listen(secure, tls)
        context = self._admin_part.context(lambda: self.ports, self._channels.forget)
        self._admin = web.AppRunner(make_app(context), access_log=None, handle_signals=False)
        await self._admin.setup()
        for sock in admin:
            await web.SockSite(self._admin, sock, ssl_context=tls if settings.admin.tls else None).start()
        for listener in self._pushes:
            await listener.start()
            self._tasks.start(listener.run(), "connections")
        if self._compatible is not None:
            self._tasks.start(self._compatible.run(), "compatible pushes")

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

    # ---- RTMP ----

    def _open_rtmp(self, tls: ssl.SSLContext | None) -> None:
        settings, limits = self._settings, self._settings.limits
        rtmp = settings.rtmp
        door = RtmpDoor(
            hub=self._hub,
            admission=self._admission,
            may_play=self._may_play,
            players=Quota(limits.playback_per_address),
            limits=RtmpLimits(
                chunk_size=rtmp.chunk_size,
                message=limits.rtmp_message,
                handshake=limits.handshake,
                first_media=limits.first_media,
                ping_interval=rtmp.ping_interval,
                ping_timeout=rtmp.ping_timeout,
                idle_timeout=rtmp.idle_timeout,
                wait_for_publisher=settings.stream.wait_for_publisher,
                viewer_backlog=limits.viewer_backlog,
            ),
            tasks=self._tasks,
        )
        self._rtmp = [RtmpListener(door, rtmp.host, rtmp.port, rtmp.proxy_from, None)]
        if tls is not None:
            self._rtmp.append(RtmpListener(door, rtmp.host, settings.rtmps.port, rtmp.proxy_from, tls))

    # ---- WebSocket push ----

    def _open_ws(self, tls: ssl.SSLContext | None) -> None:
        settings, limits = self._settings, self._settings.limits
        ws, workers = settings.ws, self._makers.workers
        door = WsDoor(
            hub=self._hub,
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
        self._ws = [WsListener(door, ws.host, ws.port, None)]
        if tls is not None:
            self._ws.append(WsListener(door, ws.host, settings.wss.port, tls))

    def _make_compatible(self) -> Compatible | None:
        """The original client's pushes, where they are on."""
        settings = self._settings
        if not settings.ws.compatible:
            return None
        limits = StreamLimits(0, 0, settings.stream.gop_seconds, settings.stream.gop_bytes, settings.limits.publishers)
        own = lambda: frozenset(port for port in (self.ports.rtmp, self.ports.rtmps) if port)  # noqa: E731
        return Compatible(settings.ws.compatible, self._makers.relays, limits, own)

    # ---- who may play by RTMP ----

    async def _may_play(self, name: str, query: dict[str, str], address: str) -> None:
        """RTMP play: a play sign where the channel wants one; what CloudFront protects is not played past it."""
        stream = self._hub.find(name)
        channel = stream.channel if stream is not None else await self._stored(name)
        auth = (channel.play_auth if channel is not None else None) or self._settings.playback.auth
        if auth == "none":
            return
        verdict = Verdict.WRONG
        if auth == "sign":
            verdict = self._secrets.verify_play(channel_of(name), query.get("sign"), time.time())
        if verdict is not Verdict.VALID:
            raise NotAuthorized(str(verdict))

    async def _stored(self, name: str) -> Channel | None:
        try:
            return await self._channels.get(channel_of(name))
        except NoSuchChannel:
            return None

    # ---- HTTP ----

    def _make_http(self) -> HttpServer:
        settings, limits = self._settings, self._settings.limits
        verifier = self._cloudfront()
        self._protection = protection = Protection(
            auth=settings.playback.auth,
            referers=settings.playback.referer_allow,
            verify_play=self._secrets.verify_play,
            cloudfront=verifier,
            refusals_per_minute=limits.refusals_per_minute,
        )
        audience = Audience()
        ladders = Ladders(self._hub, audience)
        recordings = Recordings(self._stores.objects, self._stores.media)
        playback = Playback(
            hub=self._hub,
            channels=self._channels,
            protection=protection,
            routes=Routes.of(hls, ladders.cmaf, ladders.index, ladders.rung, Snapshot(self._makers.stills.latest)),
            flv=FlvViewers(limits.viewer_backlog),
            audience=audience,
            pages=Pages(lambda: self.ports),
            health=Health(self._readiness.missing),
            wait_for_publisher=settings.stream.wait_for_publisher,
            ready=ready,
            recordings=recordings,
            posters=Posters(self._stores.objects, self._tasks),
            folders={"vod": VodFiles(recordings, protection, self._channels)},
        )
        http_limits = HttpLimits(
            head_bytes=settings.http.max_header,
            target_bytes=TARGET_BYTES,
            head_seconds=limits.handshake,
            keep_alive=settings.http.keep_alive,
            stall_seconds=limits.viewer_stall,
            per_address=limits.playback_per_address,
        )
        return HttpServer(playback, http_limits, Forwarded(settings.http.forwarded_from))

    def _cloudfront(self) -> CloudFront | None:
        """What verifies CloudFront's signatures, where it is set up. Raises UnusableKey."""
        settings = self._settings.cloudfront
        keys: dict[str, PublicKey] = {}
        if settings.public_keys:
            from gateway.servers.signatures import load_keys

            keys = load_keys(settings.public_keys)
        origin_secret = settings.origin_secret.get_secret_value()
        if not keys and not origin_secret:
            return None
        return CloudFront(keys, self._settings.playback.public_url, origin_secret)
