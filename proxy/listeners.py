"""The listeners of an edge: playback HTTP(S), RTMP(S) for players, admin; opened together, closed together."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from gateway.cores.door import SiblingDoor
from gateway.cores.seat import Seat
from gateway.cores.sums import Sums
from gateway.hub.access import Secrets
from gateway.hub.addresses import Ports
from gateway.hub.cache import CachedChannels
from gateway.hub.events import Events
from gateway.hub.lease import Lease
from gateway.hub.readiness import Readiness
from gateway.hub.stream import Stream
from gateway.lib.aio import Tasks
from gateway.lib.quota import Quota
from gateway.nodes.door import NodeDoor
from gateway.nodes.relay import Relay
from gateway.nodes.replicas import Replicas
from gateway.servers import options
from gateway.servers.audience import Audience
from gateway.servers.flv import FlvViewers
from gateway.servers.forwarded import Forwarded
from gateway.servers.health import Health
from gateway.servers.http import HttpServer
from gateway.servers.ingest import RtmpListener
from gateway.servers.listen import Opener, listen, port_of, tls_context
from gateway.servers.pages import Pages
from gateway.servers.playback import Answering, Playback, Routes
from gateway.servers.protection import Protection
from gateway.servers.request import Request
from gateway.servers.rtmp_door import RtmpDoor
from gateway.servers.vod import VodFiles
from gateway.settings import Settings
from proxy.admin import AdminPages
from proxy.pushes import NoPushes, no_lease
from proxy.recordings import Recordings


class PulledStreams:
    """A servers.playback.Streams: what gateways hold."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    def find(self, name: str) -> Stream | None:
        return self._replicas.find(name)

    def find_recent(self, name: str) -> Stream | None:
        """No stream is held here."""
        return None

    async def wait(self, name: str, seconds: float) -> Stream:
        return await self._replicas.wait(name, seconds)


class Listeners:
    """Opens everything that the settings ask for; `ports` tells what is open. Raises ListenError, UnusableKey."""

    def __init__(
        self,
        settings: Settings,
        *,
        secrets: Secrets,
        channels: CachedChannels,
        protection: Protection,
        audience: Audience,
        replicas: Replicas,
        relay: Relay,
        recordings: Recordings,
        readiness: Readiness,
        admin: AdminPages,
        door: NodeDoor,
        events: Events,
        tasks: Tasks,
        seat: Seat | None = None,
        sums: Sums | None = None,
    ) -> None:
        """seat, sums: of a worker, whose master has opened the ports."""
        self._seat = seat
        self._opener: Opener = listen if seat is None else seat.sockets
        self._siblings: SiblingDoor | None = None
        if seat is not None and sums is not None:
            self._siblings = SiblingDoor(seat.slot, door, options.http_limits(settings), sums.keep)
        self._settings = settings
        self._protection = protection
        self._admin_pages = admin
        self._tasks = tasks
        self._pushes = NoPushes(channels, secrets, events)
        streams = PulledStreams(replicas)
        limits = settings.limits
        self._playback = Playback(
            hub=streams,
            channels=channels,
            protection=protection,
            routes=Routes.of(_not_here, _not_here, _not_here, _not_here, _not_here),
            flv=FlvViewers(limits.viewer_backlog),
            audience=audience,
            pages=Pages(lambda: self.ports),
            health=Health(readiness.missing),
            wait_for_publisher=settings.stream.wait_for_publisher,
            recordings=recordings,
            folders={"vod": VodFiles(recordings, protection, channels), "_node": door},
            elsewhere=relay,
        )
        self._door = RtmpDoor(
            streams=streams,
            lease=_lease,
            admission=self._pushes,
            may_play=options.play_access(settings, streams, channels, secrets),
            players=Quota(limits.playback_per_address),
            limits=options.rtmp_limits(settings),
            tasks=tasks,
        )
        forwarded = Forwarded(settings.http.forwarded_from)
        self._http = HttpServer(
            self._playback, options.http_limits(settings), forwarded, unshown=("POST",), exempts=door.signed
        )
        self._admin = HttpServer(admin, options.http_limits(settings), Forwarded(settings.admin.forwarded_from))
        self._rtmp: list[RtmpListener] = []
        self.ports = Ports()

    async def open(self) -> None:
        """Binds every port first, so that a taken one leaves nothing half open, then accepts."""
        settings = self._settings
        tls = tls_context(settings.tls.cert, settings.tls.key) if settings.tls.cert is not None else None
        self._open_rtmp(tls)
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
            admin=port_of(admin) if here or self._seat is None else self._seat.ports.admin,
        )
        await self._http.listen(plain)
        if tls is not None:
            await self._http.listen(secure, tls)
        await self._admin.listen(admin, tls if settings.admin.tls else None)
        if self._siblings is not None:
            await self._siblings.open()
        for listener in self._rtmp:
            await listener.start()
            self._tasks.start(listener.run(), "connections")

    def _open_rtmp(self, tls: ssl.SSLContext | None) -> None:
        settings, rtmp = self._settings, self._settings.rtmp
        self._rtmp = [RtmpListener(self._door, rtmp.host, rtmp.port, rtmp.proxy_from, None, self._opener)]
        if tls is not None:
            port = settings.rtmps.port
            self._rtmp.append(RtmpListener(self._door, rtmp.host, port, rtmp.proxy_from, tls, self._opener))

    @property
    def http_bytes(self) -> int:
        """Bytes of answers on the playback listener; what viewers of feeds get is counted there."""
        return self._http.bytes_out

    @property
    def refused(self) -> Mapping[str, Mapping[str, int]]:
        """Refused pushes and plays by reason."""
        return {"publish": self._pushes.refused, "play": self._protection.refused, "api": self._admin_pages.refused}

    def stop_accepting(self) -> None:
        """No new players of RTMP."""
        for listener in self._rtmp:
            listener.close()

    def retire(self) -> None:
        """Another process has these ports now: nobody new comes in, those who are here go on."""
        self.stop_accepting()
        self._http.retire()
        self._admin.retire()

    async def finish(self) -> None:
        """Lets running answers and the last words to viewers go out, then closes what is left."""
        await self._http.close(grace=2.0)
        for listener in self._rtmp:
            await listener.hang_up(grace=2.0)

    async def close(self) -> None:
        """At once."""
        self.stop_accepting()
        await self._http.close()
        await self._admin.close()
        if self._siblings is not None:
            await self._siblings.close()


_lease: Lease = no_lease


def _not_here(request: Request, stream: Stream, rest: str) -> Answering:
    raise AssertionError("no stream is held here whose files could be asked for")
