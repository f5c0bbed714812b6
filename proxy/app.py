"""The composition root of the edge: settings become where streams are, what pulls them, and listeners."""

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
from gateway.adapters import open_channels, open_registry
from gateway.adapters.advertise import advertised, host_of
from gateway.adapters.local.folder import data_folder
from gateway.adapters.local.host import write_ports
from gateway.adapters.local.secrets import admin_token, signing_secret
from gateway.adapters.vault import Vault
from gateway.api.node import Node as Machine
from gateway.api.servers import shown
from gateway.api.status import summary
from gateway.cores.seat import Seat
from gateway.cores.shares import of_worker
from gateway.cores.sums import OPERATION as SUMS
from gateway.cores.sums import Sums
from gateway.ending import Ending
from gateway.hub.addresses import Ports
from gateway.hub.cache import CachedChannels
from gateway.hub.cluster_secret import ClusterSecret
from gateway.hub.distant import DistantViewers
from gateway.hub.errors import HubError
from gateway.hub.events import Events
from gateway.hub.hub import Hub, StreamLimits
from gateway.hub.nodes import Node, Role
from gateway.hub.ports import ChannelReader, Registry
from gateway.hub.readiness import Check, Readiness
from gateway.lib import log as logs
from gateway.lib import metrics
from gateway.lib.aio import Tasks
from gateway.lib.metrics import Metrics, Sample
from gateway.lib.tuning import calm_collector, raise_file_limit
from gateway.nodes import purpose
from gateway.nodes.cluster import Cluster
from gateway.nodes.door import NodeDoor
from gateway.nodes.host import Slot
from gateway.nodes.locator import Finder, Locator
from gateway.nodes.membership import Membership
from gateway.nodes.operations import Operations
from gateway.nodes.peers import Peers
from gateway.nodes.relay import Relay
from gateway.nodes.replicas import Replicas
from gateway.nodes.spread import Spread
from gateway.nodes.teller import Teller
from gateway.packagers.feed import FeedCounts
from gateway.packagers.live import live_outputs
from gateway.servers import options
from gateway.servers.audience import Audience
from gateway.servers.health import Health
from gateway.servers.listen import ListenError
from gateway.settings import Settings
from proxy import gateways, given
from proxy.admin import AdminPages
from proxy.channels import AskedChannels, HeldFirst
from proxy.gateways import Gateways, Living, Store, Upstreams
from proxy.given import Given
from proxy.listeners import Listeners
from proxy.recordings import Recordings

log = structlog.get_logger(__name__)

_RECORDINGS = 8  # one part in so many of edge.cache is theirs


def run(settings: Settings, seat: Seat | None = None) -> int:
    """Serves until SIGTERM or Ctrl-C; the exit code. seat: of a worker process.

    What the operator has to put right (a taken port, an unusable store) is one line on stderr, exit code 1.
    """
    logs.configure(settings.log.level, settings.log.format, words={"process": seat.slot.name} if seat else None)
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve(settings, seat))
    except (HubError, ListenError, OSError) as error:
        print(f"millrace: {error}", file=sys.stderr)  # noqa: T201
        return 1


async def serve(settings: Settings, seat: Seat | None = None) -> int:
    """Opens everything in order, waits for a signal, closes all in reverse. Raises HubError, ListenError, OSError."""
    began = time.monotonic()
    raise_file_limit()
    data_folder(settings.data)
    slot = seat.slot if seat is not None else None
    if slot is not None:
        settings = of_worker(settings, slot)
    measured = Metrics(__version__)
    async with contextlib.AsyncExitStack() as stack:
        ending = Ending(seat)
        if seat is not None:
            stack.callback(seat.close)
        vault = await stack.enter_async_context(Vault(settings))
        settings = vault.settings
        verifier, new_token = admin_token(settings)
        ground = await _ground(settings, vault.cluster, slot, stack)
        edge = await _Edge.open(settings, ground, measured, stack)
        tasks = await stack.enter_async_context(Tasks("edge", _crashed))  # they end before what they use is closed
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
        calm_collector()
        opened = {name: port for name, port in listeners.ports.as_json().items() if port is not None}
        log.info("edge ready", seconds=round(time.monotonic() - began, 2), node=ground.node, **opened)
        if seat is not None:
            seat.ready()
        if new_token is not None and await ending.opened():
            print(f"Admin token, shown only now: {new_token}\n", flush=True)  # noqa: T201
        if settings.edge.channel:
            tasks.start(_until_lost(ground.locator, settings.edge.channel, ending), "channel")
        if await ending.asked():
            log.info("retiring", retire=settings.serve.retire)
            listeners.retire()
            await ending.unneeded(edge.watched, settings.serve.retire)
        log.info("shutting down", drain=settings.serve.drain)
        ground.readiness.close()
        await edge.drain(listeners)
    return 0


