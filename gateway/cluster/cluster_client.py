"""Asks other nodes for what the API needs, and tells them about changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self
from urllib.parse import urlencode

import structlog

from gateway.api.cluster_queries import ForwardedRefusal, NodeAnswers
from gateway.cluster.node_address import NodeAddress, PeerUnavailable, StreamLocator
from gateway.cluster.node_liveness import NodeLiveness
from gateway.cluster.node_rpc import ELSEWHERE
from gateway.cluster.peers import Peers
from gateway.lib.tasks import Tasks
from gateway.ports.errors import AtCapacity, StoreUnavailable
from gateway.ports.nodes import Node, NodeRole, StreamClaim

log = structlog.get_logger(__name__)

_ASK_SECONDS: Final = 4.0  # to wait for the answer of a holder
_EACH_SECONDS: Final = 2.0  # to wait for each node when all nodes are asked
_MAX_CONCURRENT: Final = 32  # nodes asked at once
_FRESH_SECONDS: Final = 1.0  # how long the answers of all nodes are reused
_READ_SECONDS: Final = 2.0  # between two readings of the registry, and the limit for one reading
_TELL_SECONDS: Final = 5.0  # after that a change is not sent: no cache entry is older
_MAX_CHANGES: Final = 1000
_MAX_ANSWER_BYTES: Final = 1_000_000  # bytes, for one channel
_MAX_LINES_BYTES: Final = 16_000_000  # bytes, for everything that a node holds
_LINES_PER_TURN: Final = 50
_TRY_AGAIN: Final = 2  # seconds, for Retry-After
_PASSED_ON: Final = (400, 404, 409, 503)  # refusals of a holder that the client gets; others concern only the nodes


class ClusterDirectory(Protocol):
    """The registry methods that ClusterClient reads with."""

    async def nodes(self) -> list[Node]: ...

    async def holding(self, stream: str) -> StreamClaim | None: ...


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    retry_after: int | None


class ClusterClient:
    """Implements gateway.api.cluster_queries.ClusterQueries over a registry. Use as `async with`.

    registry: None if the cluster is only the processes of this host.
    siblings: returns the Unix sockets of the other processes of this host, by node id. A process with a socket counts
    as alive.

    At most one question of each kind to all nodes is under way. Its answer is reused for one second. So nodes get
    each question at most once a second, however many clients ask. At most _MAX_CHANGES changes of channels wait to
    be sent. A change that exceeds this bound, or is older than _TELL_SECONDS, is not sent: caches expire by
    themselves.
    """

    def __init__(
        self,
        node: str,
        registry: ClusterDirectory | None,
        locator: StreamLocator,
        peers: Peers,
        *,
        siblings: Callable[[], Mapping[str, str]] = dict,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.node = node
        self._registry = registry
        self._locator = locator
        self._peers = peers
        self._siblings = siblings
        self._clock = clock
        self._tasks = Tasks("cluster", _crashed)
        self._liveness = NodeLiveness(clock)
        self._nodes: list[Node] = []
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._away = False  # whether the registry failed at the last reading
        self._heard: dict[str, tuple[float, NodeAnswers]] = {}
        self._asking: dict[str, asyncio.Task[NodeAnswers]] = {}
        self._silent: set[str] = set()
        self._changes: dict[str, tuple[float, str]] = {}  # when each channel changed, and which node knows it
        self._notifying: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()

    # ---- one holder ----

    async def ask(self, id: str, operation: str, method: str = "GET", **query: str) -> Any | None:
        """Implements gateway.api.cluster_queries.ClusterQueries."""
        if method != "GET":
            self._forget_heard()  # the next question must see the change
        for place in (await self._holder(id), None):
            place = place or await self._holder(id)
            if place is None:
                return None
            try:
                answer = await self._call(place, method, f"{operation}/{id}", query, _ASK_SECONDS, _MAX_ANSWER_BYTES)
            except PeerUnavailable as away:
                if await self._is_dead(id, place, away):
                    return None
                log.warning("the holder of a stream does not answer", channel=id, node=place.node, reason=str(away))
                raise ForwardedRefusal(
                    503, f"the node that holds {id} does not answer", retry_after=_TRY_AGAIN
                ) from None
            if answer.status == ELSEWHERE:
                self._locator.lost(id, place)
                continue
            return _value(place, answer)
        return None

    async def _holder(self, id: str) -> NodeAddress | None:
        """Returns the address of the other node that holds the stream.

        A negative look-up may be a second old. The registry is read again in that case.
        """
        place = await self._locator.find(id)
        if place is None and self._registry is not None:
            holding = await self._registry.holding(id)
            if holding is not None and not holding.left:
                place = self._place(holding.node, holding.address, holding.claim)
        return place if place is not None and place.node != self.node else None

    async def _is_dead(self, id: str, place: NodeAddress, away: PeerUnavailable) -> bool:
        """Whether the holder, and its stream, is dead. A holder that may come back in a moment is not dead yet."""
        self._locator.lost(id, place)
        if away.refused:
            self._liveness.refused(place.node)
        await self.nodes()
        return self._registry is not None and not self._away and self._liveness.dead(place.node)

    # ---- all nodes ----

    async def everywhere(self, operation: str) -> NodeAnswers:
        """Implements gateway.api.cluster_queries.ClusterQueries. The operation `node` is also sent to edges."""
        at, heard = self._heard.get(operation, (float("-inf"), NodeAnswers()))
        if self._clock() - at < _FRESH_SECONDS:
            return heard
        task = self._asking.get(operation)
        if task is None:
            task = self._asking[operation] = self._tasks.start(self._ask_all(operation), operation)
        return await asyncio.shield(task)

    async def _ask_all(self, operation: str) -> NodeAnswers:
        task = asyncio.current_task()
        roles = (NodeRole.GATEWAY, NodeRole.EDGE) if operation == "node" else (NodeRole.GATEWAY,)
        places = [self._place_of(node) for node in await self._others() if node.role in roles]
        gate = asyncio.Semaphore(_MAX_CONCURRENT)
        try:
            answers = await asyncio.gather(*(self._lines(gate, place, operation) for place in places))
            found = {p.node: lines for p, lines in zip(places, answers, strict=True) if lines is not None}
            heard = NodeAnswers(found, tuple(p.node for p in places if p.node not in found))
            if self._asking.get(operation) is task:  # else a change came meanwhile
                self._heard[operation] = (self._clock(), heard)
            return heard
        finally:
            if self._asking.get(operation) is task:
                del self._asking[operation]

    async def _lines(
        self, gate: asyncio.Semaphore, place: NodeAddress, operation: str
    ) -> list[Mapping[str, Any]] | None:
        """Returns the objects that a node answers; None if it does not answer in time."""
        async with gate:
            try:
                answer = await self._call(place, "GET", operation, {}, _EACH_SECONDS, _MAX_LINES_BYTES)
                if answer.status != 200:
                    raise PeerUnavailable(place, f"{answer.status} {_words(answer.body)}")
                lines = await _objects(place, answer.body)
            except PeerUnavailable as away:
                if away.refused:
                    self._liveness.refused(place.node)
                if place.node not in self._silent:
                    self._silent.add(place.node)
                    log.warning("node does not answer", node=place.node, address=place.address, reason=str(away))
                return None
        if place.node in self._silent:
            self._silent.discard(place.node)
            log.info("node answers again", node=place.node, address=place.address)
        return lines

    def _forget_heard(self) -> None:
        self._heard.clear()
        self._asking.clear()  # waiting callers keep their answer; new callers ask again

    # ---- changes ----

    async def changed(self, id: str) -> None:
        """Implements gateway.api.cluster_queries.ClusterQueries. Logs a holder that could not be told."""
        self._forget_heard()
        notified = ""
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                place = await self._holder(id)
                if place is not None:
                    await self._notify(place, id)
                    notified = place.node
        except (PeerUnavailable, StoreUnavailable, AtCapacity, TimeoutError) as error:
            log.warning("the holder could not be told of a change", channel=id, reason=str(error) or "not in time")
        if id not in self._changes and len(self._changes) >= _MAX_CHANGES:
            log.warning("a change is not told to caches: too many wait", channel=id)
            return
        self._changes[id] = (self._clock(), notified)
        if self._notifying is None or self._notifying.done():
            self._notifying = self._tasks.start(self._notify_all(), "changes")

    async def _notify_all(self) -> None:
        """Tells every node about the waiting changes, one change after the other. Skips changes that are too old."""
        while self._changes:
            id, (at, notified) = next(iter(self._changes.items()))
            del self._changes[id]
            if self._clock() - at < _TELL_SECONDS:
                gate = asyncio.Semaphore(_MAX_CONCURRENT)
                others = [n for n in await self._others() if n.role != NodeRole.WORKER and n.id != notified]
                await asyncio.gather(*(self._try_to_notify(gate, self._place_of(node), id) for node in others))

    async def _try_to_notify(self, gate: asyncio.Semaphore, place: NodeAddress, id: str) -> None:
        async with gate:
            try:
                await self._notify(place, id)
            except PeerUnavailable as away:
                if away.refused:
                    self._liveness.refused(place.node)
                log.debug("a node was not told of a change", channel=id, node=place.node, reason=str(away))

    async def _notify(self, place: NodeAddress, id: str) -> None:
        answer = await self._call(place, "POST", f"changed/{id}", {}, _EACH_SECONDS, _MAX_ANSWER_BYTES)
        if answer.status != 200:
            raise PeerUnavailable(place, f"{answer.status} {_words(answer.body)}")

    # ---- the list of nodes ----

    async def nodes(self) -> Sequence[Node]:
        """Implements gateway.api.cluster_queries.ClusterQueries."""
        async with self._reading:
            if self._clock() - self._read_at >= _READ_SECONDS:
                await self._read()
        near = self._siblings()
        found = [n for n in self._nodes if n.id == self.node or n.id in near or self._liveness.alive(n.id)]
        known = {node.id for node in found}
        return found + [Node(id, NodeRole.GATEWAY, f"unix:{socket}") for id, socket in near.items() if id not in known]

    async def _others(self) -> list[Node]:
        """The other nodes that have an address. A node that has just started may not know its address yet."""
        return [node for node in await self.nodes() if node.id != self.node and node.address]

    async def _read(self) -> None:
        if self._registry is None:
            return
        try:
            async with asyncio.timeout(_READ_SECONDS):
                nodes = await self._registry.nodes()
        except (StoreUnavailable, TimeoutError) as away:
            if not self._away:
                log.warning("the registry does not answer", reason=str(away) or "in time")
            self._away = True
        else:
            self._away = False
            self._nodes = nodes
            self._liveness.read(nodes)
            self._silent &= {*self._siblings(), *(node.id for node in nodes)}
        self._read_at = self._clock()

    def _place_of(self, node: Node) -> NodeAddress:
        return self._place(node.id, node.address)

    def _place(self, node: str, address: str, claim: str = "") -> NodeAddress:
        if node.partition(".")[0] == self.node.partition(".")[0] and (socket := self._siblings().get(node)):
            address = f"unix:{socket}"
        return NodeAddress(node, address, claim)

    # ---- requests ----

    async def _call(
        self, place: NodeAddress, method: str, path: str, query: Mapping[str, str], seconds: float, max_bytes: int
    ) -> _Answer:
        """Runs one operation at one node. Raises PeerUnavailable, also if the answer takes longer than `seconds` or
        exceeds `max_bytes` bytes.
        """
        target = f"/_node/.node/{path}?{urlencode({**query, **({'to': place.node} if place.node else {})})}"
        body = bytearray()
        try:
            async with (
                asyncio.timeout(seconds),
                self._peers.request(place, method, target, seconds=seconds) as response,
            ):
                async for piece in response.content.iter_any():
                    body += piece
                    if len(body) > max_bytes:
                        raise PeerUnavailable(place, f"an answer of more than {max_bytes} bytes")
                return _Answer(response.status, bytes(body), _seconds(response.headers.get("Retry-After")))
        except TimeoutError:
            raise PeerUnavailable(place, "does not answer in time") from None


def _value(place: NodeAddress, answer: _Answer) -> Any:
    """Returns the JSON object that the node answered. Raises ForwardedRefusal with the message of the node."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        value = None
    if answer.status == 200 and isinstance(value, dict):
        return value
    if answer.status in _PASSED_ON and isinstance(value, dict) and isinstance(value.get("error"), str):
        field = value.get("field")
        raise ForwardedRefusal(
            answer.status, value["error"][:500], field if isinstance(field, str) else None, answer.retry_after
        )
    log.warning("a node gives no proper answer", node=place.node, status=answer.status, words=_words(answer.body))
    raise ForwardedRefusal(503, f"node {place.node} gives no proper answer", retry_after=_TRY_AGAIN)


async def _objects(place: NodeAddress, body: bytes) -> list[Mapping[str, Any]]:
    """Returns the objects of a body with one JSON object a line. Raises PeerUnavailable for anything else.

    It lets other tasks run every _LINES_PER_TURN lines.
    """
    found: list[Mapping[str, Any]] = []
    for number, line in enumerate(body.splitlines(), 1):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
        if number != len(found):
            raise PeerUnavailable(place, "gives no proper answer")
        if number % _LINES_PER_TURN == 0:
            await asyncio.sleep(0)
    return found


def _words(body: bytes) -> str:
    return body[:200].decode("utf-8", "replace").strip()


def _seconds(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdecimal() and len(value) < 6 else None


def _crashed(name: str, error: BaseException) -> None:
    log.error("asking other nodes failed", task=name, exc_info=error)
