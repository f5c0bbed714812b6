"""Replicas of other nodes' streams. Each is pulled once while it has players."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

import structlog

from gateway.channels.names import channel_of
from gateway.cluster.members.node_address import NodeAddress, PeerRefused, PeerUnavailable, StreamLocator
from gateway.cluster.members.peers import Peers
from gateway.cluster.streams.pull import MAY_CONTINUE, PullLink, PullReceiver, UnitSource, shared_channel, shared_fields
from gateway.lib.backoff import Backoff
from gateway.lib.tasks import Tasks
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.shelf import StreamShelf
from gateway.live.sink import EndReason, Sink, SinkNeeds
from gateway.live.stream import Stream
from gateway.media.track import Tracks
from gateway.ports.errors import AtCapacity, GatewayError, NoSuchStream, StoreUnavailable
from gateway.protocols.nodes import Hello, PullForm

log = structlog.get_logger(__name__)

MAX_REPLICAS: Final = 20_000  # also requested streams that no node holds: viewers can invent names
IDLE_SECONDS: Final = 5.0  # time for which a replica stays after its last player has disconnected
POLL_SECONDS: Final = 0.5  # time between lookups of a stream that no node holds, while players wait
_FIRST_RETRY_SECONDS: Final = 0.05  # time between the first failure and the next lookup; it doubles up to:
_RETRY_SECONDS: Final = 0.25
_RESUME_SECONDS: Final = 2.0  # time within which a new link can continue the stream without a gap


class Replicas(AbstractAsyncContextManager["Replicas"]):
    """The replicas of this process, on a separate shelf. Use as `async with`. Implements `PlayableStreams`.

    One connection pulls a stream for all its players. If it breaks, players stay for the linger time of the shelf.
    During that time, the stream is looked up again. Other nodes may pull a replica like a stream.

    form: the form in which the streams are pulled; None: unchanged.
    Counter: `pulls` (opened connections).

    shelf: only for these replicas. The caller runs it.
    """

    def __init__(self, shelf: StreamShelf, locator: StreamLocator, peers: Peers, form: PullForm | None = None) -> None:
        self.shelf = shelf
        self.locator = locator
        self.peers = peers
        self.form = form
        self._pulls: dict[str, _Pull] = {}
        self._tasks = Tasks("replicas")
        self.pulls = 0

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()

    def __len__(self) -> int:
        return len(self._pulls)

    def find(self, name: str) -> Stream | None:
        """Returns a replica that can be played now."""
        return self.shelf.find(name)

    def find_recent(self, name: str) -> Stream | None:
        """Returns None, because a replica has no files."""
        return None

    async def wait(self, name: str, seconds: float) -> Stream:
        """Pulls the stream. Returns the replica when it can be played.

        Raises AtCapacity, and NoSuchStream after `seconds`.
        """
        pull = self._pulls.get(name)
        if pull is None:
            if len(self._pulls) >= MAX_REPLICAS:
                raise AtCapacity(f"this node pulls {MAX_REPLICAS} streams already")
            pull = self._pulls[name] = _Pull(name, self)
            self._tasks.start(self._run(pull), name)
        pull.waiting += 1
        try:
            return await self.shelf.wait(name, seconds)
        finally:
            pull.waiting -= 1
            pull.last_needed = time.monotonic()

    async def pull_source(self, name: str, seconds: float) -> UnitSource:
        """Returns a replica as the source of another node's pull. Raises the errors of `wait`."""
        return ReplicaSource(*await self._pulled(name, seconds))

    async def use(self, name: str, seconds: float) -> tuple[Stream, Callable[[], None]]:
        """Returns a replica that stays until the returned function is called. Raises the errors of `wait`."""
        pull, stream = await self._pulled(name, seconds)
        pull.readers += 1
        return stream, pull.release

    async def _pulled(self, name: str, seconds: float) -> tuple[_Pull, Stream]:
        stream = await self.wait(name, seconds)
        pull = self._pulls.get(name)
        if pull is None:
            raise NoSuchStream(name)
        return pull, stream

    @property
    def readers(self) -> int:
        """The number of pulls by other nodes, plus the number of uses."""
        return sum(pull.readers for pull in self._pulls.values())

    async def _run(self, pull: _Pull) -> None:
        try:
            await pull.run(self._tasks)
        finally:
            if self._pulls.get(pull.name) is pull:
                del self._pulls[pull.name]


