"""One PutMedia request: fragments go out in its body while acknowledgements arrive in its response."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import aiohttp

from gateway.lib.tasks import Tasks
from gateway.outputs.kinesis.fragment_backlog import FragmentBacklog, KvsFragment
from gateway.ports.stores import PutMediaRequest
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.kvs import Ack, AckAction, AckEventType, AckReader

CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 15.0  # the service sends the status before it reads the body
FINISH_SECONDS: Final = 10.0  # for the acknowledgements of sent fragments, after the body has ended
HURRY_SECONDS: Final = 3.0  # as FINISH_SECONDS, when the output is being stopped
IDLE_SECONDS: Final = 20.0  # without media, after which this side ends it; the service would after 30
MAX_FAULTS: Final = 3  # retryable errors that a fragment may cause before it is dropped
# The service accepts five fragments and 12.5 MB a second; a replay would send faster.
FRAGMENT_PAUSE: Final = 0.21
BYTES_PER_SECOND: Final = 11_000_000
_PIECE: Final = 1 << 18  # bytes of one chunk: a replay must not fill the socket's buffer at once
_MAX_REFUSAL_BYTES: Final = 8192
MAX_CONNECTION_DURATION: Final = 4003


class ConnectionEnd(StrEnum):
    """Why a connection ended, as far as the next one must know."""

    DONE = "done"  # the backlog is closed and all of it was sent
    ROTATED = "rotated"  # its time was over, or other tracks follow
    IDLE = "idle"  # no media arrived; a new connection is made when some does
    CLOSED = "closed"  # by the service
    ERROR = "error"  # an acknowledgement of an error: `remedy` says what to do
    REFUSED = "refused"  # by an HTTP status
    BROKEN = "broken"  # the network failed, or no answer came


@dataclass(frozen=True, slots=True)
class ConnectionOutcome:
    """How a connection ended. words: one line for the operator, "" if nothing is wrong. fresh: ask for the endpoint
    again.
    """

    ending: ConnectionEnd
    words: str = ""
    remedy: AckAction = AckAction.RETRY
    fresh: bool = False


# HTTP errors by their type, with the remedy. fresh: the endpoint or the credentials may have changed. Source, section
# "Errors":
# https://docs.aws.amazon.com/kinesisvideostreams/latest/dg/API_dataplane_PutMedia.html
_REFUSALS: Final[dict[str, tuple[AckAction, bool]]] = {
    "ClientLimitExceededException": (AckAction.WAIT, False),
    "ConnectionLimitExceededException": (AckAction.WAIT, False),
    "InvalidArgumentException": (AckAction.WAIT, False),
    "InvalidEndpointException": (AckAction.RETRY, True),
    "NotAuthorizedException": (AckAction.WAIT, True),
    "ResourceNotFoundException": (AckAction.WAIT, True),
}


class PutMediaConnection:
    """Sends the backlog from its first fragment on, and removes what the service has stored.

    final: the event after which a fragment is removed (PERSISTED; RECEIVED if the stream has no retention).
    until: the loop's time after which it ends at the next fragment.
    patience: seconds without an acknowledgement after which the connection counts as dead.
    on_ack: called with every acknowledgement.
    Two parties use it on the loop: the HTTP client reads `_body`, and `run` reads the response.
    """

    def __init__(
        self,
        backlog: FragmentBacklog,
        request: PutMediaRequest,
        *,
        final: AckEventType,
        until: float,
        patience: float,
        on_ack: Callable[[Ack], None],
    ) -> None:
        self._backlog = backlog
        self._request = request
        self._finals = {final, AckEventType.PERSISTED}
        self._until = until
        self._patience = patience
        self._on_ack = on_ack
        self._loop = asyncio.get_running_loop()
        self._header: bytes | None = None
        self._sending: KvsFragment | None = None  # the last fragment whose sending was begun
        self._confirmed = -1  # the latest time with a final acknowledgement
        self._body_over: asyncio.Future[None] = self._loop.create_future()
        self._ending = ConnectionEnd.ROTATED  # why the body ended
        self._stopping = False
        self._starved_at: float | None = None  # when the body began to wait for media
        self._heard_at = 0.0
        self.sent = 0
        self.stored = 0  # fragments that left the backlog through this connection

    async def run(self, http: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> ConnectionOutcome:
        """Runs until the connection ends. A cancellation ends the fragment and waits HURRY_SECONDS for
        acknowledgements.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            # The service sends the status before it reads the body; one that hangs never sends it.
            async with asyncio.timeout(CONNECT_SECONDS + ANSWER_SECONDS) as answering:
                async with http.post(
                    self._request.url,
                    data=self._body(),
                    headers=self._request.headers,
                    timeout=timeout,
                    ssl=tls if tls is not None else True,
                    allow_redirects=False,
                ) as response:
                    if response.status != 200:
                        return await _refusal(response)
                    answering.reschedule(None)
                    return await self._answered(response)
        except RemoteProtocolError as error:
            return ConnectionOutcome(ConnectionEnd.BROKEN, f"its answer cannot be read: {error}")
        except TimeoutError:
            return ConnectionOutcome(ConnectionEnd.BROKEN, "it does not answer", fresh=True)
        except (aiohttp.ClientError, OSError) as error:
            return ConnectionOutcome(
                ConnectionEnd.BROKEN, f"the connection broke: {_words(error)}", fresh=not self.stored
            )

    # ---- request ----

    async def _body(self) -> AsyncIterator[bytes]:
        """Yields the header, then fragments as they arrive; returning ends the request's body."""
        try:
            while (fragment := await self._next()) is not None:
                if self._header is None:
                    assert fragment.header is not None, "_next gives fragments whose tracks are known"
                    self._header = fragment.header
                    yield self._header
                async for piece in self._paced(fragment):
                    yield piece
        finally:
            if not self._body_over.done():
                self._body_over.set_result(None)

    async def _paced(self, fragment: KvsFragment) -> AsyncIterator[bytes]:
        """Yields the fragment's bytes as they arrive, no faster than the service accepts fragments and bytes."""
        if fragment.sends:
            self._backlog.replayed()
        fragment.sends += 1
        fragment.whole_sent = False
        self._sending = fragment
        begun = due = self._loop.time()
        at = 0
        while not (fragment.complete and at == len(fragment.pieces)):
            if at == len(fragment.pieces):
                if not await self._more():
                    return
                continue
            piece, at = _some(fragment.pieces, at)
            yield piece
            due = max(due, self._loop.time() - 1) + len(piece) / BYTES_PER_SECOND
            if (ahead := due - self._loop.time()) > 0.05:
                await asyncio.sleep(ahead)
        fragment.whole_sent = True
        self.sent += 1
        if (pause := begun + FRAGMENT_PAUSE - self._loop.time()) > 0:
            await asyncio.sleep(pause)

    async def _next(self) -> KvsFragment | None:
        """Waits for the next fragment for this connection, and returns it; None if the body ends before it."""
        while True:
            fragment = self._backlog.after(self._sending.number if self._sending is not None else 0)
            if fragment is None and self._backlog.closed:
                self._ending = ConnectionEnd.DONE
                return None
            if fragment is not None and fragment.header is not None:
                other = self._header is not None and fragment.header != self._header
                due = self._sending is not None and self._loop.time() >= self._until
                return None if other or due else fragment
            if not await self._more():
                return None

    async def _more(self) -> bool:
        """Waits for the backlog to change. Returns False if the body must end."""
        if not self._stopping:
            self._starved_at = self._loop.time()
            await self._backlog.changed()
            self._starved_at = None
        return not self._stopping

    def _stop(self, ending: ConnectionEnd) -> None:
        """Ends the body between two frames."""
        self._ending, self._stopping = ending, True
        self._backlog.notify()

    # ---- response ----

    async def _answered(self, response: aiohttp.ClientResponse) -> ConnectionOutcome:
        self._heard_at = self._loop.time()
        async with Tasks("kvs answer") as tasks:
            reading = tasks.start(self._read(response))
            try:
                return await self._until_over(reading)
            except asyncio.CancelledError:
                self._stop(ConnectionEnd.DONE)
                await asyncio.wait({reading}, timeout=HURRY_SECONDS)
                raise

    async def _until_over(self, reading: asyncio.Task[ConnectionOutcome]) -> ConnectionOutcome:
        """Waits for the end of the response, or until a time limit."""
        finish_by: float | None = None
        while not reading.done():
            now, over = self._loop.time(), self._body_over.done()
            if over and not self._awaited:
                return ConnectionOutcome(self._ending)
            if over and finish_by is None:
                finish_by = now + FINISH_SECONDS
            if finish_by is not None and now >= finish_by:
                return ConnectionOutcome(self._ending, "not all of it was acknowledged")
            if now >= self._heard_at + self._patience:
                return ConnectionOutcome(
                    ConnectionEnd.BROKEN, f"no acknowledgement for {self._patience:g} s", fresh=True
                )
            deadline = finish_by if finish_by is not None else self._heard_at + self._patience
            if self._starved_at is not None and not over:
                if now >= self._starved_at + IDLE_SECONDS:
                    self._stop(ConnectionEnd.IDLE)
                deadline = min(deadline, self._starved_at + IDLE_SECONDS) if not self._stopping else deadline
            elif not over:
                deadline = min(deadline, now + IDLE_SECONDS)
            waiting: set[asyncio.Future[Any]] = {reading} if over else {reading, self._body_over}
            await asyncio.wait(waiting, timeout=max(0.0, deadline - now), return_when=asyncio.FIRST_COMPLETED)
        return reading.result()

    async def _read(self, response: aiohttp.ClientResponse) -> ConnectionOutcome:
        """Reads acknowledgements until one ends the connection, or the response ends."""
        reader = AckReader()
        async for data in response.content.iter_any():
            for ack in reader.receive(data):
                self._heard_at = self._loop.time()
                self._on_ack(ack)
                if ack.event is AckEventType.ERROR:
                    return self._fault(ack)
                if ack.event in self._finals and ack.timecode is not None:
                    self._confirmed = max(self._confirmed, ack.timecode)
                    self.stored += self._backlog.acknowledge(ack.timecode)
            if self._body_over.done() and not self._awaited:
                return ConnectionOutcome(self._ending)
        if self._body_over.done():
            return ConnectionOutcome(self._ending)
        return ConnectionOutcome(ConnectionEnd.CLOSED, "it ended the connection")

    @property
    def _awaited(self) -> bool:
        """Whether the final acknowledgement of the last fragment is still missing."""
        return self._sending is not None and self._confirmed < self._sending.timecode

    def _fault(self, ack: Ack) -> ConnectionOutcome:
        """Handles an error acknowledgement, which names a fragment or else means the one that is being sent."""
        fragment = self._backlog.find(ack.timecode) if ack.timecode is not None else self._sending
        remedy = ack.action
        if fragment is not None and ack.error != MAX_CONNECTION_DURATION:
            fragment.faults += 1
            if remedy is AckAction.DROP or (remedy is AckAction.RETRY and fragment.faults >= MAX_FAULTS):
                self._backlog.drop(fragment)
        return ConnectionOutcome(ConnectionEnd.ERROR, ack.description, remedy)


