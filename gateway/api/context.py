"""What the API's handlers work on, handed to them with each request."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from aiohttp import web

from gateway.hub.access import Secrets
from gateway.hub.addresses import Addresses, Ports, Presenter
from gateway.hub.channel import Channel
from gateway.hub.hub import Hub
from gateway.hub.ports import ChannelStore, DomainStore, ObjectStore
from gateway.hub.readiness import Readiness
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
    refusals_per_minute: int


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


def _nothing(channel_id: str) -> None:
    """Nobody keeps channels besides the store."""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything behind the API. Made once by the composition root.

    verify_token: whether a text is the admin token, in constant time. forget: drops a channel from caches.
    role: this node's in a fail-over pair. studio, kvs: what does jobs; None: nothing does. objects: where
    recordings are; None: nowhere.
    """

    version: str
    hub: Hub
    channels: ChannelStore
    domains: DomainStore
    secrets: Secrets = field(repr=False)
    verify_token: Callable[[str], bool] = field(repr=False)
    shown: Shown
    limits: Limits
    readiness: Readiness
    metrics: Metrics
    forget: Callable[[str], None] = _nothing
    role: str = "primary"
    studio: Studio | None = None
    kvs: KvsJobs | None = None
    objects: ObjectStore | None = None
    clock: Callable[[], float] = time.time

    async def presenter(self, request: web.Request) -> Presenter:
        """Shows channels with the addresses that whoever asks can use: set domains, else the host that was asked."""
        shown, domains, host = self.shown, await self.domains.get_domains(), host_of(request)
        push, pull = (shown.push_host or host, shown.pull_host or host) if _is_loopback(host) else (host, host)
        addresses = Addresses.of(domains, shown.ports(), push, pull, shown.public_url)
        return Presenter(addresses, self.secrets, shown.play_auth, shown.sign_ttl)

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
    if _HOST.fullmatch(host):
        return host
    transport = request.transport
    name = transport.get_extra_info("sockname") if transport is not None else None
    return str(name[0]) if isinstance(name, tuple) else "127.0.0.1"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
