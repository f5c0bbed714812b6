"""Requests files of a stream from the node that holds it. Finds the new node if the stream has moved."""

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Final

import aiohttp
import structlog

from gateway.channels.names import channel_of
from gateway.cluster.files.cached_response import ResponseHead
from gateway.cluster.members.liveness_monitor import LivenessMonitor, PendingCall
from gateway.cluster.members.node_address import NodeAddress, PeerRefused, PeerUnavailable, StreamLocator
from gateway.cluster.members.peers import Peers
from gateway.lib.bounded_dict import BoundedDict
from gateway.ports.errors import NoSuchStream

log = structlog.get_logger(__name__)

ANSWER_SECONDS: Final = 100.0  # limit for an answer; LivenessMonitor detects dead nodes earlier
KEEP_SECONDS: Final = 60.0  # public, see docs/api.md: a node keeps the playlists of an ended stream for this time
_MAX_RECENT: Final = 10_000
_MAX_ERROR_BYTES: Final = 65_536  # bytes of an answer that may be an error
_MAX_ATTEMPTS: Final = 6
_NOT_LIVE: Final = b"is not streaming live now"
_NOT_HELD: Final = b"does not hold the stream"  # part of the text NOT_HERE of NodeEndpoint
_NO_STATUS: Final = b'"live": false'
_STATUS: Final = "/status.json"
# Files that do not outlive the stream. Their answers do not tell whether its node still has the last playlists.
_LIVE_ONLY: Final = (_STATUS, "/snapshot.jpg")
_WARN_SECONDS: Final = 60.0


class NotHeld(NoSuchStream):
    """No node holds the stream: the last node has answered this."""


