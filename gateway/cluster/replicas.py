"""Replicas: streams of other nodes, each pulled once while somebody plays it by FLV or RTMP."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import structlog

from gateway.channels.names import channel_of
from gateway.cluster.node_address import NodeAddress, PeerRefused, PeerUnavailable, StreamLocator
from gateway.cluster.peers import Peers
from gateway.cluster.pull import PullLink, PullSource, shared_channel, shared_fields
from gateway.cluster.pull_receiver import PullReceiver
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason, Sink
from gateway.live.stream import Stream
from gateway.media.track import Tracks
from gateway.ports.errors import AtCapacity, GatewayError, NoSuchStream, StoreUnavailable
from gateway.protocols.nodes import Hello

log = structlog.get_logger(__name__)

MAX_REPLICAS: Final = 20_000  # viewers can make up names
IDLE_SECONDS: Final = 5.0  # for which a replica lives on after the last player has gone
_POLL_SECONDS: Final = 0.5  # between look-ups of a stream that no node holds, while players wait
_AGAIN_SECONDS: Final = 0.25  # before a holder that just failed is looked up once more
_RESUME_SECONDS: Final = 2.0  # within which the same holder may continue the stream without a gap


class Replicas:
    """The pulled streams of this process, in a hub of their own. Use as `async with`.

    One connection pulls a stream for all its players. If it breaks, players stay for the linger time of the hub.
    Meanwhile the holder, or its successor, is looked up. Other nodes may pull a replica like a stream.

    limit: streams at once, also those that no node holds and players wait for; beyond that, AtCapacity is raised.
    Counter: `pulls` (connections opened).
    """

    def __init__(self, hub: Hub, where: StreamLocator, peers: Peers, limit: int = MAX_REPLICAS) -> None:
        """hub: has the outputs `flv` and `rtmp`; nothing else is published in it. The caller runs it."""
        self._hub = hub
        self._where = where
        self._peers = peers
        self._limit = limit
        self._pulls: dict[str, _Pull] = {}
        self._tasks = Tasks("replicas", _crashed)
        self.pulls = 0

    async def __aenter__(self) -> Replicas:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()

    def __len__(self) -> int:
        return len(self._pulls)

    def find(self, name: str) -> Stream | None:
        """Returns a replica that can be played now."""
        return self._hub.find(name)

    async def wait(self, name: str, seconds: float) -> Stream:
        """Pulls the stream and returns the replica once it can be played. Raises NoSuchStream after `seconds`,
        AtCapacity.
        """
        pull = self._pulls.get(name)
        if pull is None:
            if len(self._pulls) >= self._limit:
                raise AtCapacity(f"{self._limit} streams are pulled by this node")
            pull = self._pulls[name] = _Pull(name, self._hub, self._where, self._peers, self._opened)
            self._tasks.start(self._run(pull), name)
        pull.waiting += 1
        try:
            return await self._hub.wait(name, seconds)
        finally:
            pull.waiting -= 1
            pull.touched = time.monotonic()

    async def lend(self, name: str, seconds: float) -> PullSource:
        """Returns a replica as the source of another node's pull. Raises the errors of `wait`."""
        stream = await self.wait(name, seconds)
        pull = self._pulls.get(name)
        if pull is None:
            raise NoSuchStream(name)
        return ReplicaSource(pull, stream)

    @property
    def lent(self) -> int:
        """The number of pulls by other nodes."""
        return sum(pull.lent for pull in self._pulls.values())

    async def _run(self, pull: _Pull) -> None:
        try:
            await pull.run(self._tasks)
        finally:
            if self._pulls.get(pull.name) is pull:
                del self._pulls[pull.name]

    def _opened(self) -> None:
        self.pulls += 1


