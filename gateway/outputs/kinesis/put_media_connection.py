"""One PutMedia request: its body carries fragments while its response carries acknowledgements."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gateway.lib.tasks import Tasks, awaited
from gateway.outputs.kinesis.fragment_backlog import FragmentBacklog, KvsFragment
from gateway.ports.stores import PutMediaRequest
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.kvs import Ack, AckAction, AckEventType, AckReader

if TYPE_CHECKING:
    import aiohttp

CONNECT_SECONDS: Final = 10.0
RESPONSE_SECONDS: Final = 15.0  # the service sends the status before it reads the body
FINISH_SECONDS: Final = 10.0  # for acknowledgements of sent fragments, after the body's end
HURRY_SECONDS: Final = 3.0  # replaces FINISH_SECONDS when the output is stopped
ACK_SECONDS: Final = 40.0  # without an acknowledgement, after which the connection counts as dead
IDLE_SECONDS: Final = 20.0  # without media until this side ends the connection; the service ends it after 30
MAX_FAULTS: Final = 3  # retryable errors of one fragment before it is dropped
# The service accepts five fragments and 12.5 MB a second; a replay would send faster. With four a second, they may be
# delayed by a quarter of a second on their way.
FRAGMENT_PAUSE: Final = 0.25
BYTES_PER_SECOND: Final = 11_000_000
_CHUNK_BYTES: Final = 1 << 18  # bytes: a replay must not fill the socket's buffer at once
_MAX_ERROR_BYTES: Final = 8192
MAX_CONNECTION_DURATION: Final = 4003


@dataclass(frozen=True, slots=True)
class ConnectionOutcome:
    """The end of a connection.

    message: one line for the operator, "" if there was no error. remedy: what the sender does next.
    refresh: whether to request the endpoint again.
    idle: no media arrived; new media open a new connection.
    """

    message: str = ""
    remedy: AckAction = AckAction.RETRY
    refresh: bool = False
    idle: bool = False


# HTTP error types, with the remedy and whether the endpoint or the credentials may have changed.
# Source, section "Errors":
# https://docs.aws.amazon.com/kinesisvideostreams/latest/dg/API_dataplane_PutMedia.html
_REJECTIONS: Final[dict[str, tuple[AckAction, bool]]] = {
    "ClientLimitExceededException": (AckAction.WAIT, False),
    "ConnectionLimitExceededException": (AckAction.WAIT, False),
    "InvalidArgumentException": (AckAction.WAIT, False),
    "InvalidEndpointException": (AckAction.RETRY, True),
    "NotAuthorizedException": (AckAction.WAIT, True),
    "ResourceNotFoundException": (AckAction.WAIT, True),
}


@dataclass(slots=True, eq=False)
class PutMediaConnection:
    """Sends the backlog from its first fragment on, and removes fragments that the service has stored.

    final_event: the acknowledgement that removes a fragment (PERSISTED; RECEIVED if the stream has no retention).
    until: loop time after which the connection ends at the next fragment.
    on_ack: called with every acknowledgement.
    Two tasks use it on the loop: the HTTP client reads `_body`, and `run` reads the response.
    """

    backlog: FragmentBacklog
    request: PutMediaRequest
    _: KW_ONLY
    final_event: AckEventType
    until: float
    on_ack: Callable[[Ack], None]
    sent: int = field(default=0, init=False)
    stored: int = field(default=0, init=False)  # fragments that this connection removed from the backlog
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop, init=False)
    _header: bytes | None = field(default=None, init=False)
    # The last fragment that was sent, completely or in part.
    _current: KvsFragment | None = field(default=None, init=False)
    _confirmed_until: int = field(default=-1, init=False)  # the latest time with a final acknowledgement
    _body_ended: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future(), init=False
    )
    _stopping: bool = field(default=False, init=False)  # the body must end between two frames
    _idle: bool = field(default=False, init=False)  # no media arrived for IDLE_SECONDS
    _idle_since: float | None = field(default=None, init=False)  # loop time when the body began to wait for media
    _last_ack_at: float = field(default=0.0, init=False)

    async def run(self, http: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> ConnectionOutcome:
        """Runs until the connection ends.

        A cancellation ends the fragment and waits HURRY_SECONDS for acknowledgements.
        """
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            # The service sends the status before it reads the body, unless it hangs.
            async with asyncio.timeout(CONNECT_SECONDS + RESPONSE_SECONDS) as timeout_scope:
                async with http.post(
                    self.request.url,
                    data=self._body(),
                    headers=self.request.headers,
                    timeout=timeout,
                    ssl=tls if tls is not None else True,
                    allow_redirects=False,
                ) as response:
                    if response.status != 200:
                        return await _rejection(response)
                    timeout_scope.reschedule(None)
                    return await self._handle_response(response)
        except RemoteProtocolError as error:
            return ConnectionOutcome(f"the answer of Kinesis cannot be read: {error}")
        except TimeoutError:
            return ConnectionOutcome("Kinesis does not answer", refresh=True)
        except (aiohttp.ClientError, OSError) as error:
            detail = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
            return ConnectionOutcome(f"the connection broke{detail}", refresh=not self.stored)

    # ---- request ----

    async def _body(self) -> AsyncIterator[bytes]:
        """Yields the header, then fragments as they arrive. Its end is the end of the request's body."""
        try:
            while (fragment := await self._next_fragment()) is not None:
                if self._header is None:
                    assert fragment.header is not None, "_next_fragment returns fragments with a header"
                    self._header = fragment.header
                    yield self._header
                async for piece in self._paced(fragment):
                    yield piece
        finally:
            if not self._body_ended.done():
                self._body_ended.set_result(None)

    async def _paced(self, fragment: KvsFragment) -> AsyncIterator[bytes]:
        """Yields the fragment's bytes as they arrive, within the service's limits of fragments and bytes a second."""
        if fragment.sends:
            self.backlog.count_replayed()
        fragment.sends += 1
        fragment.fully_sent = False
        self._current = fragment
        begun = due = self._loop.time()
        at = 0
        while not (fragment.complete and at == len(fragment.pieces)):
            if at == len(fragment.pieces):
                if not await self._wait_for_data():
                    return
                continue
            piece, at = _join_pieces(fragment.pieces, at)
            yield piece
            due = max(due, self._loop.time() - 1) + len(piece) / BYTES_PER_SECOND
            if (ahead := due - self._loop.time()) > 0.05:
                await asyncio.sleep(ahead)
        fragment.fully_sent = True
        self.sent += 1
        if (pause := begun + FRAGMENT_PAUSE - self._loop.time()) > 0:
            await asyncio.sleep(pause)

    async def _next_fragment(self) -> KvsFragment | None:
        """Waits for the next fragment and returns it; None if the body must end before it."""
        while True:
            fragment = self.backlog.after(self._current.number if self._current is not None else 0)
            if fragment is None and self.backlog.closed:
                return None
            if fragment is not None and fragment.header is not None:
                other_tracks = self._header is not None and fragment.header != self._header
                due = self._current is not None and self._loop.time() >= self.until
                return None if other_tracks or due else fragment
            if not await self._wait_for_data():
                return None

    async def _wait_for_data(self) -> bool:
        """Waits for the backlog to change. Returns False if the body must end."""
        if not self._stopping:
            self._idle_since = self._loop.time()
            await self.backlog.wait_for_change()
            self._idle_since = None
        return not self._stopping

    def _stop(self) -> None:
        """Ends the body between two frames."""
        self._stopping = True
        self.backlog.notify()

    # ---- response ----

    async def _handle_response(self, response: aiohttp.ClientResponse) -> ConnectionOutcome:
        self._last_ack_at = self._loop.time()
        async with Tasks("kvs answer", awaited) as tasks:
            reading = tasks.start(self._read(response))
            try:
                return await self._wait_for_end(reading)
            except asyncio.CancelledError:
                self._stop()
                await asyncio.wait({reading}, timeout=HURRY_SECONDS)
                raise

    async def _wait_for_end(self, reading: asyncio.Task[ConnectionOutcome]) -> ConnectionOutcome:
        """Waits for the end of the response, or until a time limit."""
        finish_by: float | None = None
        while not reading.done():
            now, ended = self._loop.time(), self._body_ended.done()
            if ended and not self._ack_missing:
                return ConnectionOutcome(idle=self._idle)
            if ended and finish_by is None:
                finish_by = now + FINISH_SECONDS
            if finish_by is not None and now >= finish_by:
                return ConnectionOutcome("Kinesis did not acknowledge all fragments", idle=self._idle)
            if now >= self._last_ack_at + ACK_SECONDS:
                return ConnectionOutcome(f"no acknowledgement for {ACK_SECONDS:g} s", refresh=True)
            deadline = finish_by if finish_by is not None else self._last_ack_at + ACK_SECONDS
            if self._idle_since is not None and not ended:
                if now >= self._idle_since + IDLE_SECONDS:
                    self._idle = True
                    self._stop()
                deadline = min(deadline, self._idle_since + IDLE_SECONDS) if not self._stopping else deadline
            elif not ended:
                deadline = min(deadline, now + IDLE_SECONDS)
            waiting: set[asyncio.Future[Any]] = {reading} if ended else {reading, self._body_ended}
            await asyncio.wait(waiting, timeout=max(0.0, deadline - now), return_when=asyncio.FIRST_COMPLETED)
        return reading.result()

    async def _read(self, response: aiohttp.ClientResponse) -> ConnectionOutcome:
        """Reads acknowledgements until an error or the response's end."""
        reader = AckReader()
        async for data in response.content.iter_any():
            for ack in reader.receive(data):
                self._last_ack_at = self._loop.time()
                self.on_ack(ack)
                if ack.event is AckEventType.ERROR:
                    return self._handle_error(ack)
                if ack.event in (self.final_event, AckEventType.PERSISTED) and ack.timecode is not None:
                    self._confirmed_until = max(self._confirmed_until, ack.timecode)
                    self.stored += self.backlog.acknowledge(ack.timecode)
            if self._body_ended.done() and not self._ack_missing:
                break
        if self._body_ended.done():
            return ConnectionOutcome(idle=self._idle)
        return ConnectionOutcome("Kinesis ended the connection")

    @property
    def _ack_missing(self) -> bool:
        """Whether the final acknowledgement of the last fragment is missing."""
        return self._current is not None and self._confirmed_until < self._current.timecode

    def _handle_error(self, ack: Ack) -> ConnectionOutcome:
        """Handles an error acknowledgement. Without a timecode it belongs to the current fragment."""
        fragment = self.backlog.find(ack.timecode) if ack.timecode is not None else self._current
        remedy = ack.action
        if fragment is not None and ack.error != MAX_CONNECTION_DURATION:
            fragment.faults += 1
            if remedy is AckAction.DROP or (remedy is AckAction.RETRY and fragment.faults >= MAX_FAULTS):
                self.backlog.drop(fragment)
        return ConnectionOutcome(ack.description, remedy)


