"""The listeners of one process: RTMP(S), playback HTTP(S), admin; opened together, closed together."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from aiohttp import web

from gateway import __version__
from gateway.adapters import Stores
from gateway.adapters.local.host import shown_host
from gateway.api.context import Context, Shown
from gateway.api.context import Limits as ApiLimits
from gateway.api.routes import make_app
from gateway.hub.access import Secrets, Verdict
from gateway.hub.addresses import Ports
from gateway.hub.cache import CachedChannels
from gateway.hub.channel import Channel
from gateway.hub.errors import NoSuchChannel, NotAuthorized
from gateway.hub.events import Events
from gateway.hub.hub import Hub
from gateway.hub.names import channel_of
from gateway.hub.readiness import Readiness
from gateway.lib.aio import Tasks
from gateway.lib.metrics import Metrics
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
from gateway.servers.pages import Pages
from gateway.servers.playback import Playback, Routes
from gateway.servers.protection import Protection
from gateway.servers.recordings import Recordings
from gateway.servers.rtmp_door import RtmpDoor, RtmpLimits
from gateway.servers.segmented import ready
from gateway.servers.snapshot import Snapshot
from gateway.servers.vod import VodFiles
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.servers.signatures import PublicKey
    from gateway.transcode.stills import Stills
    from gateway.works import Works

TARGET_BYTES: Final = 8192  # of a request's target; its head's bound is a setting
REQUEST_SECONDS: Final = 30.0  # for the whole body of an API request


class Listeners:
    """Opens everything that `settings` asks for; `ports` tells what is open. Raises ListenError, UnusableKey."""

    def __init__(
        self,
        settings: Settings,
        hub: Hub,
        stores: Stores,
        secrets: Secrets,
        events: Events,
        metrics: Metrics,
        readiness: Readiness,
        verify_token: Callable[[str], bool],
        stills: Stills,
        works: Works,
        tasks: Tasks,
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._stores = stores
        self._secrets = secrets
        self._metrics = metrics
        self._readiness = readiness
        self._verify_token = verify_token
        self._stills = stills
        self._works = works
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
        self._http: HttpServer | None = None
        self._protection: Protection | None = None
        self._admin: web.AppRunner | None = None
        self.ports = Ports()

    async def open(self) -> None:
        """Binds every port first, so that a taken one leaves nothing half open, then accepts."""
        settings = self._settings
        tls = tls_context(settings.tls.cert, settings.tls.key) if settings.tls.cert is not None else None
        self._open_rtmp(tls)
        http, host = settings.http, settings.http.host
        plain = listen("http", host, http.port)
        secure = listen("https", host, settings.https.port) if tls is not None else []
        admin = listen("admin", settings.admin.host, settings.admin.port)
        self.ports = Ports(
            rtmp=self._rtmp[0].port,
            rtmps=self._rtmp[1].port if tls is not None else None,
            http=port_of(plain),
            https=port_of(secure) if secure else None,
            admin=port_of(admin),
        )
        self._http = self._make_http()
        await self._http.listen(plain)
        if tls is not None:
            await self._http.listen(secure, tls)
        self._admin = web.AppRunner(make_app(self._api_context()), access_log=None, handle_signals=False)
        await self._admin.setup()
        for sock in admin:
            await web.SockSite(self._admin, sock, ssl_context=tls if settings.admin.tls else None).start()
        for listener in self._rtmp:
            await listener.start()
            self._tasks.start(listener.run(), "rtmp connections")

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
        for listener in self._rtmp:
            listener.close()

    async def finish(self) -> None:
        """Lets running answers and the last words to viewers go out, then closes what is left."""
        if self._http is not None:
            await self._http.close(grace=2.0)
        for listener in self._rtmp:
            await listener.hang_up(grace=2.0)

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
            routes=Routes.of(hls, ladders.cmaf, ladders.index, ladders.rung, Snapshot(self._stills.latest)),
            flv=FlvViewers(limits.viewer_backlog),
            audience=audience,
            pages=Pages(),
            health=Health(self._readiness.missing),
            wait_for_publisher=settings.stream.wait_for_publisher,
            ready=ready,
            recordings=recordings,
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

    # ---- admin ----

    def _api_context(self) -> Context:
        settings, limits = self._settings, self._settings.limits
        playback = settings.playback
        return Context(
            version=__version__,
            hub=self._hub,
            channels=self._stores.channels,
            domains=self._stores.domains,
            secrets=self._secrets,
            verify_token=self._verify_token,
            shown=Shown(
                ports=lambda: self.ports,
                push_host=shown_host(settings.rtmp.host),
                pull_host=shown_host(settings.http.host),
                public_url=playback.public_url,
                play_auth=playback.auth,
                sign_ttl=playback.sign_ttl,
            ),
            limits=ApiLimits(limits.api_body, limits.item, REQUEST_SECONDS, limits.refusals_per_minute),
            readiness=self._readiness,
            metrics=self._metrics,
            forget=self._channels.forget,
            studio=self._works.studio,
            kvs=self._works.kvs,
            objects=self._stores.objects,
        )
