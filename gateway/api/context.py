"""The objects that the API's handlers use."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.api.authenticators import USER, Authenticators
from gateway.api.presenter import Presenter
from gateway.channels.addresses import Addresses, OpenPorts, PublicDomains
from gateway.channels.channel_changes import ChannelChanges
from gateway.channels.media_owners import MediaOwners, StoredDeletions
from gateway.channels.stores import DomainStore, StoredChannels
from gateway.channels.stream_key import SigningSecrets
from gateway.http.forwarded import Forwarded
from gateway.http.origin_policy import hostname
from gateway.inputs.channel_inputs import ChannelInputs
from gateway.lib.metrics import Metrics
from gateway.lib.metrics_snapshot import MetricsSnapshot
from gateway.lib.network import is_loopback
from gateway.live.hub import Hub
from gateway.ports.cluster_queries import ClusterQueries, SingleNode
from gateway.ports.stores import ObjectStore
from gateway.ports.users import UserRole


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of requests; 0: no limit.

    body: bytes of a body. item: bytes of a stored channel or profile. request: seconds for a whole body.
    stall: seconds in which a client must read a piece of an export.
    """

    body: int
    item: int
    request: float
    stall: float = 0.0


@dataclass(frozen=True, slots=True)
class AddressDefaults:
    """The parts of addresses if no domain is set.

    push_host, pull_host: for requests over loopback, because phones and viewers are on other machines; "": loopback.
    public_url, play_auth, sign_ttl: see the settings' section `playback`. passphrase: of the section `srt`.
    """

    ports: Callable[[], OpenPorts]
    push_host: str = ""
    pull_host: str = ""
    public_url: str = ""
    play_auth: str = "none"
    sign_ttl: float = 3600
    passphrase: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Context:
    """The objects that handlers of several tags use. Created once, at start.

    cluster: the other nodes. objects: the store of recordings.
    metrics_of_all: returns the metrics of all processes on the same ports; None: there is only one process.
    provide: adds to an application the objects that handlers of one tag use, under the keys of their modules.
    """

    hub: Hub
    inputs: ChannelInputs
    channels: StoredChannels
    changes: ChannelChanges
    domains: DomainStore
    secrets: SigningSecrets = field(repr=False)
    authenticators: Authenticators = field(repr=False)
    address_defaults: AddressDefaults
    limits: RequestLimits
    metrics: Metrics
    objects: ObjectStore
    provide: Callable[[web.Application], None]
    metrics_of_all: Callable[[], Awaitable[MetricsSnapshot]] | None = None
    cluster: ClusterQueries = field(default_factory=SingleNode)
    clock: Callable[[], float] = time.time

    @property
    def media_owners(self) -> MediaOwners:
        """The lookup of the channel whose protection applies to stored media; reads from the store."""
        return MediaOwners(self.channels, StoredDeletions(self.channels))

    async def metrics_snapshot(self) -> MetricsSnapshot:
        """Returns the metrics of all processes on the same ports."""
        return await self.metrics_of_all() if self.metrics_of_all is not None else self.metrics.snapshot()

    def holds(self, id: str) -> bool:
        """Whether this node has the stream or inputs of a channel."""
        return self.hub.held(id) is not None or self.inputs.holds(id)

    def local_addresses(self, request: web.Request) -> Addresses:
        """Returns this node's own addresses on the requested host, without the configured domains."""
        host = host_of(request)
        return Addresses.of(PublicDomains(), self.address_defaults.ports(), host, host)

    async def presenter(self, request: web.Request) -> Presenter:
        """Returns a presenter with addresses for the client: of the configured domains, else of the requested host.

        It shows an observer no keys.
        """
        defaults, domains, host = self.address_defaults, await self.domains.get_domains(), host_of(request)
        push, pull = (defaults.push_host or host, defaults.pull_host or host) if is_loopback(host) else (host, host)
        client = request[CLIENT]
        addresses = Addresses.of(domains, client.ports or defaults.ports(), push, pull, defaults.public_url, host)
        tls = client.scheme == "https"
        user = request.get(USER)
        observed = user is not None and user.rights.role is UserRole.OBSERVER
        presenter = Presenter(addresses, self.secrets, defaults.play_auth, defaults.sign_ttl, tls, defaults.passphrase)
        return replace(presenter, observed=observed)


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
_FORWARDED: Final = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")


@dataclass(frozen=True, slots=True)
class Client:
    """The client of a request, also behind trusted proxies.

    address: without an IPv6 zone. scheme, host: as the client uses them; the host may have a port.
    ports: of the node that forwarded the request; None: the client asked this node.
    """

    address: str
    scheme: str
    host: str
    ports: OpenPorts | None = None

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host}"


CLIENT: Final = web.RequestKey("client", Client)


def client_middleware(proxies: Forwarded) -> Middleware:
    """Returns the middleware that sets `CLIENT`."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        peer = (request.remote or "").partition("%")[0]
        headers = {name: ",".join(request.headers.getall(name, ())) for name in _FORWARDED}
        scheme, host = proxies.scheme(peer, headers, request.scheme), proxies.host(peer, headers, request.host)
        request[CLIENT] = Client(proxies.client(peer, headers), scheme, host)
        return await handler(request)

    return middleware


def host_of(request: web.Request) -> str:
    """Returns the host that the client asks for; the socket's address if that is not a host name."""
    if host := hostname(request[CLIENT].host):
        return host
    transport = request.transport
    name = transport.get_extra_info("sockname") if transport is not None else None
    return str(name[0]) if isinstance(name, tuple) else "127.0.0.1"
