"""The objects that the API's handlers use."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.alarms.alarms import Alarms
from gateway.api.authenticators import Authenticators
from gateway.api.presenter import Presenter
from gateway.channels.addresses import Addresses, OpenPorts, PublicDomains
from gateway.channels.channel_changes import ChannelChanges
from gateway.channels.media_owners import MediaOwners, StoredDeletions
from gateway.channels.stores import DomainStore, StoredChannels
from gateway.channels.stream_key import SigningSecrets
from gateway.diagnosis.cue_log import CueLog
from gateway.diagnosis.daily_traffic import DailyTraffic
from gateway.diagnosis.event_log import EventLog
from gateway.diagnosis.experience import Experience
from gateway.diagnosis.recorder import Recorder
from gateway.diagnosis.refusal_log import RefusalLog
from gateway.http.forwarded import Forwarded
from gateway.http.origin_policy import hostname
from gateway.inputs.channel_inputs import ChannelInputs
from gateway.inputs.previews import InputPreviews
from gateway.lib.assets import Assets
from gateway.lib.metrics import Metrics
from gateway.lib.metrics_snapshot import MetricsSnapshot
from gateway.lib.network import is_loopback
from gateway.lib.readiness import Readiness
from gateway.live.hub import Hub
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.outputs.clips.clip_service import ClipService
from gateway.outputs.kinesis.kvs_jobs import KvsJobs
from gateway.outputs.storage.media_deletion import MediaDeletion
from gateway.playback.cloudfront_signer import CloudFrontSigner
from gateway.ports.cluster_queries import ClusterQueries, SingleNode
from gateway.ports.stores import IvsChannels, ObjectStore
from gateway.reports.node_status import NodeStatus
from gateway.vod.bin import Bin
from gateway.vod.vod_service import VodService


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
    """The objects that the API's handlers use. Created once, at start.

    drop_cached: drops a channel from caches. cluster: the other nodes. node_status: the state for /status.
    remote_viewers: viewers of this node's streams on other nodes.
    recorder: has the history of this process. experience: the reports of viewers. traffic: bytes by channel and day.
    vod_service, kvs: run VOD and Kinesis jobs.

    objects: the store of recordings; media_deletion: deletes them with their channel.
    bin: has deleted recordings and films, which can be restored.
    convert_picture(file, longest, alpha): see JpegService.convert.
    site_changed: called after a change of the site.
    clips: makes clips and exports.
    upload_origin: returns the origin for uploads besides this node ("https://bucket.s3.amazonaws.com"); "": none.
    metrics_of_all: returns the metrics of all processes on the same ports; None: there is only one process.
    cloudfront: signs playback addresses; None: there is no private key.
    refusals: the refused pushes of this process.
    event_log: the stored events.
    broadcast_servers: returns the rows of the table of broadcast servers; None: there is no table.
    servers_by_key(channel id, stream key, host): returns the push servers.
    speech: whether there is an engine for captions from speech.
    pages: whether the pages of the console are served.
    tasks: whether this gateway starts tasks in the cloud, see the setting `workers.runner`.
    """

    version: str
    hub: Hub
    inputs: ChannelInputs
    previews: InputPreviews
    channels: StoredChannels
    changes: ChannelChanges
    domains: DomainStore
    secrets: SigningSecrets = field(repr=False)
    authenticators: Authenticators = field(repr=False)
    node_status: NodeStatus
    address_defaults: AddressDefaults
    limits: RequestLimits
    readiness: Readiness
    metrics: Metrics
    recorder: Recorder
    experience: Experience
    cues: CueLog
    traffic: DailyTraffic
    event_log: EventLog
    vod_service: VodService
    kvs: KvsJobs
    objects: ObjectStore
    bin: Bin
    convert_picture: Callable[[bytes, int, bool], Awaitable[bytes]]
    site_changed: Callable[[], None]
    clips: ClipService
    media_deletion: MediaDeletion
    ivs: IvsChannels
    alarms: Alarms
    upload_origin: Callable[[], Awaitable[str]]
    servers_by_key: Callable[[str, str, str], Awaitable[list[dict[str, Any]]]]
    cluster: ClusterQueries = field(default_factory=SingleNode)
    remote_viewers: RemoteViewerCounts = field(default_factory=RemoteViewerCounts)
    refusals: RefusalLog = field(default_factory=RefusalLog)
    cloudfront: CloudFrontSigner | None = field(default=None, repr=False)
    metrics_of_all: Callable[[], Awaitable[MetricsSnapshot]] | None = None
    broadcast_servers: Callable[[], Awaitable[list[dict[str, str]]]] | None = None
    certificate: Callable[[], dict[str, Any] | None] = lambda: None
    speech: bool = False
    pages: bool = True
    tasks: bool = False
    assets: Assets = field(default_factory=Assets)
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
        """Returns a presenter with addresses for the client: of the configured domains, else of the requested host."""
        defaults, domains, host = self.address_defaults, await self.domains.get_domains(), host_of(request)
        push, pull = (defaults.push_host or host, defaults.pull_host or host) if is_loopback(host) else (host, host)
        client = request[CLIENT]
        addresses = Addresses.of(domains, client.ports or defaults.ports(), push, pull, defaults.public_url, host)
        tls = client.scheme == "https"
        return Presenter(addresses, self.secrets, defaults.play_auth, defaults.sign_ttl, tls, defaults.passphrase)


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