class _Pull(PullReceiver):
    """One replica: finds the node, pulls, reconnects if the link breaks, and ends when it is no longer needed."""

    def __init__(self, name: str, replicas: Replicas) -> None:
        super().__init__(replicas.shelf)
        self.name = name
        self._replicas = replicas
        self.waiting = 0
        self.readers = 0  # number of pulls by other nodes, and of uses
        self.last_needed = time.monotonic()
        self.current_hello = Hello("", 0.0, {})  # for other nodes; belongs to the current tracks
        self.epoch = -1  # of the current tracks, on the node that holds the stream
        self._early = False  # whether no node held the stream at the first lookup
        self._link: PullLink | None = None
        self._next_hello = self.current_hello  # becomes the current hello when its tracks are received
        self._unconfirmed_end: EndReason | None = None  # the reason for the end from an edge
        self._retries = Backoff(_FIRST_RETRY_SECONDS, _RETRY_SECONDS)
        self._broken_at = 0.0  # monotonic seconds, when the last link broke

    async def run(self, tasks: Tasks) -> None:
        """Runs until the stream has ended or is no longer needed."""
        watch = tasks.keep(self._watch, f"{self.name} viewers")
        try:
            while self._check_needed():
                reason = await self._pull_once()
                if reason is not None:
                    self._shelf.end(self.name, reason)
                    return
        finally:
            watch.cancel()
            self._close_publisher()
            self._shelf.end(self.name, EndReason.PUBLISHER_GONE)

    async def _pull_once(self) -> EndReason | None:
        """Makes one attempt. Returns the reason for the stream's end, or None if another attempt must follow."""
        try:
            node = await self._replicas.locator.find(self.name)
        except (StoreUnavailable, AtCapacity) as error:
            log.warning("a stream cannot be looked up", stream=self.name, reason=str(error))
            node = None
        if time.monotonic() - self._broken_at > _RESUME_SECONDS:
            self._close_publisher()
        if node is None:
            if self._unconfirmed_end is not None:
                return self._unconfirmed_end
            self._set_early()
            await asyncio.sleep(self._retries.next() if self._shelf.holds(self.name) else POLL_SECONDS)
            return None
        try:
            # early: the players waited for the stream. They get it from its first frame, if that node still has it.
            form = {"form": self._replicas.form} if self._replicas.form is not None else {}
            query = urlencode(form | ({"early": "1"} if self._early else {}))
            target = f"/_node/{self.name}" + (f"?{query}" if query else "")
            self._link = await self._replicas.peers.link(node, "GET", target, lambda: PullLink(self, self.name))
        except GatewayError as error:
            self._failed(node, error)
            self._set_early()
            await asyncio.sleep(self._retries.next())
            return None
        self._early = False
        self._retries.reset()
        self._replicas.pulls += 1
        log.info("pulling", stream=self.name, node=node.id, address=node.address)
        try:
            reason = await self._link.ended
        finally:
            link, self._link = self._link, None
            link.close()
        # An edge also sends PUBLISHER_GONE if it can no longer reach the node that holds the stream.
        unconfirmed = node.edge and reason is EndReason.PUBLISHER_GONE
        if reason in MAY_CONTINUE or unconfirmed:
            if self._check_needed():
                log.info("the pull was interrupted", stream=self.name, node=node.id, reason=reason and str(reason))
            self._replicas.locator.invalidate(self.name, node)
            self._broken_at = time.monotonic()
            self._unconfirmed_end = reason if unconfirmed else None
            return None
        return reason

    def _set_early(self) -> None:
        """Records whether the players wait for a stream that has not begun. A stream that was played here had begun."""
        self._early = not self._shelf.holds(self.name)

    def _failed(self, node: NodeAddress, error: GatewayError) -> None:
        self._replicas.locator.invalidate(self.name, node)
        if isinstance(error, PeerRefused) and error.status == 404:
            return  # the stream has just ended there
        assert isinstance(error, PeerUnavailable | PeerRefused), "a link raises no other errors"
        log.warning("a stream cannot be pulled", stream=self.name, reason=str(error))

    # ---- players ----

    def release(self) -> None:
        """Ends the use by a reader."""
        self.readers -= 1
        self.last_needed = time.monotonic()

    def _check_needed(self) -> bool:
        """Records the time if the replica is used now. Returns False if it was not used for IDLE_SECONDS."""
        stream = self._shelf.find(self.name)
        # The viewers of pictures in H.264 are counted by the replica with sound.
        has_pictures_only = self._replicas.form is PullForm.WEBRTC_H264
        is_used = stream is not None and (stream.is_awaited if has_pictures_only else stream.playback.uses > 0)
        if self.waiting or self.readers or is_used:
            self.last_needed = time.monotonic()
        return time.monotonic() - self.last_needed < IDLE_SECONDS

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            # Without a link, it goes on: a player may come during a slow lookup, and another link opens.
            if not self._check_needed() and self._link is not None:
                self._link.close()

    # ---- PullReceiver ----

    def hello(self, hello: Hello) -> None:
        self._unconfirmed_end = None
        super().hello(hello)

    def _begin(self, hello: Hello) -> StreamPublisher:
        self._close_publisher()
        keep_time = not self._shelf.holds(self.name)
        # A stream that continues gets shifted timestamps, which differ from those on other nodes. So it gets its own
        # session: a node that changes to another source then starts again.
        session = hello.session if keep_time else f"{hello.session}/{secrets.token_hex(4)}"
        self._next_hello = Hello(session, hello.started, {})
        channel = shared_channel(hello.channel, channel_of(self.name))
        origin = PushOrigin("node", "", keep_time=keep_time, trusted=True)
        return self._shelf.publish_from(origin, channel, self.name, self._evicted)

    def channel(self, fields: Mapping[str, Any]) -> None:
        self._shelf.channel_changed(shared_channel(fields, channel_of(self.name)))

    def tracks(self, tracks: Tracks) -> None:
        if self._publisher is not None:
            self.epoch, self.current_hello = tracks.epoch, self._next_hello  # before the sinks get the tracks
        super().tracks(tracks)

    def _close_publisher(self) -> None:
        """Closes the publisher. The replica lingers."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()

    def _evicted(self, reason: EndReason) -> None:
        self._publisher = None
        if self._link is not None:
            self._link.close()


class ReplicaSource:
    """A UnitSource for a replica, with the session, timestamps and epochs of the original stream.

    A node can change between this source and the original one, and continue with the next unit.
    """

    def __init__(self, pull: _Pull, stream: Stream) -> None:
        self._pull = pull
        self._stream = stream

    def hello(self) -> Hello:
        return replace(self._pull.current_hello, channel=shared_fields(self._stream.channel))

    def map_tracks(self, tracks: Tracks) -> Tracks:
        current = self._stream.tracks
        assert current is not None, "these tracks are of the stream"
        return replace(tracks, epoch=self._pull.epoch - current.epoch + tracks.epoch)

    def attach(self, sink: Sink, needs: SinkNeeds) -> None:
        """Attaches a sink. It is not counted as a viewer, but the replica stays for it."""
        self._pull.readers += 1
        self._stream.attach(sink, needs)

    def detach(self, sink: Sink) -> None:
        self._pull.release()
        self._stream.detach(sink)
