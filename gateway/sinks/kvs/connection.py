"""Connection: one PutMedia request, fragments going up its body while acknowledgements come down its answer."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import aiohttp

from gateway.hub.ports import PutMediaRequest
from gateway.lib.aio import Tasks
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.kvs import Ack, AckReader, EventType, Remedy
from gateway.sinks.kvs.backlog import Backlog, Fragment

CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 15.0  # the status comes before the body is read
FINISH_SECONDS: Final = 10.0  # for the acknowledgements of what was sent, once the body has ended
HURRY_SECONDS: Final = 3.0  # the same, where somebody waits
IDLE_SECONDS: Final = 20.0  # without media, after which we end it: the service would after 30
MOST_FAULTS: Final = 3  # errors worth a retry that a fragment may cause before it goes
# Five fragments a second and 12.5 MB a second are taken; a replay would send faster.
FRAGMENT_PAUSE: Final = 0.21
BYTES_PER_SECOND: Final = 11_000_000
_PIECE: Final = 1 << 18  # bytes of one chunk: what is replayed must not fill the socket's buffer at once
_MOST_REFUSAL: Final = 8192
MAX_CONNECTION_DURATION: Final = 4003


class Ending(StrEnum):
    """Why a connection ended, as far as the next one has to know."""

    DONE = "done"  # the backlog is closed and all of it was sent
    ROTATED = "rotated"  # it was time, or other tracks come
    IDLE = "idle"  # no media came; a new connection makes sense when some does
    CLOSED = "closed"  # by the service
    ERROR = "error"  # an acknowledgement of an error: `remedy` says what to do
    REFUSED = "refused"  # by an HTTP status
    BROKEN = "broken"  # the network, or nothing came back


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended. words: one line for the operator, "" where nothing is wrong; fresh: ask for the endpoint again."""

    ending: Ending
    words: str = ""
    remedy: Remedy = Remedy.RETRY
    fresh: bool = False


# HTTP errors by their type, with what helps: https://docs.aws.amazon.com/kinesisvideostreams/latest/dg/
# API_dataplane_PutMedia.html, "Errors". fresh: the endpoint or the credentials may have changed.
_REFUSALS: Final[dict[str, tuple[Remedy, bool]]] = {
    "ClientLimitExceededException": (Remedy.WAIT, False),
    "ConnectionLimitExceededException": (Remedy.WAIT, False),
    "InvalidArgumentException": (Remedy.WAIT, False),
    "InvalidEndpointException": (Remedy.RETRY, True),
    "NotAuthorizedException": (Remedy.WAIT, True),
    "ResourceNotFoundException": (Remedy.WAIT, True),
}