class UpstreamResponse:
    """The answer of a node: the head, and the body while it arrives."""

    def __init__(self, head: ResponseHead, response: aiohttp.ClientResponse, call: PendingCall) -> None:
        self.head = head
        self._response = response
        self._call = call
        self._beginning: bytes | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yields the body in chunks as they arrive.

        If the connection breaks, the end of the `async with` block raises PeerUnavailable.
        """
        if self._beginning is not None:
            yield self._beginning
            return
        async for chunk in self._response.content.iter_any():
            self._call.received(time.monotonic())
            yield chunk

    async def error_text(self) -> bytes:
        """Returns the body of an answer that may be an error, at most _MAX_ERROR_BYTES. No error is longer."""
        if self._beginning is None:
            beginning = b""
            async for chunk in self.chunks():
                beginning += chunk
                if len(beginning) >= _MAX_ERROR_BYTES:
                    break
            self._beginning = beginning[:_MAX_ERROR_BYTES]
        return self._beginning


class UpstreamClient:
    """Sends requests to nodes. Only one event loop may use it. Counters: `requests`, and `failures` of them.

    monitor: its owner opens it with `async with`; None: creates one.
    """

    def __init__(self, locator: StreamLocator, peers: Peers, monitor: LivenessMonitor | None = None) -> None:
        self._locator = locator
        self._peers = peers
        self.monitor = monitor or LivenessMonitor(peers)
        # By channel: the node that had the stream, and the time until which it is asked.
        self._recent: BoundedDict[str, tuple[NodeAddress, float]] = BoundedDict(_MAX_RECENT)
        self._warned: dict[str, float] = {}
        self.requests = 0
        self.failures = 0

    async def is_held(self, name: str) -> bool:
        """Whether a node holds the stream. Raises StoreUnavailable, AtCapacity."""
        channel = channel_of(name)
        return (self._locator.known(channel) or await self._locator.find(channel)) is not None

    # ---- files of live streams ----

    @contextlib.asynccontextmanager
    async def live(self, name: str, path: str, query: str = "") -> AsyncIterator[UpstreamResponse]:
        """Yields the answer of the node that holds a stream, for one of its files.

        path: encoded. query: without "?".

        If the node is unavailable or no longer holds the stream, the stream is looked up again at once. If an edge
        fails, the next one is used. Raises NoSuchStream if no node has the stream (NotHeld if the last node with it
        answered this), PeerUnavailable, PeerRefused, StoreUnavailable, AtCapacity.
        """
        target = f"/_node/{name}/{path}" + (f"?{query}" if query else "")
        async with contextlib.AsyncExitStack() as stack:
            yield await self._request_live(stack, name, target)

    async def _request_live(self, stack: contextlib.AsyncExitStack, name: str, target: str) -> UpstreamResponse:
        channel = channel_of(name)
        node = self._locator.known(channel) or await self._locator.find(channel)
        if node is None:
            return await self._request_ended(stack, name, target)
        is_last_attempt = False
        failure: PeerUnavailable | PeerRefused | NoSuchStream = NoSuchStream(name)
        for _ in range(_MAX_ATTEMPTS):
            try:
                async with contextlib.AsyncExitStack() as attempt:
                    response = await attempt.enter_async_context(self.request(node, "GET", target))
                    if node.edge and response.head.status >= 500:
                        raise PeerRefused(node, response.head.status, "has no answer now")
                    if not await _says_not_held(response, target):
                        self._recent[channel] = (node, time.monotonic() + KEEP_SECONDS)
                        stack.push_async_exit(attempt.pop_all())
                        return response
                # A node that has taken the stream over has no media yet: the last playlist of the other one is used.
                recent, _ = self._recent.get(channel, (node, 0.0))
                failure = NotHeld(name) if recent.claim == node.claim else NoSuchStream(name)
            except PeerRefused as refused:
                if not node.edge:
                    raise
                failure = refused
            except PeerUnavailable as error:
                failure = error
            self._locator.invalidate(channel, node)
            previous, node = node, await self._locator.find(channel)
            unchanged = node == previous and (isinstance(failure, NoSuchStream) or _refused_connection(failure))
            if node is None or unchanged or is_last_attempt:
                break
            is_last_attempt = not previous.edge
        raise failure

    async def _request_ended(self, stack: contextlib.AsyncExitStack, name: str, target: str) -> UpstreamResponse:
        """Asks the node that recently held the stream, because it still has the last playlists."""
        node, until = self._recent.get(channel_of(name), (None, 0.0))
        if node is not None and until > time.monotonic():
            try:
                async with contextlib.AsyncExitStack() as attempt:
                    response = await attempt.enter_async_context(self.request(node, "GET", target))
                    if not await _says_not_held(response, target):
                        stack.push_async_exit(attempt.pop_all())
                        return response
            except (PeerUnavailable, PeerRefused) as error:
                log.debug("the files of an ended stream are not available", stream=name, reason=str(error))
            else:
                if not target.partition("?")[0].endswith(_LIVE_ONLY):
                    self._recent.pop(channel_of(name), None)
                raise NotHeld(name)
        raise NoSuchStream(name)

    # ---- one node ----

    @contextlib.asynccontextmanager
    async def request(
        self, node: NodeAddress, method: str, target: str, headers: Mapping[str, str] = {}
    ) -> AsyncIterator[UpstreamResponse]:
        """Yields the answer of a node.

        Raises PeerUnavailable, also if the connection breaks in the block. Raises PeerRefused if the node rejects the
        signature of this node.
        """
        self.requests += 1
        sent = {**headers, "Accept-Encoding": "identity"}
        try:
            with self.monitor.watch(node) as call:
                async with contextlib.AsyncExitStack() as stack:
                    request = self._peers.request(node, method, target, headers=sent, seconds=ANSWER_SECONDS)
                    response = await call.head(node, stack.enter_async_context(request))
                    if response.status in (401, 403):
                        raise PeerRefused(node, response.status, "that node has another cluster.secret, or none")
                    yield UpstreamResponse(ResponseHead.of(response), response, call)
        except (PeerUnavailable, PeerRefused) as error:
            self.failures += 1
            self._warn(node, str(error))
            raise

    def _warn(self, node: NodeAddress, reason: str) -> None:
        """Logs a failure, at most once a minute for each node, because many requests may fail at once."""
        now = time.monotonic()
        self._warned = {id: until for id, until in self._warned.items() if until > now}
        if node.id not in self._warned:
            self._warned[node.id] = now + _WARN_SECONDS
            log.warning("a request to a node failed", node=node.id, address=node.address, reason=reason)


async def _says_not_held(response: UpstreamResponse, target: str) -> bool:
    """Whether a node answers that it does not hold the stream. The answer may be a `status.json`."""
    status = response.head.status
    if status == 404:
        text = await response.error_text()
        return _NOT_LIVE in text or _NOT_HELD in text
    return target.endswith(_STATUS) and status == 200 and _NO_STATUS in await response.error_text()


def _refused_connection(failure: PeerUnavailable | PeerRefused) -> bool:
    return isinstance(failure, PeerUnavailable) and failure.refused
