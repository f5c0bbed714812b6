"""Requests to other nodes, signed with the cluster secret, over TCP or over the Unix socket of a sibling process."""

import asyncio
import contextlib
import time
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar, cast

import aiohttp
from yarl import URL

from gateway.cluster.members.node_address import NodeAddress, PeerRefused, PeerUnavailable
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.clocks import Clock
from gateway.ports.cluster_secret import ClusterSecret
from gateway.protocols import nodes

CONNECT_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 10.0
_HEAD_SECONDS: Final = 5.0  # limit until a link is open
_MAX_HEAD_BYTES: Final = 16_384
_IDLE_SECONDS: Final = 15.0  # time for which an unused connection stays open
_MAX_OFFSETS: Final = 10_000
# At the end, other nodes have a second to read the last frames of links and to close them.
_END_CHECKS: Final = 100
_END_CHECK_SECONDS: Final = 0.01

L = TypeVar("L", bound="NodeLink")


class NodeLink(asyncio.Protocol):
    """A connection between nodes after its HTTP head. Subclasses receive the data after the head."""

    def opened(self, transport: asyncio.Transport, rest: bytes) -> None:
        """Called after the head was read. rest: the bytes received after it."""
        raise NotImplementedError


class Peers(contextlib.AbstractAsyncContextManager["Peers"]):
    """Sends requests to other nodes. Use as `async with`.

    The Date of an answer shows the difference between that node's clock and this node's clock. Requests to it are
    signed with its time. All methods raise PeerUnavailable if the node does not answer in time. They do not raise
    errors of aiohttp or of the operating system.

    headers: sent with every request of this node.
    """

    def __init__(self, secret: str | ClusterSecret, headers: Mapping[str, str] = {}, clock: Clock = time.time) -> None:
        self._secret = ClusterSecret.of(secret)
        self._headers = dict(headers)
        self._clock = clock
        self._sessions: dict[str, aiohttp.ClientSession] = {}  # by Unix socket; "": TCP
        # By address: the clock of that node minus the clock of this node, seconds.
        self._offsets: BoundedDict[str, float] = BoundedDict(_MAX_OFFSETS)
        self._links: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    async def __aexit__(self, *error: object) -> None:
        for _ in range(_END_CHECKS):
            if all(link.is_closing() for link in self._links):
                break
            await asyncio.sleep(_END_CHECK_SECONDS)
        for link in tuple(self._links):
            link.abort()
        await asyncio.sleep(0)  # connections that were aborted end in the next turn of the loop
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    @contextlib.asynccontextmanager
    async def request(
        self,
        node: NodeAddress,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] = {},
        seconds: float = ANSWER_SECONDS,
        body: bytes = b"",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Sends a request. The head of the answer has been received when the block begins.

        target: path and query, encoded as they are sent.
        seconds: limit until the head, and between two chunks of the body.
        Reading the body in the block raises PeerUnavailable too.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=seconds)
        try:
            async with contextlib.AsyncExitStack() as stack:
                for can_retry in (True, False):
                    request = self._session(node).request(
                        method,
                        URL(node.base + target, encoded=True),
                        headers={**self._headers, **headers, nodes.HEADER: self._sign(node, method, target)},
                        data=body or None,
                        timeout=timeout,
                        allow_redirects=False,
                        auto_decompress=False,
                    )
                    response = await stack.enter_async_context(request)
                    is_rejected = can_retry and response.status == 401
                    if not is_rejected or not self._learn_clock_offset(node, response.headers.get("Date")):
                        break
                    await response.read()
                yield response
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, ConnectionRefusedError | FileNotFoundError)
            raise PeerUnavailable(node, error.os_error.strerror or "cannot be reached", refused=refused) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise PeerUnavailable(node, str(error) or type(error).__name__) from None

    async def ask(
        self, node: NodeAddress, method: str, target: str, seconds: float = ANSWER_SECONDS, max_bytes: int = 1_000_000
    ) -> bytes:
        """Returns the body of an answer. Raises PeerRefused for any status but 200.

        Raises PeerUnavailable above `max_bytes`.
        """
        body = bytearray()
        async with self.request(node, method, target, seconds=seconds) as response:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > max_bytes:
                    raise PeerUnavailable(node, f"an answer of more than {max_bytes} bytes")
        if response.status != 200:
            raise PeerRefused(node, response.status, body[:500].decode("utf-8", "replace").strip())
        return bytes(body)

    async def link(
        self, node: NodeAddress, method: str, target: str, new_link: Callable[[], L], headers: Mapping[str, str] = {}
    ) -> L:
        """Opens a link (status 200, or 101 if `method` is POST). Raises PeerRefused for other answers."""
        extra_headers = "".join(f"{name}: {value}\r\n" for name, value in {**self._headers, **headers}.items())
        for can_retry in (True, False):
            head = f"{method} {target} HTTP/1.1\r\nHost: {'localhost' if node.socket else node.address}\r\n"
            head += f"{nodes.HEADER}: {self._sign(node, method, target)}\r\n{extra_headers}"
            if method == "POST":
                head += f"Connection: Upgrade\r\nUpgrade: {nodes.UPGRADE}\r\n\r\n"
            else:
                head += "Connection: close\r\n\r\n"
            opening = _Opening(head.encode("latin-1"))
            await self.connect(node, opening)
            try:
                async with asyncio.timeout(_HEAD_SECONDS):
                    status, answered, body = await opening.answer
            except TimeoutError:
                opening.abort()
                raise PeerUnavailable(node, "does not answer") from None
            except OSError as error:
                raise PeerUnavailable(node, error.strerror or str(error)) from None
            except asyncio.CancelledError:
                opening.abort()
                raise
            if status in (200, 101):
                self._links.add(opening.transport)
                return opening.hand_over(new_link())
            if status != 401 or not can_retry or not self._learn_clock_offset(node, answered.get("date")):
                raise PeerRefused(node, status, body.decode("utf-8", "replace").strip()[:300])
        raise AssertionError("the second attempt returns or raises")

    async def connect(self, node: NodeAddress, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Returns the transport of a new connection to a node. Raises PeerUnavailable."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if node.socket:
                    transport, _ = await loop.create_unix_connection(lambda: protocol, node.socket)
                else:
                    transport, _ = await loop.create_connection(lambda: protocol, *node.host_port)
                return transport
        except TimeoutError:
            raise PeerUnavailable(node, "cannot be reached in time") from None
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError | FileNotFoundError)
            raise PeerUnavailable(node, error.strerror or str(error), refused=refused) from None

    def _session(self, node: NodeAddress) -> aiohttp.ClientSession:
        session = self._sessions.get(node.socket)
        if session is None:
            connector: aiohttp.BaseConnector
            if node.socket:
                connector = aiohttp.UnixConnector(node.socket, limit=0, keepalive_timeout=_IDLE_SECONDS)
            else:
                connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS, ttl_dns_cache=5)
            session = self._sessions[node.socket] = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), skip_auto_headers=("Accept", "User-Agent")
            )
        return session

    # ---- signatures ----

    def _sign(self, node: NodeAddress, method: str, target: str) -> str:
        return self._secret.sign(method, target, self._clock() + self._offsets.get(node.address, 0.0))

    def _learn_clock_offset(self, node: NodeAddress, date: str | None) -> bool:
        """Records the difference between a node's clock and this node's. Returns whether a retry can succeed."""
        try:
            offset = parsedate_to_datetime(date or "").timestamp() - self._clock()
        except ValueError:
            return False
        if abs(offset - self._offsets.get(node.address, 0.0)) < nodes.VALID_SECONDS / 2:
            return False  # the clock was not the reason for the refusal
        self._offsets[node.address] = offset
        return True


