"""Sends a backlog to one Kinesis stream, over one connection after the other."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.lib.backoff import Backoff
from gateway.outputs.kinesis.fragment_backlog import FragmentBacklog
from gateway.outputs.kinesis.put_media_connection import ConnectionOutcome, PutMediaConnection
from gateway.ports.errors import OutputError, StoreUnavailable
from gateway.ports.stores import KvsEndpoints
from gateway.protocols.kvs import Ack, AckAction, AckEventType
from gateway.settings.models import KvsSettings

if TYPE_CHECKING:
    import aiohttp

log = structlog.get_logger(__name__)

# The next connection replaces a connection of this age, at a key frame. Kinesis ends each after 45 minutes.
ROTATE_SECONDS: Final = 2280.0
BETWEEN_SECONDS: Final = 0.25  # between connections: Kinesis allows five calls a second per stream
TOKEN_MARGIN: Final = (
    60.0  # seconds from the end of a connection to that of its credentials: the longest fragment and a reserve
)
MIN_SECONDS: Final = 20.0  # duration of a connection, even if the credentials expire soon


@dataclass(slots=True, eq=False)
class KvsDelivery:
    """Sends a backlog to one Kinesis stream. `run` returns when the backlog is closed and completely stored.

    stream: name or ARN. After an error, `error` is set and the next connection waits, with growing pauses.
    After a connection that stored fragments, the next one begins at once.
    A connection begins after the previous one has ended, because a stream accepts only one at a time.
    """

    backlog: FragmentBacklog
    stream: str
    endpoints: KvsEndpoints
    http: aiohttp.ClientSession
    tls: ssl.SSLContext | None
    kvs: KvsSettings
    arn: str = field(init=False)
    error: str | None = field(default=None, init=False)
    _sent: int = field(default=0, init=False)
    _final_event: AckEventType | None = field(default=None, init=False)
    _connection: PutMediaConnection | None = field(default=None, init=False)
    _last_ack: Ack | None = field(default=None, init=False)
    _acks: Counter[AckEventType] = field(default_factory=Counter, init=False)  # acknowledgements by kind
    _first_number: asyncio.Future[str] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.arn = self.stream  # until Kinesis describes it

    async def run(self) -> None:
        """Sends until everything is stored. A cancellation ends the current fragment."""
        backoff, refresh = Backoff(0.5, 30.0), False
        while await self._wait_for_fragment():
            try:
                outcome = await self._connect(refresh)
            except (StoreUnavailable, OutputError) as error:
                outcome = ConnectionOutcome(str(error), AckAction.WAIT, refresh=True)
            refresh = outcome.refresh
            progress = self._add_counters()
            if not outcome.message and self.backlog.closed and not len(self.backlog):
                self.error = None
                return
            if outcome.idle:
                await self._wait_for_growth()
            if progress:
                backoff.reset()
            if not outcome.message or (progress and outcome.remedy is not AckAction.WAIT):
                # There was no error, or it ended with the connection.
                if outcome.message:
                    log.info("kinesis connection ended, another follows", kvs=self.stream, reason=outcome.message)
                await asyncio.sleep(BETWEEN_SECONDS)
                continue
            pause = backoff.next()
            log.warning(
                "kinesis accepts no fragments", kvs=self.stream, reason=outcome.message, again_in=round(pause, 1)
            )
            self.error = outcome.message[:300]
            self._resolve_first(OutputError(self.error))
            await asyncio.sleep(max(BETWEEN_SECONDS, pause))

    async def wait_for_first_fragment(self) -> str:
        """Returns the first acknowledged fragment number. Call it before `run`, and again after each error.

        Raises OutputError if an error occurs first.
        """
        self._first_number = asyncio.get_running_loop().create_future()
        return await self._first_number

    def report(self) -> dict[str, Any]:
        """Returns the state of the fragments and of the connection, for the API."""
        backlog, last_ack = self.backlog, self._last_ack
        sent = self._sent + (self._connection.sent if self._connection is not None else 0)
        status: dict[str, Any] = {
            "stream": self.arn,
            "connected": self._connection is not None and self.error is None,
            "fragments": {"sent": sent, **asdict(backlog.counts), "waiting": len(backlog)},
            "behind": round(backlog.seconds, 1),
            "lastAck": None
            if last_ack is None
            else {"event": str(last_ack.event), "timecode": last_ack.timecode, "fragment": last_ack.number},
        }
        if self.error is not None:
            status["error"] = self.error
        return status

    async def _wait_for_fragment(self) -> bool:
        """Waits for a fragment that can be sent. Returns False if the backlog is closed and empty."""
        while (first := self.backlog.first) is None or first.header is None:
            if first is None and self.backlog.closed:
                return False
            await self.backlog.wait_for_change()
        return True

    async def _wait_for_growth(self) -> None:
        """Waits for bytes to send or for the close of the backlog, because Kinesis ends connections without media."""
        bytes_added = self.backlog.bytes_added
        while self.backlog.bytes_added == bytes_added and not self.backlog.closed:
            await self.backlog.wait_for_change()

    async def _connect(self, refresh: bool) -> ConnectionOutcome:
        """Runs one connection. refresh: whether to get a new endpoint and new credentials."""
        now = time.time()
        request = await self.endpoints.put_media(self.stream, now, fresh=refresh)
        if self._final_event is None:
            self._final_event = await self._find_final_event()
        duration = ROTATE_SECONDS
        if request.expires:
            duration = max(MIN_SECONDS, min(duration, request.expires - TOKEN_MARGIN - now))
        self._connection = PutMediaConnection(
            self.backlog,
            request,
            final_event=self._final_event,
            until=asyncio.get_running_loop().time() + duration,
            on_ack=self._on_ack,
        )
        return await self._connection.run(self.http, self.tls)

    async def _find_final_event(self) -> AckEventType:
        """Returns the event of the last acknowledgement for a fragment.

        A stream without retention sends no PERSISTED. If the describe call fails, retention is assumed, because most
        streams have it.
        """
        with contextlib.suppress(StoreUnavailable, OutputError):
            self.arn, hours = await self.endpoints.describe(self.stream)
            return AckEventType.PERSISTED if hours else AckEventType.RECEIVED
        return AckEventType.PERSISTED

    def _add_counters(self) -> bool:
        """Adds the counters of the last connection. Returns whether it stored a fragment."""
        connection, self._connection = self._connection, None
        if connection is None:
            return False
        self._sent += connection.sent
        return connection.stored > 0

    def _on_ack(self, ack: Ack) -> None:
        self._last_ack = ack
        if ack.event is AckEventType.ERROR:
            log.warning("kinesis reports an error", kvs=self.stream, error=ack.description, timecode=ack.timecode)
            return
        if ack.event is not AckEventType.IDLE:
            self.error = None
        if ack.number:
            self._resolve_first(ack.number)
        self._acks[ack.event] += 1
        count = self._acks[ack.event]
        every = self.kvs.log_every
        if ack.event is AckEventType.PERSISTED or (every and (count - 1) % every == 0):
            log.info(
                "kinesis acknowledges", kvs=self.stream, event_type=str(ack.event), timecode=ack.timecode, count=count
            )

    def _resolve_first(self, result: str | OutputError) -> None:
        first, self._first_number = self._first_number, None
        if first is None or first.done():
            return
        if isinstance(result, str):
            first.set_result(result)
        else:
            first.set_exception(result)