def _some(pieces: list[bytes], at: int) -> tuple[bytes, int]:
    """Returns pieces from `at` on as one, at least _PIECE bytes or one piece, and the index after them."""
    size, end = 0, at
    while end < len(pieces) and size < _PIECE:
        size += len(pieces[end])
        end += 1
    return pieces[at] if end == at + 1 else b"".join(pieces[at:end]), end


async def _refusal(response: aiohttp.ClientResponse) -> ConnectionOutcome:
    """Returns the outcome of an HTTP error; its type is in a header or in the body."""
    body = await response.content.read(_MAX_REFUSAL_BYTES)
    said: dict[str, object] = {}
    try:
        value = json.loads(body)
        said = value if isinstance(value, dict) else {}
    except (ValueError, RecursionError):
        said = {}
    kind = response.headers.get("x-amzn-ErrorType") or response.headers.get("x-amz-ErrorType")
    kind = str(kind or said.get("__type") or said.get("code") or "").partition(":")[0].rpartition("#")[2][:80]
    words = str(said.get("message") or said.get("Message") or "")[:200]
    request = response.headers.get("x-amzn-RequestId", "")[:64]
    remedy, fresh = _REFUSALS.get(kind, (AckAction.WAIT, response.status in (401, 403, 404)))
    described = f"{response.status} {kind or response.reason or ''}".strip()
    tail = f" (request {request})" if request else ""
    return ConnectionOutcome(
        ConnectionEnd.REFUSED, f"it refuses: {described}{': ' if words else ''}{words}{tail}", remedy, fresh
    )


def _words(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