class Connection:
    """Sends what the backlog holds, from its first fragment on, and takes from it what the service has stored.

    final: the event that lets a fragment go (PERSISTED; RECEIVED where the stream keeps nothing). until: the loop's
    time at which it ends at the next fragment. patience: seconds without an acknowledgement after which it counts as
    dead. on_ack: told of every acknowledgement. Two parties touch it, both on the loop: the HTTP client, which pulls
    `_body`, and `run`, which reads the answer.
    """

    def __init__(
        self,
        backlog: Backlog,
        request: PutMediaRequest,
        *,
        final: EventType,
        until: float,
        patience: float,
        on_ack: Callable[[Ack], None],
    ) -> None:
        self._backlog = backlog
        self._request = request
        self._finals = {final, EventType.PERSISTED}
        self._until = until
        self._patience = patience
        self._on_ack = on_ack
        self._loop = asyncio.get_running_loop()
        self._header: bytes | None = None
        self._sending: Fragment | None = None  # the last fragment that was begun
        self._confirmed = -1  # the latest time whose final acknowledgement came
        self._body_over: asyncio.Future[None] = self._loop.create_future()
        self._ending = Ending.ROTATED  # why the body ended
        self._stopping = False
        self._starved_at: float | None = None  # since when the body waits for media
        self._heard_at = 0.0
        self.sent = 0
        self.stored = 0  # fragments that left the backlog through this connection

    async def run(self, http: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> Outcome:
        """Until it ends. A cancellation ends the fragment and waits HURRY_SECONDS for what is under way."""
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            # The status comes before the body is read; a service that hangs never sends it.
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
            return Outcome(Ending.BROKEN, f"its answer cannot be read: {error}")
        except TimeoutError:
            return Outcome(Ending.BROKEN, "it does not answer", fresh=True)
        except (aiohttp.ClientError, OSError) as error:
            return Outcome(Ending.BROKEN, f"the connection broke: {_words(error)}", fresh=not self.stored)

    # ---- upwards ----

    async def _body(self) -> AsyncIterator[bytes]:
        """Header, then fragments as they come; returning ends the request's body."""
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

    async def _paced(self, fragment: Fragment) -> AsyncIterator[bytes]:
        """The fragment's bytes as they come, no faster than the service takes fragments and bytes."""
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

    async def _next(self) -> Fragment | None:
        """The next fragment for this connection, waiting for it; None where the body ends before it."""
        while True:
            fragment = self._backlog.after(self._sending.number if self._sending is not None else 0)
            if fragment is None and self._backlog.closed:
                self._ending = Ending.DONE
                return None
            if fragment is not None and fragment.header is not None:
                other = self._header is not None and fragment.header != self._header
                due = self._sending is not None and self._loop.time() >= self._until
                return None if other or due else fragment
            if not await self._more():
                return None

    async def _more(self) -> bool:
        """Waits for the backlog to change; False where the body shall end."""
        if not self._stopping:
            self._starved_at = self._loop.time()
            await self._backlog.changed()
            self._starved_at = None
        return not self._stopping

    def _stop(self, ending: Ending) -> None:
        """Ends the body between two frames."""
        self._ending, self._stopping = ending, True
        self._backlog.notify()

    # ---- downwards ----

    async def _answered(self, response: aiohttp.ClientResponse) -> Outcome:
        self._heard_at = self._loop.time()
        async with Tasks("kvs answer") as tasks:
            reading = tasks.start(self._read(response))
            try:
                return await self._until_over(reading)
            except asyncio.CancelledError:
                self._stop(Ending.DONE)
                await asyncio.wait({reading}, timeout=HURRY_SECONDS)
                raise

    async def _until_over(self, reading: asyncio.Task[Outcome]) -> Outcome:
        """The answer's end, or the moment at which waiting for it makes no more sense."""
        finish_by: float | None = None
        while not reading.done():
            now, over = self._loop.time(), self._body_over.done()
            if over and not self._awaited:
                return Outcome(self._ending)
            if over and finish_by is None:
                finish_by = now + FINISH_SECONDS
            if finish_by is not None and now >= finish_by:
                return Outcome(self._ending, "not all of it was acknowledged")
            if now >= self._heard_at + self._patience:
                return Outcome(Ending.BROKEN, f"no acknowledgement for {self._patience:g} s", fresh=True)
            deadline = finish_by if finish_by is not None else self._heard_at + self._patience
            if self._starved_at is not None and not over:
                if now >= self._starved_at + IDLE_SECONDS:
                    self._stop(Ending.IDLE)
                deadline = min(deadline, self._starved_at + IDLE_SECONDS) if not self._stopping else deadline
            elif not over:
                deadline = min(deadline, now + IDLE_SECONDS)
            waiting: set[asyncio.Future[Any]] = {reading} if over else {reading, self._body_over}
            await asyncio.wait(waiting, timeout=max(0.0, deadline - now), return_when=asyncio.FIRST_COMPLETED)
        return reading.result()

    async def _read(self, response: aiohttp.ClientResponse) -> Outcome:
        """Acknowledgements until one says how it ends, or the answer does."""
        reader = AckReader()
        async for data in response.content.iter_any():
            for ack in reader.receive(data):
                self._heard_at = self._loop.time()
                self._on_ack(ack)
                if ack.event is EventType.ERROR:
                    return self._fault(ack)
                if ack.event in self._finals and ack.timecode is not None:
                    self._confirmed = max(self._confirmed, ack.timecode)
                    self.stored += self._backlog.acknowledge(ack.timecode)
            if self._body_over.done() and not self._awaited:
                return Outcome(self._ending)
        if self._body_over.done():
            return Outcome(self._ending)
        return Outcome(Ending.CLOSED, "it ended the connection")

    @property
    def _awaited(self) -> bool:
        """Whether the final acknowledgement of the last fragment that was begun is still to come."""
        return self._sending is not None and self._confirmed < self._sending.timecode

    def _fault(self, ack: Ack) -> Outcome:
        """An error names a fragment, or means the one that is being sent."""
        fragment = self._backlog.find(ack.timecode) if ack.timecode is not None else self._sending
        remedy = ack.remedy
        if fragment is not None and ack.error != MAX_CONNECTION_DURATION:
            fragment.faults += 1
            if remedy is Remedy.DROP or (remedy is Remedy.RETRY and fragment.faults >= MOST_FAULTS):
                self._backlog.drop(fragment)
        return Outcome(Ending.ERROR, ack.words, remedy)


def _some(pieces: list[bytes], at: int) -> tuple[bytes, int]:
    """Pieces from `at` on in one, _PIECE bytes or one piece at least; and the index behind them."""
    size, end = 0, at
    while end < len(pieces) and size < _PIECE:
        size += len(pieces[end])
        end += 1
    return pieces[at] if end == at + 1 else b"".join(pieces[at:end]), end


async def _refusal(response: aiohttp.ClientResponse) -> Outcome:
    """What an HTTP error means; its type stands in a header, or in the body."""
    body = await response.content.read(_MOST_REFUSAL)
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
    remedy, fresh = _REFUSALS.get(kind, (Remedy.WAIT, response.status in (401, 403, 404)))
    described = f"{response.status} {kind or response.reason or ''}".strip()
    tail = f" (request {request})" if request else ""
    return Outcome(Ending.REFUSED, f"it refuses: {described}{': ' if words else ''}{words}{tail}", remedy, fresh)


def _words(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