class _Opening(asyncio.Protocol):
    """Sends the head of a request and reads the head of the answer.

    It also reads the body of a rejection, if it has a length.
    """

    transport: asyncio.Transport

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._buffer = b""
        self._connection_lost = False
        self.answer: asyncio.Future[tuple[int, dict[str, str], bytes]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's class does not derive from asyncio's
        self.transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self.answer.done():
            return  # the data after the head waits for hand_over
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                self._fail("the head is too long")
            return
        try:
            status, headers = _parse(self._buffer[:end])
            length = int(headers.get("content-length", "0"))
        except ValueError:
            self._fail("the answer is not HTTP")
            return
        body = self._buffer[end + 4 :]
        if status in (200, 101):
            self.transport.pause_reading()  # until hand_over
            self._buffer = body
            self.answer.set_result((status, headers, b""))
        elif len(body) >= min(length, 4096):
            self.answer.set_result((status, headers, body[:4096]))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection_lost = True
        if not self.answer.done():
            self.answer.set_exception(exc if isinstance(exc, OSError) else ConnectionResetError("closed"))
            self.answer.exception()  # marks the error as retrieved, because the caller may be cancelled already

    def hand_over(self, link: L) -> L:
        """Passes the open connection to `link`."""
        transport = self.transport
        transport.set_protocol(link)
        link.opened(transport, self._buffer)
        if self._connection_lost:  # the connection was lost before this call
            link.connection_lost(None)
        elif not transport.is_closing():
            transport.resume_reading()
        return link

    def abort(self) -> None:
        self.transport.abort()

    def _fail(self, reason: str) -> None:
        self.answer.set_exception(ConnectionAbortedError(reason))
        self.transport.abort()


def _parse(head: bytes) -> tuple[int, dict[str, str]]:
    """Returns the status and the headers of an answer. Raises ValueError."""
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(first[:50])
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return int(rest[:3]), headers
