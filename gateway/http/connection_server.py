"""The things that the connections of a server share: limits, state and services."""

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from gateway.http.connection_slot import ConnectionSlot
from gateway.http.forwarded import Forwarded
from gateway.http.request import HeadParser, Request, RequestError
from gateway.http.response import Handler, Response, not_allowed, preflight, service_unavailable, text
from gateway.http.unsent import UnsentAnswers
from gateway.lib.quota import Quota
from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.tasks import Tasks
from gateway.lib.viewer_memory import ViewerMemory

log = structlog.get_logger(__name__)

_MAX_REFUSED: Final = 256  # connections above the limit of their address that may wait for a 429 answer
_MAX_COMPRESSING: Final = 1  # bodies compressed in threads at once; more would slow down the loop


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of a connection, in seconds and bytes (settings, sections `http` and `limits`).

    head_seconds: from a request's first byte (or the connection's start) to the end of its head; 0: no limit.
    stall_seconds: time in which a client must read some of the unsent data; 0: no limit.
    of_address: counts and limits the simultaneous connections of each address.
    connections: simultaneous connections of all addresses; 0: no limit.
    memory: limits the unsent bytes of all clients. A client whose answer does not fit is disconnected.
    """

    head_bytes: int
    target_bytes: int
    head_seconds: float
    keep_alive: float
    stall_seconds: float
    of_address: Quota
    connections: int = 0
    memory: ViewerMemory | None = None


class ConnectionServer:
    """The state and services that the connections of a server share.

    now: monotonic time of the last tick, exact enough for time-outs. date: the Date header.
    keeps_alive: whether connections stay open after an answer.
    connections: without those that were taken over; each HTTP/2 connection, and its streams.
    not_allowed, preflight, too_many: prepared answers.
    Counters: `requests`, `bytes_out` (of Responses, with heads), `refused` (400s, time-outs and limits), `errors`.
    `len(server)` is the number of connections.

    hidden_methods: methods that the handler checks itself. No answer of the server lists them.
    exempts: whether the connection of a request has no limits. Called for each request, so it must be fast.
    """

    def __init__(
        self,
        handler: Handler,
        limits: HttpLimits,
        forwarded: Forwarded | None = None,
        methods: Iterable[str] = ("GET", "HEAD"),
        hidden_methods: Iterable[str] = (),
        exempts: Callable[[Request], bool] = lambda request: False,
    ) -> None:
        self.exempts = exempts
        self.handler = handler
        self.limits = replace(
            limits, head_seconds=limits.head_seconds or math.inf, stall_seconds=limits.stall_seconds or math.inf
        )
        self.forwarded = forwarded or Forwarded(())
        methods = frozenset(methods)
        self.methods = methods.union(hidden_methods)
        self.parser = HeadParser(limits.target_bytes)
        self.quota = limits.of_address
        self.scheduler = ReadScheduler()
        self.unsent = UnsentAnswers(limits.memory)
        self.closing = False
        self.keeps_alive = True
        self.requests = 0
        self.bytes_out = 0
        self.refused = 0
        self.errors = 0
        self.now = 0.0
        self.date = b""
        self.connections: set[Any] = set()
        self.tasks = Tasks("http", self.task_failed)
        self._compressing = asyncio.Semaphore(_MAX_COMPRESSING)
        allow = ", ".join(sorted({*methods, "OPTIONS"}))
        self.not_allowed = not_allowed(allow)
        self.preflight = preflight(allow)
        self.too_many = service_unavailable("too many connections from this address", 10, 429)
        self._slots: set[ConnectionSlot] = set()
        self._over_quota = 0  # number of slots with `over_quota`
        self._empty: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._slots)

    def open_slot(self, address: str) -> ConnectionSlot | None:
        """Counts a new connection. Returns None if it must be closed at once: there are too many."""
        limits = self.limits
        if limits.connections and len(self._slots) >= limits.connections:
            self.refused += 1
            return None
        trusted = self.forwarded.trusts(address)
        addresses = (address,) if not trusted and self.quota.take(address) else ()
        over_quota = not addresses and not trusted
        if over_quota:
            if self._over_quota >= _MAX_REFUSED:
                self.refused += 1
                return None
            self._over_quota += 1
        slot = ConnectionSlot(addresses, over_quota, self.scheduler, self.tasks, self.release)
        self._slots.add(slot)
        return slot

    def count_client(self, slot: ConnectionSlot, client: str) -> bool:
        """Counts a connection that is taken over. It also counts for the client behind the proxy.

        Returns False if this client has too many connections.
        """
        if not self.forwarded.trusts(client):
            if not self.quota.take(client):
                return False
            slot.client = client
        return True

    def exempt(self, slot: ConnectionSlot) -> None:
        """Stops counting a connection for its addresses: it belongs to another node, which needs many."""
        for address in slot.addresses:
            self.quota.give(address)
        slot.addresses = ()
        self._over_quota -= slot.over_quota
        slot.over_quota = False

    def release(self, slot: ConnectionSlot) -> None:
        """Called at the end of a connection, or of a stream that has its slot. Idempotent."""
        if slot.client:
            self.quota.give(slot.client)
            slot.client = ""
        if slot.lent_by is not None:
            slot.transport, slot.lent_by = slot.lent_by, None
        elif slot in self._slots:
            self._slots.remove(slot)
            self._over_quota -= slot.over_quota
            for address in slot.addresses:
                self.quota.give(address)
            if self._empty is not None and not self._slots and not self._empty.done():
                self._empty.set_result(None)

    async def compress(self, response: Response) -> None:
        """Compresses a large body in a thread, one at a time. The work continues if the client disconnects."""
        await self._compressing.acquire()
        if not response.slow_to_compress:  # another request has compressed it
            self._compressing.release()
            return
        work = asyncio.get_running_loop().run_in_executor(None, response.gzipped)
        work.add_done_callback(lambda _: self._compressing.release())
        await asyncio.shield(work)

    def error_response(self, request: Request, error: Exception) -> Response:
        """Returns the answer if the handler raised `error`."""
        if isinstance(error, RequestError):
            return text(error.status, str(error))
        self.errors += 1
        log.error("request failed", path=request.path[:200], peer=request.peer, exc_info=error)
        return text(500, "something went wrong here; the log says what")

    def task_failed(self, name: str, error: BaseException) -> None:
        """Logs an error outside of an answer."""
        self.errors += 1
        log.error("answering failed", task=name, exc_info=error)

    async def _wait_until_empty(self, seconds: float) -> None:
        if self._slots:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=seconds)
            self._empty = None