async def _until_lost(where: Locator, channel: str, ending: Ending) -> None:
    """Whoever started this edge for a channel may be gone: it ends itself with the channel."""
    await purpose.lost(where, channel)
    ending.stop()


@dataclass(frozen=True, slots=True)
class _Ground:
    """Where streams and channels are. registry, cluster: None where the settings name gateways instead."""

    node: str
    slot: Slot | None
    secret: ClusterSecret
    registry: Registry | None
    cluster: Cluster | None
    locator: Locator
    spread: Spread | None
    peers: Peers
    gateways: Gateways
    reader: ChannelReader
    readiness: Readiness


async def _ground(
    settings: Settings, secret: ClusterSecret, slot: Slot | None, stack: contextlib.AsyncExitStack
) -> _Ground:
    """Raises StoreUnusable."""
    node = slot.id if slot is not None else secrets.token_hex(6)
    channel = settings.edge.channel
    peers = await stack.enter_async_context(Peers(secret, headers={given.HEADER: channel} if channel else {}))
    registry = await stack.enter_async_context(open_registry(settings))
    stored = await stack.enter_async_context(open_channels(settings))
    cluster: Cluster | None = None
    spread: Spread | None = None
    finder: Finder
    living: Living
    checks: dict[str, Check]
    if registry is not None:
        finder, checks = registry, {"registry": registry.check}
        locator = Locator(finder)
        spread = Spread(locator, registry, node, channel)
        cluster = await stack.enter_async_context(Cluster(node, registry, locator, peers))
        living = gateways.registered(cluster.nodes)
    else:
        finder = upstreams = Upstreams(settings.edge.upstream, peers)
        locator, checks = Locator(finder), {"gateways": upstreams.check}
        living = gateways.upstream(settings.edge.upstream)
    known = Gateways(living)
    if stored is not None:
        checks["channel store"] = stored.check
    reader: ChannelReader = AskedChannels(known, locator, peers)
    if stored is not None:
        reader = HeldFirst(stored, locator, peers)
    return _Ground(node, slot, secret, registry, cluster, locator, spread, peers, known, reader, Readiness(checks))


