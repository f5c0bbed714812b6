"""The composition root of the edge: builds its parts from the settings, runs them, and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import structlog

from gateway import __version__
from gateway.adapters.advertise import advertised, host_of
from gateway.adapters.local.credentials import admin_token, signing_secret
from gateway.adapters.local.data_folder import data_folder
from gateway.adapters.local.host import write_ports
from gateway.adapters.secret_resolver import SecretResolver, warn_of_short_secrets
from gateway.adapters.stores import open_channels, open_registry
from gateway.api.node_status import NodeStatus as Machine
from gateway.api.servers import registry_entry
from gateway.api.status import summary
from gateway.app import listener_options
from gateway.app.node_parts import NodeParts
from gateway.app.shutdown import ShutdownSignals
from gateway.channels.addresses import OpenPorts
from gateway.channels.cached_channels import CachedChannels
from gateway.channels.media_owners import MediaOwners, StoredDeletions
from gateway.channels.stores import ChannelReader
from gateway.cluster import idle
from gateway.cluster.cluster_client import ClusterClient
from gateway.cluster.edge_selector import EdgeSelector
from gateway.cluster.gateway_operations import ChannelReaders, GatewayOperations
from gateway.cluster.http_cache_proxy import HttpCacheProxy
from gateway.cluster.membership import Membership
from gateway.cluster.node_authenticator import NodeAuthenticator
from gateway.cluster.node_endpoint import NodeEndpoint, PullableStreams
from gateway.cluster.peers import Peers
from gateway.cluster.registry_locator import Finder, RegistryLocator
from gateway.cluster.replicas import Replicas
from gateway.cluster.sibling_processes import SiblingProcesses
from gateway.cluster.upstream_client import UpstreamClient
from gateway.cluster.viewer_reporter import ViewerReporter
from gateway.cluster.worker_slot import WorkerSlot
from gateway.lib import log as logs
from gateway.lib import metric_table
from gateway.lib.metric_table import MetricSample
from gateway.lib.metrics import Metrics
from gateway.lib.readiness import Check, Readiness
from gateway.lib.sockets import ListenError
from gateway.lib.tasks import Tasks
from gateway.lib.tuning import private_files, raise_file_limit, tune_garbage_collector
from gateway.live.hub import NODES_SECONDS, Hub, StreamLimits
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.packaging.backlog import Backlogs
from gateway.packaging.feed import FeedCounts
from gateway.packaging.feed_outputs import feed_outputs
from gateway.playback.health import Health
from gateway.playback.http_viewers import HttpViewers
from gateway.ports.cluster_secret import ClusterSecret
from gateway.ports.errors import HubError
from gateway.ports.events import Events
from gateway.ports.nodes import Node, NodeRole
from gateway.ports.stores import Registry
from gateway.processes.metrics_aggregator import OPERATION as SUMS
from gateway.processes.metrics_aggregator import MetricsAggregator
from gateway.processes.worker_link import WorkerLink
from gateway.processes.worker_settings import settings_for_worker
from gateway.settings import Settings
from proxy.edge import channel_edge, gateways
from proxy.edge.admin_pages import AdminPages
from proxy.edge.channel_edge import ChannelEdge
from proxy.edge.gateways import GatewayFiles, GatewayList, Gateways, UpstreamFinder
from proxy.edge.listeners import EdgeListeners, PulledPlayback
from proxy.edge.recordings import EdgeRecordings
from proxy.edge.remote_channels import HolderFirstChannels, RemoteChannels

log = structlog.get_logger(__name__)

_RECORDINGS = 8  # recordings get edge.cache divided by this


def run(settings: Settings, seat: WorkerLink | None = None) -> int:
    """Serves until SIGTERM or Ctrl-C. Returns the exit code. seat: the link to the master, in a worker process.

    An error that the operator can fix (a used port, an unusable store) is one line on stderr, with exit code 1.
    """
    private_files()
    logs.configure(settings.log.level, settings.log.format, words={"process": seat.slot.name} if seat else None)
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve(settings, seat))
    except (HubError, ListenError, OSError) as error:
        print(f"millrace: {error}", file=sys.stderr)  # noqa: T201
        return 1


async def serve(settings: Settings, seat: WorkerLink | None = None) -> int:
    """Opens all parts in order, waits for a signal, closes them in reverse order. Returns the exit code.

    Raises HubError, ListenError, OSError.
    """
    began = time.monotonic()
    raise_file_limit()
    data_folder(settings.data)
    slot = seat.slot if seat is not None else None
    if slot is not None:
        settings = settings_for_worker(settings, slot)
    if slot is None or slot.first:
        warn_of_short_secrets(settings)
    measured = Metrics(__version__)
    async with contextlib.AsyncExitStack() as stack:
        ending = ShutdownSignals(seat)
        if seat is not None:
            stack.callback(seat.close)
        vault = await stack.enter_async_context(SecretResolver(settings))
        settings = vault.settings
        verifier, new_token = admin_token(settings)
        ground = await _ground(settings, vault.cluster, slot, stack)
        edge = await _Edge.open(settings, ground, measured, stack)
        tasks = await stack.enter_async_context(Tasks("edge", _crashed))  # entered last, so tasks end first
        vault.follow(edge.secrets, verifier)
        tasks.start(vault.run(), "secrets")
        admin = AdminPages(Health(ground.readiness.missing), measured, verifier, settings.limits.refusals_per_minute)
        listeners = edge.listeners(admin, seat, tasks)
        measured.read_from(lambda: edge.samples(listeners))
        edge.start(tasks)
        tasks.start(measured.sample_loop_lag(), "loop lag")
        await listeners.open()
        stack.push_async_callback(listeners.close)
        await edge.join(listeners.ports, tasks)
        if seat is None:
            write_ports(settings.data, listeners.ports)
        tune_garbage_collector()
        seconds = round(time.monotonic() - began, 2)
        log.info("edge ready", seconds=seconds, node=ground.node, **listeners.ports.opened())
        if seat is not None:
            seat.ready()
        if new_token is not None and await ending.opened():
            print(f"Admin token, shown only now: {new_token}\n", flush=True)  # noqa: T201
        if settings.edge.channel:
            tasks.start(_until_idle(ground.locator, settings.edge.channel, ending), "channel")
        if await ending.asked():
            log.info("retiring", retire=settings.serve.retire)
            listeners.retire()
            await ending.unneeded(edge.watched, settings.serve.retire)
        log.info("shutting down", drain=settings.serve.drain)
        ground.readiness.close()
        await edge.drain(listeners)
    return 0


async def _until_idle(where: RegistryLocator, channel: str, ending: ShutdownSignals) -> None:
    """Ends this edge when its channel is idle, because the gateway that started it may be gone."""
    await idle.wait_until_idle(where, channel)
    ending.stop()


@dataclass(frozen=True, slots=True)
class _Ground:
    """The parts that find streams and channels. registry, cluster: None if the settings name gateways instead."""

    node: str
    slot: WorkerSlot | None
    secret: ClusterSecret
    registry: Registry | None
    cluster: ClusterClient | None
    locator: RegistryLocator
    spread: EdgeSelector | None
    peers: Peers
    gateways: Gateways
    reader: ChannelReader
    deleted: ChannelReader
    readiness: Readiness


async def _ground(
    settings: Settings, secret: ClusterSecret, slot: WorkerSlot | None, stack: contextlib.AsyncExitStack
) -> _Ground:
    """Opens the parts that find streams and channels. Raises StoreUnusable."""
    node = slot.id if slot is not None else secrets.token_hex(6)
    channel = settings.edge.channel
    peers = await stack.enter_async_context(Peers(secret, headers={channel_edge.HEADER: channel} if channel else {}))
    registry = await stack.enter_async_context(open_registry(settings))
    stored = await stack.enter_async_context(open_channels(settings))
    cluster: ClusterClient | None = None
    spread: EdgeSelector | None = None
    finder: Finder
    living: GatewayList
    checks: dict[str, Check]
    if registry is not None:
        finder, checks = registry, {"registry": registry.check}
        locator = RegistryLocator(finder)
        spread = EdgeSelector(locator, registry, node, channel)
        cluster = await stack.enter_async_context(ClusterClient(node, registry, locator, peers))
        living = gateways.registry_gateways(cluster.nodes)
    else:
        finder = upstreams = UpstreamFinder(settings.edge.upstream, peers)
        locator, checks = RegistryLocator(finder), {"gateways": upstreams.check}
        living = gateways.configured_gateways(settings.edge.upstream)
    known = Gateways(living)
    if stored is not None:
        checks["channel store"] = stored.check
    reader: ChannelReader = RemoteChannels(known, locator, peers)
    deleted: ChannelReader = RemoteChannels(known, locator, peers, "deleted")
    if stored is not None:
        reader, deleted = HolderFirstChannels(stored, locator, peers), StoredDeletions(stored)
    ready = Readiness(checks)
    return _Ground(node, slot, secret, registry, cluster, locator, spread, peers, known, reader, deleted, ready)


class _Edge:
    """The parts that pull streams from gateways and serve them to viewers and other nodes."""

    def __init__(self, settings: Settings, ground: _Ground, measured: Metrics) -> None:
        self._settings = settings
        self._ground = ground
        self._measured = measured
        self.secrets = signing_secret(settings)
        self._events = Events()
        self._channels = CachedChannels(ground.reader)
        self._deleted = CachedChannels(ground.deleted)
        self._protection = listener_options.protection(settings, self.secrets)
        self._audience = HttpViewers()
        self._feeds = FeedCounts()
        self._backlogs = Backlogs(settings.limits.viewer_memory)
        stream = settings.stream
        given = NODES_SECONDS if settings.edge.channel else 0.0  # other nodes pull only from an edge of one channel
        limits = StreamLimits(
            stream.takeover_after, stream.linger, stream.gop_seconds, stream.gop_bytes, beginning=given
        )
        flush, stall = settings.http.flush_ms / 1000, settings.limits.viewer_stall
        outputs = feed_outputs(flush, stall, settings.rtmp.chunk_size, self._feeds, self._backlogs)
        self._pulled = Hub(limits, outputs, Events())
        self._own = Hub(limits, (), Events())  # stays empty, as an edge holds no streams of its own
        where = ground.spread or ground.locator
        self.replicas = Replicas(self._pulled, where, ground.peers)
        part = settings.edge.cache // _RECORDINGS
        held = settings.edge.model_copy(update={"cache": settings.edge.cache - part})
        self.relay = HttpCacheProxy(
            UpstreamClient(where, ground.peers), self._channels, self._protection, self._audience, held
        )
        self._given = ChannelEdge(settings.edge.channel, self.replicas, self.relay)
        self.recordings = EdgeRecordings(GatewayFiles(ground.gateways, self.relay.origin, ground.locator), part)
        self._teller = ViewerReporter(ground.node, self._watched, ground.locator, ground.peers)
        self._address = ""
        self._shown: Mapping[str, object] = {}
        if not settings.signing.secret.get_secret_value():
            log.info("play signs of gateways that have another secret do not count here: signing.secret is not set")

    @classmethod
    async def open(
        cls, settings: Settings, ground: _Ground, measured: Metrics, stack: contextlib.AsyncExitStack
    ) -> _Edge:
        edge = cls(settings, ground, measured)
        for part in (edge.replicas, edge.relay, edge.recordings):
            await stack.enter_async_context(part)
        stack.callback(edge._audience.close)
        return edge

    def listeners(self, admin: AdminPages, seat: WorkerLink | None, tasks: Tasks) -> EdgeListeners:
        """Returns the listeners, which are not open yet."""
        slot = self._ground.slot
        sums = MetricsAggregator(slot, self._measured, self._ground.peers) if slot is not None else None
        admin.sums = sums
        parts = NodeParts(self._settings, self.secrets, self._events, self._measured, self._ground.readiness, tasks)
        pulled = PulledPlayback(
            self._channels,
            MediaOwners(self._channels, self._deleted),
            self._protection,
            self._audience,
            self.replicas,
            self.relay,
            self.recordings,
        )
        return EdgeListeners(parts, pulled, admin, self._door(sums), seat, sums)

    def _door(self, sums: MetricsAggregator | None) -> NodeEndpoint:
        """Returns the endpoint for other nodes.

        They may request the status of this edge and, if it was started for one channel, the stream of this channel.
        They also report which channels have changed.
        """
        settings, ground = self._settings, self._ground
        stores = {"channels": settings.channels.partition(":")[0]}
        machine = Machine(settings.data, stores)
        siblings = SiblingProcesses(
            ground.node, ground.peers, ground.slot.siblings if ground.slot is not None else dict
        )
        operations = GatewayOperations(
            siblings,
            self._own,
            ChannelReaders(ground.reader, self._channels, self._deleted),
            forget=self._forget,
            distant=RemoteViewerCounts(),
            report=lambda: summary(machine, self._measured, __version__),
        ).table()
        return NodeEndpoint(
            NodeAuthenticator(ground.secret, settings.limits.refusals_per_minute),
            siblings,
            PullableStreams(self._own, lambda stream: "", self._measured.dropped, self._given.units),
            ground.reader,
            self._given.file,
            {name: operations[name] for name in ("node", "changed")}
            | ({SUMS: sums.operate} if sums is not None else {}),
        )

    def _forget(self, id: str) -> None:
        """Forgets a channel that was changed or deleted, so that gateways are asked the next time."""
        self._channels.forget(id)
        self._deleted.forget(id)

    def start(self, tasks: Tasks) -> None:
        """Starts the background tasks."""
        tasks.start(self._pulled.run(), "replicas")
        tasks.start(self._ground.locator.run(), "look-ups")
        if self._ground.spread is not None:
            tasks.start(self._ground.spread.run(), "edges of channels")
        tasks.start(self._teller.run(), "viewers")

    async def join(self, ports: OpenPorts, tasks: Tasks) -> None:
        """Adds this edge to the registry, if there is one."""
        if self._ground.registry is not None:
            self._address = await advertised(self._settings, ports)
            self._shown = registry_entry(host_of(self._address), ports, time.time())
            tasks.start(Membership(self._ground.registry, self._as_node).run(), "membership")

    def _as_node(self) -> Node:
        channel = self._settings.edge.channel
        return Node(self._ground.node, NodeRole.EDGE, self._address, channel=channel, shown=self._shown)

    def watched(self) -> bool:
        """Returns whether a viewer plays by FLV or RTMP, or another node pulls from here."""
        return bool(self.replicas.lent) or any(any(stream.viewers.values()) for stream in self._pulled)

    async def drain(self, listeners: EdgeListeners) -> None:
        """Accepts no more connections, ends the streams for viewers, and waits at most serve.drain seconds."""
        listeners.stop_accepting()
        self._pulled.drain()
        try:
            async with asyncio.timeout(self._settings.serve.drain or None):
                await self._pulled.drained()
                await listeners.finish()
        except TimeoutError:
            log.warning("not everything was finished in time", drain=self._settings.serve.drain)

    # ---- metrics ----

    def _watched(self) -> Mapping[str, Mapping[str, int]]:
        """Returns the number of viewers by stream and protocol."""
        watched = self.relay.viewers
        for stream in self._pulled:
            watched.setdefault(stream.name, Counter()).update(stream.viewers)
        return watched

    def samples(self, listeners: EdgeListeners) -> Iterator[MetricSample]:
        """Yields the metrics of this edge."""
        viewers: Counter[str] = Counter({"flv": 0, "rtmp": 0})
        for stream in self._pulled:
            viewers.update(stream.viewers)
        for protocol, count in viewers.items():
            yield MetricSample(metric_table.VIEWERS, count, (protocol,))
        yield from self.relay.samples()
        yield MetricSample(metric_table.PULLED, len(self.replicas))
        yield MetricSample(metric_table.PULLS, self.replicas.pulls)
        yield MetricSample(metric_table.LOOKUPS, self._ground.locator.asked)
        yield MetricSample(metric_table.BYTES_OUT, listeners.http_bytes, ("http",))
        for kind, sent in self._feeds.sent.items():
            yield MetricSample(metric_table.BYTES_OUT, sent, (kind,))
        yield MetricSample(metric_table.DROPPED, self._feeds.dropped, ("viewer",))
        yield MetricSample(metric_table.BACKLOG, self._backlogs.bytes)
        for what, reasons in listeners.refused.items():
            for reason, count in reasons.items():
                yield MetricSample(metric_table.REFUSED, count, (what, reason))
        yield from listeners.pending.samples()


async def _by_nobody(name: str) -> None:
    """Returns None: no sibling of an edge holds streams."""


def _crashed(name: str, error: BaseException) -> None:
    log.error("a task failed", task=name, exc_info=error)
