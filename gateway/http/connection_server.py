"""What a connection needs of its server: limits, shared state and services."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.http.connection_slot import ConnectionSlot
from gateway.http.forwarded import Forwarded
from gateway.http.request import HeadParser, Request
from gateway.http.response import Handler, Response
from gateway.http.unsent import UnsentAnswers
from gateway.lib.quota import Quota
from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.tasks import Tasks
from gateway.lib.viewer_memory import ViewerMemory


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


class ConnectionServer(Protocol):
    """The state and services that the connections of a server share. `HttpServer` provides them.

    now: monotonic seconds.
    date: the Date header.
    keeps_alive: whether connections stay open after an answer.
    connections: each open `HttpConnection`, without those that were taken over.
    The counters are described in HttpServer. The Responses are prepared answers.
    """

    handler: Handler
    exempts: Callable[[Request], bool]
    limits: HttpLimits
    forwarded: Forwarded
    methods: frozenset[str]
    parser: HeadParser
    scheduler: ReadScheduler
    tasks: Tasks
    connections: set[Any]
    closing: bool
    keeps_alive: bool
    unsent: UnsentAnswers
    now: float
    date: bytes
    requests: int
    refused: int
    bytes_out: int
    not_allowed: Response
    preflight: Response
    too_many: Response

    def open_slot(self, address: str) -> ConnectionSlot | None:
        """Counts a new connection. Returns None if it must be closed at once."""

    def exempt(self, slot: ConnectionSlot) -> None:
        """Stops counting the connection for its addresses."""

    def release(self, slot: ConnectionSlot) -> None:
        """Called when the connection is closed. Idempotent."""

    def count_client(self, slot: ConnectionSlot, client: str) -> bool:
        """Counts a connection for the client behind the proxy too. Returns False if that client has too many."""

    async def compress(self, response: Response) -> None:
        """Compresses a large body in a thread."""

    def error_response(self, request: Request, error: Exception) -> Response:
        """Returns the answer if the handler raised `error`."""

    def task_failed(self, name: str, error: BaseException) -> None:
        """Logs an error outside of an answer."""