class _Edge:
    """What pulls and gives."""

    def __init__(self, settings: Settings, ground: _Ground, measured: Metrics) -> None:
        self._settings = settings
        self._ground = ground
        self._measured = measured
        self.secrets = signing_secret(settings)
        self._events = Events()
        self._channels = CachedChannels(ground.reader)
        self._protection = options.protection(settings, self.secrets)
        self._audience = Audience()
        self._feeds = FeedCounts()
        stream = settings.stream
        limits = StreamLimits(stream.takeover_after, stream.linger, stream.gop_seconds, stream.gop_bytes)
        flush, stall = settings.http.flush_ms / 1000, settings.limits.viewer_stall
        outputs = live_outputs(flush, stall, settings.rtmp.chunk_size, self._feeds)
        self._pulled = Hub(limits, outputs, Events())
        self._own = Hub(limits, (), Events())  # an edge holds nothing
        where = ground.spread or ground.locator
        self.replicas = Replicas(self._pulled, where, ground.peers)
        part = settings.edge.cache // _RECORDINGS
        held = settings.edge.model_copy(update={"cache": settings.edge.cache - part})
        self.relay = Relay(where, ground.peers, self._channels, self._protection, self._audience, held)
        self._given = Given(settings.edge.channel, self.replicas, self.relay)
        self.recordings = Recordings(Store(ground.gateways, self.relay.origin, ground.locator), part)
        self._teller = Teller(ground.node, self._watched, ground.locator, ground.peers)
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

    def listeners(self, admin: AdminPages, seat: Seat | None, tasks: Tasks) -> Listeners:
        """Not open yet."""
        slot = self._ground.slot
        sums = Sums(slot, self._measured, self._ground.peers) if slot is not None else None
        admin.sums = sums
        return Listeners(
            self._settings,
            secrets=self.secrets,
            channels=self._channels,
            protection=self._protection,
            audience=self._audience,
            replicas=self.replicas,
            relay=self.relay,
            recordings=self.recordings,
            readiness=self._ground.readiness,
            admin=admin,
            door=self._door(sums),
            seat=seat,
            sums=sums,
            events=self._events,
            tasks=tasks,
        )

    def _door(self, sums: Sums | None) -> NodeDoor:
        """What other nodes may ask: how this one does, and its channel's stream where it was started for one; and they
        tell it which channel has changed."""
        settings, ground = self._settings, self._ground
        stores = {"channels": settings.channels.partition(":")[0]}
        machine = Machine(settings.data, stores)
        operations = Operations(
            node=ground.node,
            hub=self._own,
            channels=ground.reader,
            cached=self._channels,
            forget=self._channels.forget,
            distant=DistantViewers(),
            report=lambda: summary(machine, self._measured, __version__),
            peers=ground.peers,
            siblings=ground.slot.siblings if ground.slot is not None else dict,
            held=_by_nobody,
        ).table()
        return NodeDoor(
            secret=ground.secret,
            hub=self._own,
            channels=ground.reader,
            files=self._given.file,
            peers=ground.peers,
            held=_by_nobody,
            operations={name: operations[name] for name in ("node", "changed")}
            | ({SUMS: sums.operate} if sums is not None else {}),
            dropped=self._measured.dropped,
            session=lambda stream: "",
            give=self._given.units,
        )

    def start(self, tasks: Tasks) -> None:
        """What runs beside the players."""
        tasks.start(self._pulled.run(), "replicas")
        tasks.start(self._ground.locator.run(), "look-ups")
        if self._ground.spread is not None:
            tasks.start(self._ground.spread.run(), "edges of channels")
        tasks.start(self._teller.run(), "viewers")

    async def join(self, ports: Ports, tasks: Tasks) -> None:
        """Tells the registry, where there is one, that this edge is there."""
        if self._ground.registry is not None:
            self._address = await advertised(self._settings, ports)
            self._shown = shown(host_of(self._address), ports, time.time())
            tasks.start(Membership(self._ground.registry, self._as_node).run(), "membership")

    def _as_node(self) -> Node:
        channel = self._settings.edge.channel
        return Node(self._ground.node, Role.EDGE, self._address, channel=channel, shown=self._shown)

    def watched(self) -> bool:
        """Whether somebody plays by FLV or RTMP, or another node pulls from here."""
        return bool(self.replicas.lent) or any(any(stream.viewers.values()) for stream in self._pulled)

    async def drain(self, listeners: Listeners) -> None:
        """Accepts nothing more, tells viewers."""
        listeners.stop_accepting()
        self._pulled.drain()
        try:
            async with asyncio.timeout(self._settings.serve.drain or None):
                await self._pulled.drained()
                await listeners.finish()
        except TimeoutError:
            log.warning("not everything was finished in time", drain=self._settings.serve.drain)

    # ---- what is measured ----

    def _watched(self) -> Mapping[str, Mapping[str, int]]:
        """Who watches here, by stream and protocol."""
        watched = self.relay.viewers
        for stream in self._pulled:
            watched.setdefault(stream.name, Counter()).update(stream.viewers)
        return watched

    def samples(self, listeners: Listeners) -> Iterator[Sample]:
        """A source of metrics."""
        viewers: Counter[str] = Counter({"flv": 0, "rtmp": 0})
        for stream in self._pulled:
            viewers.update(stream.viewers)
        for protocol, count in viewers.items():
            yield Sample(metrics.VIEWERS, count, (protocol,))
        yield from self.relay.samples()
        yield Sample(metrics.PULLED, len(self.replicas))
        yield Sample(metrics.PULLS, self.replicas.pulls)
        yield Sample(metrics.LOOKUPS, self._ground.locator.asked)
        yield Sample(metrics.BYTES_OUT, listeners.http_bytes, ("http",))
        for kind, sent in self._feeds.sent.items():
            yield Sample(metrics.BYTES_OUT, sent, (kind,))
        yield Sample(metrics.DROPPED, self._feeds.dropped, ("viewer",))
        for what, reasons in listeners.refused.items():
            for reason, count in reasons.items():
                yield Sample(metrics.REFUSED, count, (what, reason))


async def _by_nobody(name: str) -> None:
    """An edge has no siblings that hold streams."""


def _crashed(name: str, error: BaseException) -> None:
    log.error("a task failed", task=name, exc_info=error)
