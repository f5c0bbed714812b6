"""Replicas: streams that live elsewhere, pulled here once each for as long as somebody plays them by FLV or RTMP."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import structlog

from gateway.hub.errors import AtCapacity, HubError, NoSuchStream, StoreAway
from gateway.hub.fanout import EndReason, Sink
from gateway.hub.hub import Hub
from gateway.hub.names import channel_of
from gateway.hub.publisher import Publisher
from gateway.hub.stream import Stream
from gateway.lib.aio import Tasks
from gateway.media.track import Tracks
from gateway.nodes.following import Following
from gateway.nodes.peers import Peers
from gateway.nodes.places import PeerAway, PeerRefused, Place, Whereabouts
from gateway.nodes.pulling import PullLink, Source, told_channel, told_of
from gateway.protocols.nodes import Hello

log = structlog.get_logger(__name__)

MOST: Final = 20_000  # names are the viewers' to choose
IDLE_SECONDS: Final = 5.0  # that a replica lives on when the last player has gone
_POLL_SECONDS: Final = 0.5  # how often a stream that nobody holds is looked for while players wait
_AGAIN_SECONDS: Final = 0.25  # before a holder that just failed is looked up once more
_RESUME_SECONDS: Final = 2.0  # in which the same holder may go on as if nothing had been


class Replicas:
    """The pulled streams of this process, in a hub of their own. Use as `async with`.

    A stream is pulled by one connection, however many play it. When that breaks, players stay for the hub's linger time
    while the holder, or the one that came after it, is looked for. most: streams at once, also such that nobody holds
    and players wait for; beyond that AtCapacity. Other nodes may pull a replica as they would its stream. Counter:
    `pulls` (connections opened).
    """

    def __init__(self, hub: Hub, where: Whereabouts, peers: Peers, most: int = MOST) -> None:
        """hub: with the outputs `flv` and `rtmp`, in which nothing else is published; somebody runs it."""
        self._hub = hub
        self._where = where
        self._peers = peers
        self._most = most
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
        """A replica that can be played now."""
        return self._hub.find(name)

    async def wait(self, name: str, seconds: float) -> Stream:
        """The replica as soon as it can be played; pulls it. Raises NoSuchStream after `seconds`, AtCapacity."""
        pull = self._pulls.get(name)
        if pull is None:
            if len(self._pulls) >= self._most:
                raise AtCapacity(f"{self._most} streams are pulled by this node")
            pull = self._pulls[name] = _Pull(name, self._hub, self._where, self._peers, self._opened)
            self._tasks.start(self._run(pull), name)
        pull.waiting += 1
        try:
            return await self._hub.wait(name, seconds)
        finally:
            pull.waiting -= 1
            pull.touched = time.monotonic()

    async def lend(self, name: str, seconds: float) -> Source:
        """The same for another node. Raises as `wait`."""
        stream = await self.wait(name, seconds)
        pull = self._pulls.get(name)
        if pull is None:
            raise NoSuchStream(name)
        return Lent(pull, stream)

    @property
    def lent(self) -> int:
        """Pulls of other nodes."""
        return sum(pull.lent for pull in self._pulls.values())

    async def _run(self, pull: _Pull) -> None:
        try:
            await pull.run(self._tasks)
        finally:
            if self._pulls.get(pull.name) is pull:
                del self._pulls[pull.name]

    def _opened(self) -> None:
        self.pulls += 1


class _Pull(Following):
    """One replica: finds its holder, pulls, begins again where that breaks, ends when nobody plays it."""

    def __init__(self, name: str, hub: Hub, where: Whereabouts, peers: Peers, opened: Callable[[], None]) -> None:
        super().__init__(hub)
        self.name = name
        self.waiting = 0
        self.lent = 0  # pulls of other nodes
        self.touched = time.monotonic()
        self.hail = Hello("", 0.0, {})  # what other nodes are told of what is played now
        self.epoch = -1  # the same, of the holder
        self._where = where
        self._peers = peers
        self._opened = opened
        self._link: PullLink | None = None
        self._hail = self.hail  # once its tracks have come
        self._over: EndReason | None = None  # what an edge of the stream has said
        self._broken = 0.0  # when the last link broke

    async def run(self, tasks: Tasks) -> None:
        """Until the stream has ended, or nobody wants it."""
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
        """One try; the stream's end, or None where another is due."""
        try:
            place = await self._where.find(self.name)
        except (StoreAway, AtCapacity) as error:
            log.warning("a stream cannot be looked for", stream=self.name, reason=str(error))
            place = None
        if time.monotonic() - self._broken > _RESUME_SECONDS:
            self._leave()
        if place is None:
            if self._over is not None:
                return self._over
            await asyncio.sleep(_AGAIN_SECONDS if self._hub.holds(self.name) else _POLL_SECONDS)
            return None
        try:
            self._link = await self._peers.link(place, "GET", f"/_node/{self.name}", self._make)
        except HubError as error:
            self._failed(place, error)
            await asyncio.sleep(_AGAIN_SECONDS)
            return None
        self._opened()
        log.info("pulling", stream=self.name, node=place.node, address=place.address)
        try:
            reason = await self._link.over
        finally:
            link, self._link = self._link, None
            link.close()
        # An edge that cannot reach the holder any more says the same as one whose holder has ended the stream.
        doubted = place.edge and reason is EndReason.PUBLISHER_GONE
        if reason is None or reason is EndReason.SHUTDOWN or doubted:  # a publisher will come back to another node
            if self._wanted():
                log.info("pull broke off", stream=self.name, node=place.node, reason=reason and str(reason))
            self._where.lost(self.name, place)
            self._broken = time.monotonic()
            self._over = reason if doubted else None
            return None
        return reason

    def _failed(self, place: Place, error: HubError) -> None:
        self._where.lost(self.name, place)
        if isinstance(error, PeerRefused) and error.status == 404:
            return  # it has just ended there
        assert isinstance(error, PeerAway | PeerRefused), "a link raises nothing else"
        log.warning("a stream cannot be pulled", stream=self.name, reason=str(error))

    def _make(self) -> PullLink:
        return PullLink(self, lambda reason: log.warning("a pull made no sense", stream=self.name, reason=reason))

    # ---- who plays ----

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

    # ---- Following ----

    def hello(self, hello: Hello) -> None:
        self._over = None
        super().hello(hello)

    def _begin(self, hello: Hello) -> Publisher:
        self._leave()
        kept = not self._hub.holds(self.name)
        # Times that are moved here are no other node's: whoever leaves us begins anew.
        session = hello.session if kept else f"{hello.session}/{secrets.token_hex(4)}"
        self._hail = Hello(session, hello.started, {})
        channel = told_channel(hello.channel, channel_of(self.name))
        return self._hub.publish(channel, self.name, protocol="node", peer="", evict=self._evicted, keep_time=kept)

    def channel(self, told: Mapping[str, Any]) -> None:
        self._hub.channel_changed(told_channel(told, channel_of(self.name)))

    def tracks(self, tracks: Tracks) -> None:
        if self._publisher is not None:
            self.epoch, self.hail = tracks.epoch, self._hail  # before anybody is told of them
        super().tracks(tracks)

    def _leave(self) -> None:
        """The lease is given back: the replica lingers."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()

    def _evicted(self, reason: EndReason) -> None:
        self._publisher = None
        if self._link is not None:
            self._link.close()


class Lent:
    """A Source: a replica in the session, the times and the epochs of its holder's stream. Who pulled from the holder
    goes on here, and the other way round, with the unit that comes next."""

    def __init__(self, pull: _Pull, stream: Stream) -> None:
        self._pull = pull
        self._stream = stream

    def hello(self) -> Hello:
        return replace(self._pull.hail, channel=told_of(self._stream.channel))

    def tell(self, tracks: Tracks) -> Tracks:
        return replace(tracks, epoch=self._pull.epoch)

    def attach(self, sink: Sink) -> None:
        """Not a viewer, but somebody for whom the replica stays."""
        self._pull.lent += 1
        self._stream.attach(sink)

    def detach(self, sink: Sink) -> None:
        self._pull.lent -= 1
        self._pull.touched = time.monotonic()
        self._stream.detach(sink)


def _crashed(name: str, error: BaseException) -> None:
    log.error("a pull failed", task=name, exc_info=error)
