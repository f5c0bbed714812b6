"""Queries other nodes for the API, and notifies them of changes."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import aiohttp
import structlog

from gateway.cluster.calls.forwarded_requests import FORWARDED
from gateway.cluster.members.liveness_monitor import LivenessMonitor, PendingCall
from gateway.cluster.members.membership import BEAT_SECONDS
from gateway.cluster.members.node_address import FindSockets, NodeAddress, PeerRefused, PeerUnavailable, StreamLocator
from gateway.cluster.members.node_liveness import NodeLiveness
from gateway.cluster.members.node_requests import NOT_THIS_NODE, operation_target
from gateway.cluster.members.peers import Peers
from gateway.lib import bounded_json
from gateway.lib.clocks import Clock
from gateway.lib.tasks import Tasks
from gateway.ports.cluster_queries import HOLDER, ForwardedRequest, HolderAnswer, NodeAnswers
from gateway.ports.errors import AtCapacity, HolderUnavailable, StoreUnavailable
from gateway.ports.nodes import Node, NodeRole
from gateway.ports.stores import Registry

log = structlog.get_logger(__name__)

_CHANGE_SECONDS: Final = 4.0  # limit for telling the node that holds the stream that its channel has changed
_NODE_SECONDS: Final = 2.0  # maximum wait for each node in a query to all nodes
_MAX_CONCURRENT: Final = 32  # concurrent requests to nodes
_CACHE_SECONDS: Final = 1.0  # for which the answers of all nodes are cached
_READ_SECONDS: Final = 2.0  # time between two reads of the registry, and limit of one read
_SEEN_SECONDS: Final = BEAT_SECONDS + 1.0  # for which the nodes of a heartbeat are used; then they are read
_MAX_CHANGE_AGE: Final = 5.0  # seconds; an older change is not sent, because cache entries expire earlier
_MAX_CHANGES: Final = 1000  # changes that wait to be sent
_MAX_ANSWER_BYTES: Final = 100_000  # bytes of the answer to a change
_MAX_LINES_BYTES: Final = 16_000_000  # bytes of an answer with everything that a node holds
_LINES_PER_YIELD: Final = 50
_MAX_EXCERPT: Final = 200  # bytes of an invalid answer, for the log


@dataclass(slots=True, eq=False)
class _Query:
    """A query to all nodes. Its answer is cached until `expires`, monotonic seconds; the query may still run."""

    task: asyncio.Task[NodeAnswers]
    expires: float = float("inf")


class ClusterClient(AbstractAsyncContextManager["ClusterClient"]):
    """Implements ClusterQueries over a registry. Use as `async with`.

    registry: None if the cluster is only the processes of this host.
    siblings: returns the Unix sockets of this host's other processes, by node id. A process with a socket counts as
    alive.

    Of each operation, only one query to all nodes runs at a time. Its answer is cached for one second. So nodes get
    each query at most once per second, for any number of clients.

    At most _MAX_CHANGES changes of channels wait to be sent. A change beyond this bound, or older than
    _MAX_CHANGE_AGE, is not sent. Then the caches of other nodes expire.
    """

    def __init__(
        self,
        node: str,
        registry: Registry | None,
        locator: StreamLocator,
        peers: Peers,
        siblings: FindSockets = dict,
        clock: Clock = time.monotonic,
    ) -> None:
        self.node = node
        self._registry = registry
        self._locator = locator
        self._peers = peers
        self._siblings = siblings
        self._clock = clock
        self._tasks = Tasks("cluster")
        self._monitor = LivenessMonitor(peers)
        self._liveness = NodeLiveness(clock)
        self._nodes: Sequence[Node] = []
        self._are_seen = False  # whether `_nodes` come from a heartbeat
        self._read_at = float("-inf")
        self._read_lock = asyncio.Lock()
        self._registry_failed = False  # whether the last read of the registry failed
        self._queries: dict[str, _Query] = {}  # by operation
        self._unresponsive: set[str] = set()
        # By channel: the time of the change, and the node that was notified already.
        self._changes: dict[str, tuple[float, str]] = {}
        self._notifying: asyncio.Task[None] | None = None

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()
        await self._monitor.__aexit__()

    # ---- one node ----

    @asynccontextmanager
    async def forward(self, id: str, request: ForwardedRequest) -> AsyncIterator[HolderAnswer | None]:
        """Implements ClusterQueries."""
        if request.method not in ("GET", "HEAD"):
            self._queries.clear()  # the next query must see the change; a running one still answers its callers
        async with AsyncExitStack() as stack:
            yield await self._holder_answer(stack, id, request)

    async def _holder_answer(self, stack: AsyncExitStack, id: str, request: ForwardedRequest) -> HolderAnswer | None:
        for _ in range(2):  # a second attempt follows the answer that the stream has moved
            node = await self._node_of(id)
            if node is None:
                return None
            try:
                async with AsyncExitStack() as attempt:
                    answer = await self._send(attempt, node, request)
                    if answer.status != NOT_THIS_NODE:
                        stack.push_async_exit(attempt.pop_all())
                        return answer
            except PeerUnavailable as error:
                if await self._check_dead(id, node, error):
                    return None
                log.warning("the node with the stream does not answer", channel=id, node=node.id, reason=str(error))
                raise HolderUnavailable(f"the node that holds {id} does not answer") from None
            self._locator.invalidate(id, node)
        return None

    async def _send(self, stack: AsyncExitStack, node: NodeAddress, request: ForwardedRequest) -> HolderAnswer:
        """Sends a client's request to a node. Raises PeerUnavailable, HolderUnavailable."""
        # Other methods are not allowed at the playback listener.
        method = request.method if request.method in ("GET", "HEAD") else "POST"
        query = {"method": request.method, "target": request.target, "sender": request.sender}
        call = stack.enter_context(self._monitor.watch(node))
        target = operation_target(node, FORWARDED, query)
        sent = self._peers.request(node, method, target, seconds=request.seconds, body=request.body)
        try:
            async with asyncio.timeout(request.seconds):
                response = await call.head(node, stack.enter_async_context(sent))
        except TimeoutError:
            raise PeerUnavailable(node, "does not answer in time") from None
        if response.status != NOT_THIS_NODE and HOLDER not in response.headers:
            body = await response.content.read(_MAX_EXCERPT)
            log.warning("a node sent an invalid answer", node=node.id, status=response.status, body=_excerpt(body))
            raise HolderUnavailable(f"node {node.id} sent an invalid answer")
        return HolderAnswer(response.status, response.headers, _body(node, response, call))

    async def _node_of(self, id: str) -> NodeAddress | None:
        """Returns the address of the other node that holds the stream; None if no other node does.

        A negative lookup may be stale for one second, so the registry is read again.
        """
        node = await self._locator.find(id)
        if node is None and self._registry is not None:
            claim = await self._registry.claim_of(id)
            if claim is not None and not claim.left:
                node = self._address_of(claim.node, claim.address, claim.id)
        return node if node is not None and node.id != self.node else None

    async def _check_dead(self, id: str, node: NodeAddress, error: PeerUnavailable) -> bool:
        """Records the failure. Returns whether the node and its stream are dead; a short outage does not count."""
        self._locator.invalidate(id, node)
        self._note_failure(node, error)
        await self.nodes()
        return self._registry is not None and not self._registry_failed and self._liveness.is_dead(node.id)

    # ---- all nodes ----

    async def ask_all(self, operation: str) -> NodeAnswers:
        """Implements ClusterQueries. The operation `node` is also sent to edges."""
        query, now = self._queries.get(operation), self._clock()
        if query is None or query.expires <= now:
            # There may be one operation for each channel, so the table keeps only valid answers.
            self._queries = {name: other for name, other in self._queries.items() if other.expires > now}
            query = self._queries[operation] = _Query(self._tasks.start(self._query_all(operation), operation))
            query.task.add_done_callback(partial(self._query_ended, query))
        return await asyncio.shield(query.task)

    def _query_ended(self, query: _Query, task: asyncio.Task[NodeAnswers]) -> None:
        """Begins the time for which the answer is cached. A failure is not cached."""
        failed = task.cancelled() or task.exception() is not None
        query.expires = float("-inf") if failed else self._clock() + _CACHE_SECONDS

    async def _query_all(self, operation: str) -> NodeAnswers:
        roles = (NodeRole.GATEWAY, NodeRole.EDGE) if operation == "node" else (NodeRole.GATEWAY,)
        nodes = await self._others(roles)
        semaphore = asyncio.Semaphore(_MAX_CONCURRENT)
        results = await asyncio.gather(*(self._query(semaphore, node, operation) for node in nodes))
        found = {node.id: lines for node, lines in zip(nodes, results, strict=True) if lines is not None}
        known = (*(node.id for node in nodes), *self._refusing(roles))
        return NodeAnswers(found, tuple(dict.fromkeys(id for id in known if id not in found)))

    def _refusing(self, roles: Collection[NodeRole]) -> list[str]:
        """Returns the nodes with these roles that refused a connection, and that the registry does not show as dead.

        They are not asked until their next heartbeat.
        """
        ids = [node.id for node in self._nodes if node.id != self.node and node.address and node.role in roles]
        return [id for id in ids if not self._liveness.is_dead(id) and not self._liveness.is_alive(id)]

    async def _query(
        self, semaphore: asyncio.Semaphore, node: NodeAddress, operation: str
    ) -> list[Mapping[str, Any]] | None:
        """Returns the objects in a node's answer; None if it does not answer in time."""
        async with semaphore:
            try:
                lines = await _objects(node, await self._ask(node, "GET", operation, _MAX_LINES_BYTES))
            except (PeerUnavailable, PeerRefused) as error:
                self._note_failure(node, error)
                if node.id not in self._unresponsive:
                    self._unresponsive.add(node.id)
                    log.warning("node does not answer", node=node.id, address=node.address, reason=str(error))
                return None
        if node.id in self._unresponsive:
            self._unresponsive.discard(node.id)
            log.info("node answers again", node=node.id, address=node.address)
        return lines

    # ---- changes ----

    async def changed(self, id: str) -> None:
        """Implements ClusterQueries.

        Logs a warning if the node with the stream cannot be notified.
        """
        self._queries.clear()
        notified = ""
        try:
            async with asyncio.timeout(_CHANGE_SECONDS):
                node = await self._node_of(id)
                if node is not None:
                    await self._notify(node, id)
                    notified = node.id
        except (PeerUnavailable, PeerRefused, StoreUnavailable, AtCapacity, TimeoutError) as error:
            reason = str(error) or "not in time"
            log.warning("the node with the stream could not be notified of a change", channel=id, reason=reason)
        if id not in self._changes and len(self._changes) >= _MAX_CHANGES:
            log.warning("a change is not sent to caches: the queue is full", channel=id)
            return
        self._changes[id] = (self._clock(), notified)
        if self._notifying is None or self._notifying.done():
            self._notifying = self._tasks.start(self._notify_all(), "changes")

    async def _notify_all(self) -> None:
        """Notifies all nodes of the queued changes in order. Skips changes that are too old."""
        while self._changes:
            id, (changed_at, notified) = next(iter(self._changes.items()))
            del self._changes[id]
            if self._clock() - changed_at < _MAX_CHANGE_AGE:
                semaphore = asyncio.Semaphore(_MAX_CONCURRENT)
                nodes = [node for node in await self._others() if node.id != notified]
                await asyncio.gather(*(self._try_to_notify(semaphore, node, id) for node in nodes))

    async def _try_to_notify(self, semaphore: asyncio.Semaphore, node: NodeAddress, id: str) -> None:
        async with semaphore:
            try:
                await self._notify(node, id)
            except (PeerUnavailable, PeerRefused) as error:
                self._note_failure(node, error)
                log.debug("a node was not notified of a change", channel=id, node=node.id, reason=str(error))

    async def _notify(self, node: NodeAddress, id: str) -> None:
        await self._ask(node, "POST", f"changed/{id}", _MAX_ANSWER_BYTES)

    # ---- the list of nodes ----

    async def nodes(self) -> Sequence[Node]:
        """Implements ClusterQueries."""
        async with self._read_lock:
            if self._clock() - self._read_at >= (_SEEN_SECONDS if self._are_seen else _READ_SECONDS):
                await self._read()
        siblings = self._siblings()
        alive = [n for n in self._nodes if n.id == self.node or n.id in siblings or self._liveness.is_alive(n.id)]
        known = {node.id for node in alive}
        return alive + [Node(id, NodeRole.GATEWAY, f"unix:{path}") for id, path in siblings.items() if id not in known]

    async def gone(self) -> Sequence[Node]:
        """Implements ClusterQueries. Edges of one channel and workers come and go."""
        alive = await self.nodes()
        ids, addresses = {node.id for node in alive}, {node.address for node in alive}
        dead = [node for node in self._nodes if node.id not in ids and self._liveness.is_dead(node.id)]
        return [n for n in dead if n.address not in addresses and not n.channel and n.role is not NodeRole.WORKER]

    async def _others(self, roles: Collection[NodeRole] = (NodeRole.GATEWAY, NodeRole.EDGE)) -> list[NodeAddress]:
        """Returns the addresses of the other nodes with these roles. A node that has just started may have none."""
        others = [node for node in await self.nodes() if node.id != self.node and node.address and node.role in roles]
        return [self._address_of(node.id, node.address) for node in others]

    async def _read(self) -> None:
        if self._registry is None:
            return
        try:
            async with asyncio.timeout(_READ_SECONDS):
                nodes = await self._registry.nodes()
        except (StoreUnavailable, TimeoutError) as error:
            if not self._registry_failed:
                log.warning("the registry does not answer", reason=str(error) or "not in time")
            self._registry_failed = True
        else:
            self.observe(nodes)
        self._are_seen = False
        self._read_at = self._clock()

    def observe(self, nodes: Sequence[Node]) -> None:
        """Takes the nodes that a heartbeat has read, so that `nodes` need not read them."""
        self._registry_failed = False
        self._nodes = nodes
        self._liveness.observe_all(nodes)
        self._unresponsive &= {*self._siblings(), *(node.id for node in nodes)}
        self._are_seen = True
        self._read_at = self._clock()

    def _address_of(self, id: str, address: str, claim: str = "") -> NodeAddress:
        if id.partition(".")[0] == self.node.partition(".")[0] and (socket := self._siblings().get(id)):
            address = f"unix:{socket}"
        return NodeAddress(id, address, claim)

    # ---- requests ----

    async def _ask(self, node: NodeAddress, method: str, path: str, max_bytes: int) -> bytes:
        """Runs one operation on a node. Raises PeerRefused, PeerUnavailable, also after _NODE_SECONDS."""
        target = operation_target(node, path)
        try:
            async with asyncio.timeout(_NODE_SECONDS):
                return await self._peers.ask(node, method, target, seconds=_NODE_SECONDS, max_bytes=max_bytes)
        except TimeoutError:
            raise PeerUnavailable(node, "does not answer in time") from None

    def _note_failure(self, node: NodeAddress, error: PeerUnavailable | PeerRefused) -> None:
        if isinstance(error, PeerUnavailable) and error.refused:
            self._liveness.mark_refused(node.id)


async def _body(node: NodeAddress, response: aiohttp.ClientResponse, call: PendingCall) -> AsyncIterator[bytes]:
    """Yields the body of an answer as it arrives. Raises PeerUnavailable if it breaks off."""
    try:
        async for chunk in response.content.iter_any():
            call.received(time.monotonic())
            yield chunk
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise PeerUnavailable(node, str(error) or type(error).__name__) from None


async def _objects(node: NodeAddress, body: bytes) -> list[Mapping[str, Any]]:
    """Parses a body with one JSON object per line. Raises PeerUnavailable if a line is no JSON object.

    It lets other tasks run every _LINES_PER_YIELD lines.
    """
    found: list[Mapping[str, Any]] = []
    for number, line in enumerate(body.splitlines(), 1):
        with suppress(ValueError):
            value = bounded_json.loads(line)
            if isinstance(value, dict):
                found.append(value)
        if number != len(found):
            raise PeerUnavailable(node, "sent an invalid answer")
        if number % _LINES_PER_YIELD == 0:
            await asyncio.sleep(0)
    return found


def _excerpt(body: bytes) -> str:
    return body[:_MAX_EXCERPT].decode("utf-8", "replace").strip()
