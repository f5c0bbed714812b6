"""Claims of streams by this node. The registry has a claim before a push is accepted."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import structlog

from gateway.channels.channel import Channel
from gateway.channels.stores import ChannelReader
from gateway.cluster.members.node_address import NodeAddress, PeerRefused, PeerUnavailable
from gateway.cluster.members.node_liveness import NodeLiveness
from gateway.cluster.members.node_requests import NOT_THIS_NODE
from gateway.cluster.members.registry_locator import RegistryLocator
from gateway.cluster.streams.forward import ForwardedPush, PushForwarder
from gateway.lib.backoff import Backoff
from gateway.lib.clocks import SYSTEM_CLOCKS, Clocks
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub
from gateway.live.next_numbers import OutputNumbers
from gateway.live.publisher import Evict, PushOrigin, StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.ports.errors import (
    AtCapacity,
    GatewayError,
    HeldByOtherNode,
    NameInUse,
    NoSuchChannel,
    StoreUnavailable,
)
from gateway.ports.nodes import ALIVE_SECONDS, StreamClaim
from gateway.ports.stores import Registry

log = structlog.get_logger(__name__)

T = TypeVar("T")

FINISH_SECONDS: Final = 3.0  # maximum wait for the releases when the process ends
PLACE_SECONDS: Final = 6.0  # maximum time for which a forwarded push is without a node
VERIFY_SECONDS: Final = 30.0  # between two checks of this node's claims
_CHECK_SECONDS: Final = 1.0
_STILL_SECONDS: Final = ALIVE_SECONDS / 2  # less than a node must be silent before its streams are taken over
_MAX_ATTEMPTS: Final = 4  # attempts to claim a stream while other nodes also try
_RETRY_SECONDS: Final = 0.3  # pause before a node that answered 404 is asked again
_RELEASE_SECONDS: Final = 600.0  # time for which a release is retried; later the next claim replaces the row
_BATCH: Final = 100
_SEQUENCE_MARGIN: Final = 60  # numbers that are left out: segments may be shorter than a second, and clocks may differ


@dataclass(frozen=True, slots=True)
class SessionRows:
    """The rows of this node's streams in the registry.

    node: id of this node.
    address: returns the address at which other nodes reach this node.
    attributes: returns the other fields of a row, for a channel, the address and the start in seconds since 1970.
    may_have_edges: whether edges can be started only for this channel.
    """

    registry: Registry
    node: str
    address: Callable[[], str]
    attributes: Callable[[Channel, str, float], Mapping[str, Any]]
    may_have_edges: Callable[[Channel], bool]

    def new_claim(self, channel: Channel, started: float) -> StreamClaim:
        """Returns a new claim of a channel's stream. started: seconds since 1970."""
        cluster = self.may_have_edges(channel)
        return StreamClaim(channel.id, self.node, self.address(), secrets.token_hex(8), started, cluster=cluster)

    async def write(self, claim: StreamClaim, channel: Channel, claimed_at: float, *, replaces: str) -> None:
        """Writes the row. replaces: id of the stored claim; "": none. Raises HeldByOtherNode, StoreUnavailable."""
        await self.registry.claim(claim, self.attributes(channel, claim.address, claimed_at), replaces=replaces)


@dataclass(slots=True)
class _ClaimedStream:
    """A stream that this node has claimed, and its row in the registry.

    claimed_at: seconds since 1970.
    replaces: id of the claim of another node that this claim has replaced; "": there was none.
    write_lock: held during a write or the release of the row. After the release, writes do nothing.
    """

    claim: StreamClaim
    channel: Channel
    claimed_at: float
    replaces: str = ""
    stale: bool = False  # the row in the registry is out of date
    write_lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True, eq=False)
