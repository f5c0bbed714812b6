"""What the API's handlers work on, handed to them with each request."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import web

from gateway.api.cluster import Alone, Cluster
from gateway.api.node import Node
from gateway.api.people import People
from gateway.hub.access import Secrets
from gateway.hub.addresses import Addresses, Domains, Ports, Presenter
from gateway.hub.channel import Channel
from gateway.hub.distant import DistantViewers
from gateway.hub.hub import Hub
from gateway.hub.ports import ChannelStore, DomainStore, IvsChannels, ObjectStore
from gateway.hub.readiness import Readiness
from gateway.lib.assets import Assets
from gateway.lib.measured import Measured
from gateway.lib.metrics import Metrics
from gateway.sinks.kvs.jobs import KvsJobs
from gateway.vod.studio import Studio

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of requests. body, item: bytes; request: seconds for a whole body; 0: none."""

    body: int
    item: int
    request: float


@dataclass(frozen=True, slots=True)
class Shown:
    """What addresses are built from where no domain is set.

    push_host, pull_host: for whoever asks over loopback, whose phone and viewers are elsewhere; "": loopback too.
    public_url, play_auth, sign_ttl: as in the settings' section `playback`.
    """

    ports: Callable[[], Ports]
    push_host: str = ""
    pull_host: str = ""
    public_url: str = ""
    play_auth: str = "none"
    sign_ttl: float = 3600


class Proxies(Protocol):
    """Which reverse proxies are believed, and what they say of a client."""

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """The client's address behind `peer`; headers by lower-case name."""
        ...

    def scheme(self, peer: str, headers: Mapping[str, str], scheme: str) -> str:
        """http or https, as the client sees it."""
        ...


def _nothing(channel_id: str) -> None:
    """Nobody keeps channels besides the store."""


async def _no_origin() -> str:
    """Uploads come to this node."""
    return ""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything behind the API. Made once by the composition root.

    people: who may ask. forget: drops a channel from caches. role: this node's where it is alone. cluster: the other
    nodes; distant: who watches this one's streams there. node: what /status tells. studio, kvs: what does jobs; None:
    nothing does. objects: where recordings are; None: nowhere. ivs: None: nobody asks for it. proxies: None: none is
    believed. upload_origin: where pages upload films to, besides this node: "https://bucket.s3.amazonaws.com". sums:
    what all processes on the same ports measure together; None: there is but this one. broadcast_servers: the rows of
    the original's table of servers; None: none is kept.
    """

    version: str
    hub: Hub
    channels: ChannelStore
    domains: DomainStore
    secrets: Secrets = field(repr=False)
    people: People = field(repr=False)
    node: Node
    shown: Shown
    limits: Limits
    readiness: Readiness
    metrics: Metrics
    forget: Callable[[str], None] = _nothing
    role: str = "primary"
    cluster: Cluster = field(default_factory=Alone)
    distant: DistantViewers = field(default_factory=DistantViewers)
    studio: Studio | None = None
    kvs: KvsJobs | None = None
    objects: ObjectStore | None = None
    ivs: IvsChannels | None = None
    proxies: Proxies | None = None
    upload_origin: Callable[[], Awaitable[str]] = _no_origin
    sums: Callable[[], Awaitable[Measured]] | None = None
    broadcast_servers: Callable[[], Awaitable[list[dict[str, str]]]] | None = None
    assets: Assets = field(default_factory=Assets)
    clock: Callable[[], float] = time.time

    async def measured(self) -> Measured:
        """What this process and its siblings on the same ports measure together."""
        return await self.sums() if self.sums is not None else Measured.of(self.metrics)

    def client(self, request: web.Request) -> str:
        """The address of whoever asks, behind the proxies that are believed."""
        peer = (request.remote or "").partition("%")[0]
        return self.proxies.client(peer, _forwarded(request)) if self.proxies is not None else peer

    def scheme(self, request: web.Request) -> str:
        """http or https, as whoever asks sees it."""
        if self.proxies is None:
            return request.scheme
        return self.proxies.scheme((request.remote or "").partition("%")[0], _forwarded(request), request.scheme)

    def here(self, request: web.Request) -> Addresses:
        """This node's own addresses on the host that was asked, whatever domains are set."""
        host = host_of(request)
        return Addresses.of(Domains(), self.shown.ports(), host, host)

    async def presenter(self, request: web.Request) -> Presenter:
        """Shows channels with the addresses that whoever asks can use: set domains, else the host that was asked."""
        shown, domains, host = self.shown, await self.domains.get_domains(), host_of(request)
        push, pull = (shown.push_host or host, shown.pull_host or host) if _is_loopback(host) else (host, host)
        addresses = Addresses.of(domains, shown.ports(), push, pull, shown.public_url, host)
        tls = self.scheme(request) == "https"
        return Presenter(addresses, self.secrets, shown.play_auth, shown.sign_ttl, tls)

    async def present(self, request: web.Request, channels: Iterable[Channel]) -> list[dict[str, object]]:
        """The channels as answers show them, relay keys masked."""
        presenter, now = await self.presenter(request), self.clock()
        return [presenter.present(channel, now) for channel in channels]


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)


def host_of(request: web.Request) -> str:
    """The host that was asked, as the Host header says; the address of the socket where that is no host name."""
    try:
        host = urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        host = ""
    if is_host(host):
        return host
    transport = request.transport
    name = transport.get_extra_info("sockname") if transport is not None else None
    return str(name[0]) if isinstance(name, tuple) else "127.0.0.1"


def is_host(text: str) -> bool:
    """A host name or an address, IPv6 without brackets; nothing that could end a list or an address."""
    return _HOST.fullmatch(text) is not None


def _forwarded(request: web.Request) -> dict[str, str]:
    """The headers that proxies write; one that stands there several times is one list."""
    names = ("X-Forwarded-For", "X-Forwarded-Proto")
    return {name.lower(): ",".join(request.headers.getall(name)) for name in names if name in request.headers}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