class _Pull(PullReceiver):
    """One replica: finds its holder, pulls, starts again if the link breaks, and ends when nobody plays it."""

    def __init__(self, name: str, hub: Hub, where: StreamLocator, peers: Peers, opened: Callable[[], None]) -> None:
        super().__init__(hub)
        self.name = name
        self.waiting = 0
        self.lent = 0  # pulls of other nodes
        self.touched = time.monotonic()
        self.current_hello = Hello("", 0.0, {})  # the hello for other nodes, for the tracks played now
        self.epoch = -1  # the holder's epoch of the tracks played now
        self._where = where
        self._peers = peers
        self._opened = opened
        self._early = False  # whether no node held the stream at the first look-up
        self._link: PullLink | None = None
        self._next_hello = self.current_hello  # the next hello, used once its tracks have come
        self._over: EndReason | None = None  # the reason for the end that an edge gave, not yet confirmed
        self._broken = 0.0  # when the last link broke

    async def run(self, tasks: Tasks) -> None:
        """Runs until the stream has ended, or nobody needs it."""
        watch = tasks.start(self._watch(), f"{self.name} audience")
        try:
            while self._wanted():
                reason = await self._once()
                if reason is not None:
                    self._hub.end(self.name, reason)
                    return
        finally:
            watch.cancel()
            self._leave()
            self._hub.end(self.name, EndReason.PUBLISHER_GONE)

    async def _once(self) -> EndReason | None:
        """Makes one try. Returns the reason for the stream's end, or None if another try is due."""
        try:
            place = await self._where.find(self.name)
        except (StoreUnavailable, AtCapacity) as error:
            log.warning("a stream cannot be looked for", stream=self.name, reason=str(error))
            place = None
        if time.monotonic() - self._broken > _RESUME_SECONDS:
            self._leave()
        if place is None:
            if self._over is not None:
                return self._over
            self._not_found()
            await asyncio.sleep(_AGAIN_SECONDS if self._hub.holds(self.name) else _POLL_SECONDS)
            return None
        try:
            # These players came before the stream: they get its first frame, if the holder still has it.
            query = "?early=1" if self._early else ""
            self._link = await self._peers.link(place, "GET", f"/_node/{self.name}{query}", self._make)
        except GatewayError as error:
            self._failed(place, error)
            self._not_found()
            await asyncio.sleep(_AGAIN_SECONDS)
            return None
        self._early = False
        self._opened()
        log.info("pulling", stream=self.name, node=place.node, address=place.address)
        try:
            reason = await self._link.over
        finally:
            link, self._link = self._link, None
            link.close()
        # An edge gives this reason also when it cannot reach the holder any more.
        doubted = place.edge and reason is EndReason.PUBLISHER_GONE
        if reason is None or reason is EndReason.SHUTDOWN or doubted:  # the publisher will reconnect to another node
            if self._wanted():
                log.info("pull broke off", stream=self.name, node=place.node, reason=reason and str(reason))
            self._where.lost(self.name, place)
            self._broken = time.monotonic()
            self._over = reason if doubted else None
            return None
        return reason

    def _not_found(self) -> None:
        """Notes whether the waiting players came before the stream. They did, unless some of it was played here."""
        self._early = not self._hub.holds(self.name)

    def _failed(self, place: NodeAddress, error: GatewayError) -> None:
        self._where.lost(self.name, place)
        if isinstance(error, PeerRefused) and error.status == 404:
            return  # the stream has just ended there
        assert isinstance(error, PeerUnavailable | PeerRefused), "a link raises nothing else"
        log.warning("a stream cannot be pulled", stream=self.name, reason=str(error))

    def _make(self) -> PullLink:
        return PullLink(self, lambda reason: log.warning("a pull made no sense", stream=self.name, reason=reason))

    # ---- players ----

    def _wanted(self) -> bool:
        stream = self._hub.find(self.name)
        if self.waiting or self.lent or (stream is not None and any(stream.viewers.values())):
            self.touched = time.monotonic()
        return time.monotonic() - self.touched < IDLE_SECONDS

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            if not self._wanted():
                break
        if self._link is not None:
            self._link.close()

    # ---- PullReceiver ----

    def hello(self, hello: Hello) -> None:
        self._over = None
        super().hello(hello)

    def _begin(self, hello: Hello) -> StreamPublisher:
        self._leave()
        kept = not self._hub.holds(self.name)
        # Timestamps shifted here match those of no other node: a puller that changes to another node starts anew.
        session = hello.session if kept else f"{hello.session}/{secrets.token_hex(4)}"
        self._next_hello = Hello(session, hello.started, {})
        channel = shared_channel(hello.channel, channel_of(self.name))
        return self._hub.publish(
            channel, self.name, protocol="node", peer="", evict=self._evicted, keep_time=kept, trusted=True
        )

    def channel(self, fields: Mapping[str, Any]) -> None:
        self._hub.channel_changed(shared_channel(fields, channel_of(self.name)))

    def tracks(self, tracks: Tracks) -> None:
        if self._publisher is not None:
            self.epoch, self.current_hello = tracks.epoch, self._next_hello  # before the sinks get the tracks
        super().tracks(tracks)

    def _leave(self) -> None:
        """Gives the lease back: the replica lingers."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()

    def _evicted(self, reason: EndReason) -> None:
        self._publisher = None
        if self._link is not None:
            self._link.close()


class ReplicaSource:
    """A PullSource for a replica, with the session, timestamps and epochs of the holder's stream.

    A node that pulled from the holder can continue here with the next unit, and the reverse.
    """

    def __init__(self, pull: _Pull, stream: Stream) -> None:
        self._pull = pull
        self._stream = stream

    def hello(self) -> Hello:
        return replace(self._pull.current_hello, channel=shared_fields(self._stream.channel))

    def tell(self, tracks: Tracks) -> Tracks:
        return replace(tracks, epoch=self._pull.epoch)

    def attach(self, sink: Sink, *, early: bool) -> None:
        """Attaches a sink. It is not a viewer, but the replica stays for it."""
        self._pull.lent += 1
        self._stream.attach(sink, early=early)

    def detach(self, sink: Sink) -> None:
        self._pull.lent -= 1
        self._pull.touched = time.monotonic()
        self._stream.detach(sink)


def _crashed(name: str, error: BaseException) -> None:
    log.error("a pull failed", task=name, exc_info=error)