def _join_pieces(pieces: list[bytes], at: int) -> tuple[bytes, int]:
    """Joins pieces from index `at` on, at least _CHUNK_BYTES if available. Returns them and the next index."""
    size, end = 0, at
    while end < len(pieces) and size < _CHUNK_BYTES:
        size += len(pieces[end])
        end += 1
    return pieces[at] if end == at + 1 else b"".join(pieces[at:end]), end


async def _rejection(response: aiohttp.ClientResponse) -> ConnectionOutcome:
    """Returns the outcome of an HTTP error response. The error type is in a header or in the body."""
    body = await response.content.read(_MAX_ERROR_BYTES)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    error: dict[str, object] = value if isinstance(value, dict) else {}
    kind = response.headers.get("x-amzn-ErrorType") or response.headers.get("x-amz-ErrorType")
    kind = str(kind or error.get("__type") or error.get("code") or "").partition(":")[0].rpartition("#")[2][:80]
    message = str(error.get("message") or error.get("Message") or "")[:200]
    request = response.headers.get("x-amzn-RequestId", "")[:64]
    remedy, refresh = _REJECTIONS.get(kind, (AckAction.WAIT, response.status in (401, 403, 404)))
    status = f"{response.status} {kind or response.reason or ''}".strip()
    tail = f" (request {request})" if request else ""
    return ConnectionOutcome(f"Kinesis refuses: {status}{': ' if message else ''}{message}{tail}", remedy, refresh)