class Claims:
    """Accepts pushes for the cluster.

    A push becomes a stream of this node when the registry has accepted the claim. If another node has claimed the
    stream, the push is forwarded to that node, which accepts or rejects it. This node claims the streams of a dead
    node.

    A stream whose inputs need no push goes on at another node if the node with its claim is dead or does not hold it.

    A node is dead if it refuses connections or has left. It is also dead if it is unreachable and has sent no new
    heartbeat for ALIVE_SECONDS, by the clock of this node.

    If the link of a forwarded push breaks, or its node leaves, the push is placed again like a new one. Its client
    stays connected. If it cannot be placed within PLACE_SECONDS, it ends.

    channels: reads the channel of a push that is placed again; None: the channel that the push began with.

    `run` must be running. It renews lost claims, and ends streams that another node has claimed.
    """

    hub: Hub
    rows: SessionRows
    locator: RegistryLocator
    forwards: PushForwarder
    tasks: Tasks
    clocks: Clocks = SYSTEM_CLOCKS
    channels: ChannelReader | None = None
    _releases: Tasks = field(default_factory=lambda: Tasks("releases"), init=False)
    # These serialize the pushes of one channel. A lock exists while a push has it or waits for it.
    _push_locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary, init=False)
    _claimed: dict[str, _ClaimedStream] = field(default_factory=dict, init=False)
    _liveness: NodeLiveness = field(init=False)

    def __post_init__(self) -> None:
        self._liveness = NodeLiveness(self.clocks.monotonic)
        self.forwards.on_interrupted = self._place_later

    def __len__(self) -> int:
        return len(self._claimed)

    async def acquire(self, channel: Channel, origin: PushOrigin, evict: Evict, input: str = "") -> StreamPublisher:
        """Implements live.publisher.AcquirePublisher."""
        forward = partial(self.forwards.publish, channel=channel, origin=origin, evict=evict, input=input)
        async with self._push_locks.setdefault(channel.id, asyncio.Lock()):
            if not self.hub.holds(channel.id):
                publisher = await self._forward_or_claim(channel, forward)
                if publisher is not None:
                    return publisher

            def publish(first_number: int) -> StreamPublisher:
                return self.hub.publish_source(channel, origin, evict, input, first_number)

            return self._begin(channel, publish)

    async def hold(self, channel: Channel, begin: Callable[[int], Stream]) -> bool:
        """Claims the stream of a channel whose inputs need no push. Returns False if another node holds the stream.

        begin: makes the stream in the hub; its argument is the first number of its playlists.
        Raises StoreUnavailable, AtCapacity, NameInUse.
        """

        async def forward(node: NodeAddress) -> bool:
            try:
                await self.forwards.check(node, channel.id)
            except PeerRefused as refused:
                if refused.status == NOT_THIS_NODE:
                    raise PeerRefused(node, 404, refused.message) from None
                # An older version does not know the request, and a node without a secret answers none.
                if await self._is_dead(node.id):
                    raise PeerUnavailable(node, "has no new heartbeat", refused=True) from None
            return True

        async with self._push_locks.setdefault(channel.id, asyncio.Lock()):
            if not self.hub.holds(channel.id) and await self._forward_or_claim(channel, forward):
                return False
            self._begin(channel, begin)
            return True

    def session(self, stream: Stream) -> str:
        """Returns an id for the time in which the timestamps of a stream are continuous. It contains the claim's id."""
        claimed = self._claimed.get(stream.channel.id)
        return f"{claimed.claim.id if claimed is not None else ''}/{stream.spec.started}"

    def rewrite_row(self, channel: str) -> None:
        """Writes the row of a channel again, because its attributes have changed. Does not wait for the write."""
        claimed = self._claimed.get(channel)
        if claimed is not None and not claimed.stale:
            claimed.stale = True
            self.tasks.start(self._try_to_rewrite(claimed), f"row {channel}")

    async def run(self) -> None:
        """Verifies the claims every VERIFY_SECONDS, until it is cancelled.

        It does so at once after a time in which this process stood still, because other nodes may have taken over its
        streams, and every _CHECK_SECONDS while the registry does not answer.
        """
        failed = False
        while True:
            await self._wait(_CHECK_SECONDS if failed else VERIFY_SECONDS)
            try:
                await self._verify()
                failed = False
            except StoreUnavailable as error:
                if not failed:
                    log.warning("claims cannot be verified", reason=str(error))
                failed = True

    async def _wait(self, seconds: float) -> None:
        """Waits for at most `seconds`: not longer than until this process has stood still."""
        now = self.clocks.monotonic()
        until = now + seconds
        while now < until:
            await asyncio.sleep(_CHECK_SECONDS)
            earlier, now = now, self.clocks.monotonic()
            if now - earlier > _CHECK_SECONDS + _STILL_SECONDS:
                log.warning("this process stood still", seconds=round(now - earlier, 1))
                return

    async def finish(self) -> None:
        """Waits until all releases are written, at most FINISH_SECONDS."""
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await self._releases.idle()
        except TimeoutError:
            log.warning("some ended streams were not released in the registry")
        await self._releases.close()

    # ---- a push ----

    async def _forward_or_claim(self, channel: Channel, forward: Callable[[NodeAddress], Awaitable[T]]) -> T | None:
        """Returns the result of `forward` to the node that holds the stream, or None when this node has the claim."""
        name = channel.id
        claim = await self.rows.registry.claim_of(name)
        retried_claim = ""  # the claim for which the node answered 404
        for _ in range(_MAX_ATTEMPTS):
            if claim is not None and not claim.left and claim.node != self.rows.node:
                node = self.locator.address_of(claim)
                try:
                    return await forward(node)
                except PeerRefused as refused:
                    if refused.status != 404:
                        raise AtCapacity("the node with the stream rejected the push") from None
                    if retried_claim != claim.id:  # a node writes its row before it creates the stream
                        retried_claim = claim.id
                        await asyncio.sleep(_RETRY_SECONDS)
                        claim = await self.rows.registry.claim_of(name)
                        continue
                    log.info("the node no longer has the stream: taking it over", stream=name, node=claim.node)
                except PeerUnavailable as error:
                    if not error.refused and not await self._is_dead(claim.node):
                        log.warning("the node with the stream cannot be reached", stream=name, reason=str(error))
                        raise AtCapacity("the node with the stream does not answer") from None
                    log.warning("taking over the stream of a dead node", stream=name, node=claim.node)
            try:
                await self._claim(channel, claim)
                return None
            except HeldByOtherNode as error:
                claim = error.claim
        raise NameInUse(name)

    async def _claim(self, channel: Channel, previous: StreamClaim | None) -> None:
        """Writes the claim. Raises HeldByOtherNode, StoreUnavailable."""
        now = self.clocks.wall()
        claim = self.rows.new_claim(channel, previous.started if previous is not None else now)
        await self.rows.write(claim, channel, now, replaces=previous.id if previous is not None else "")
        self._claimed[channel.id] = _ClaimedStream(claim, channel, now, previous.id if previous is not None else "")
        self.locator.put(claim)

    def _begin(self, channel: Channel, begin: Callable[[int], T], continues: OutputNumbers | None = None) -> T:
        """Calls `begin` with the first number of the playlists. The claim is released when the stream ends.

        continues: the numbers that a new stream continues, by output, instead of the first number; None: unknown.
        """
        hub, name = self.hub, channel.id
        claimed, is_new = self._claimed.get(name), not hub.holds(name)
        first_number = 0
        # Numbers in playlists never go back. An earlier node made about one segment a second, or fewer.
        if claimed is not None and is_new and (age := self.clocks.wall() - claimed.claim.started) >= 1:
            first_number = int(age) + _SEQUENCE_MARGIN
        try:
            if continues:
                hub.continued[name] = continues
            begun = begin(first_number)
        except GatewayError:
            if is_new and claimed is not None:
                self._release(claimed, EndReason.NO_MEDIA)
            raise
        finally:
            hub.continued.pop(name, None)
        if is_new and claimed is not None:
            stream = hub.held(name)
            assert stream is not None, "a publisher has a stream"
            stream.when_ended(lambda reason: self._release(claimed, reason))
        return begun

    # ---- a forwarded push whose link has ended ----

    def _place_later(self, push: ForwardedPush) -> None:
        self.tasks.start(self._place_again(push), f"push {push.channel.id}")

    async def _place_again(self, push: ForwardedPush) -> None:
        """Places a push like a new one: at the node that holds the stream now, or at this node. Ends it otherwise."""
        reason, problem = EndReason.PUBLISHER_GONE, "no node accepted it in time"
        try:
            async with asyncio.timeout(PLACE_SECONDS):
                while push.is_running:
                    try:
                        await self._try_to_place(push)
                        return
                    except (AtCapacity, StoreUnavailable, NameInUse) as error:
                        problem = str(error)
                    await asyncio.sleep(_RETRY_SECONDS)
        except TimeoutError:
            pass
        except NoSuchChannel as error:
            reason, problem = EndReason.DELETED, str(error)
        except GatewayError as error:
            problem = str(error)
        self._give_up(push, problem, reason)

    def _give_up(self, push: ForwardedPush, problem: str, reason: EndReason = EndReason.PUBLISHER_GONE) -> None:
        if push.is_running:
            log.warning("a forwarded push cannot go on", stream=push.channel.id, peer=push.origin.peer, reason=problem)
            self.forwards.end(push, reason)

    async def _try_to_place(self, push: ForwardedPush) -> None:
        """Makes one attempt. Raises like `acquire`, and NoSuchChannel."""
        id = push.channel.id
        channel = push.channel if self.channels is None else await self.channels.get(id)

        async def forward(node: NodeAddress) -> bool:
            await self.forwards.forward(push, node)
            return True

        def publish(first_number: int) -> StreamPublisher:
            return self.hub.publish_source(channel, push.origin, lambda reason: None, push.input, first_number)

        async with self._push_locks.setdefault(id, asyncio.Lock()):
            if not self.hub.holds(id) and await self._forward_or_claim(channel, forward):
                return
            claimed = self._claimed.get(id)
            follows = claimed is not None and claimed.replaces in ("", push.node.claim)
            try:
                publisher = self._begin(channel, publish, push.link.numbers if follows else None)
            except AtCapacity as error:  # another attempt would claim the stream again for nothing
                self._give_up(push, str(error))
                return
            if push.is_running:
                self.forwards.shelf.hand_over(push.publisher, publisher)
                log.info("a forwarded push goes on at this node", stream=id, peer=push.origin.peer)
            else:
                publisher.close()

    # ---- a stream's end ----

    def _release(self, claimed: _ClaimedStream, reason: EndReason) -> None:
        name = claimed.claim.stream
        if self._claimed.get(name) is claimed:
            del self._claimed[name]
        self.locator.forget(name)
        # If the stream has moved, another node owns the row. Only a running write can restore the row of this node.
        if reason is not EndReason.MOVED or claimed.write_lock.locked():
            self._releases.start(self._release_row(claimed, reason is EndReason.SHUTDOWN), name)

    async def _release_row(self, claimed: _ClaimedStream, shut_down: bool) -> None:
        backoff, until, claim = Backoff(), self.clocks.monotonic() + _RELEASE_SECONDS, claimed.claim
        while True:
            try:
                async with claimed.write_lock:
                    await self.rows.registry.release(claim.stream, claim.id, left=shut_down)
                return
            except StoreUnavailable as error:
                if self.clocks.monotonic() >= until:
                    log.warning(
                        "a stream could not be released: its row stays in the registry",
                        stream=claim.stream,
                        reason=str(error),
                    )
                    return
            await asyncio.sleep(backoff.next())

    # ---- verification ----

    async def _verify(self) -> None:
        """Checks all claims against the registry.

        Restores deleted claims and writes rows that could not be written before. Ends streams that another node has
        claimed.
        """
        all_claimed = list(self._claimed.values())
        for index in range(0, len(all_claimed), _BATCH):
            batch = all_claimed[index : index + _BATCH]
            stored_claims = await self.rows.registry.find([claimed.claim.stream for claimed in batch])
            for claimed in batch:
                claim = claimed.claim
                stored = stored_claims.get(claim.stream)
                if self._claimed.get(claim.stream) is not claimed:
                    continue  # the stream has ended since then
                if stored is not None and stored.id != claim.id:
                    # The batch read may be stale, so read the row again before ending the stream.
                    stored = await self.rows.registry.claim_of(claim.stream)
                    if stored is not None and stored.id != claim.id:
                        self._end_lost(claim.stream, stored)
                elif stored is None or claimed.stale:
                    claimed.stale = True
                    await self._rewrite(claimed)

    async def _try_to_rewrite(self, claimed: _ClaimedStream) -> None:
        """Writes the row once. If the registry does not answer, the next verification writes it."""
        try:
            await self._rewrite(claimed)
        except StoreUnavailable as error:
            log.warning("a stream's row cannot be written now", stream=claimed.claim.stream, reason=str(error))

    async def _rewrite(self, claimed: _ClaimedStream) -> None:
        """Writes the current row, unless the stream has ended.

        Raises StoreUnavailable. Then the row stays marked as stale.
        """
        async with claimed.write_lock:
            name = claimed.claim.stream
            if not claimed.stale or self._claimed.get(name) is not claimed:
                return
            claimed.stale = False
            stream = self.hub.find(name)
            channel = claimed.channel = stream.channel if stream is not None else claimed.channel
            claim = claimed.claim = replace(claimed.claim, cluster=self.rows.may_have_edges(channel))
            try:
                await self.rows.write(claim, channel, claimed.claimed_at, replaces=claim.id)
            except StoreUnavailable:
                claimed.stale = True
                raise
            except HeldByOtherNode as error:
                self._end_lost(name, error.claim)
            else:
                if self._claimed.get(name) is claimed:
                    self.locator.put(claim)

    def _end_lost(self, name: str, other: StreamClaim) -> None:
        log.warning("another node has taken over a stream", stream=name, node=other.node)
        self.hub.end(name, EndReason.MOVED)

    async def _is_dead(self, id: str) -> bool:
        """Whether an unreachable node is dead: no new heartbeat, or not in the registry."""
        node = await self.rows.registry.node(id)
        if node is None:
            return True
        self._liveness.observe(node)
        return self._liveness.is_dead(id)
