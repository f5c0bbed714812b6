"""Empties a backlog into one Kinesis stream, over as many connections as it takes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import structlog

from gateway.lib.backoff import Backoff
from gateway.outputs.kinesis.fragment_backlog import FragmentBacklog
from gateway.outputs.kinesis.put_media_connection import ConnectionEnd, ConnectionOutcome, PutMediaConnection
from gateway.ports.errors import OutputError, StoreUnavailable
from gateway.ports.stores import KvsEndpoints
from gateway.protocols.kvs import Ack, AckAction, AckEventType

log = structlog.get_logger(__name__)

BETWEEN_SECONDS: Final = 0.25  # Kinesis allows five calls a second per stream
TOKEN_MARGIN: Final = 60.0  # seconds before the credentials expire: the longest fragment plus a reserve
LEAST_SECONDS: Final = 20.0  # a short connection is better than none if the credentials expire soon


@dataclass(frozen=True, slots=True)
class DeliveryLimits:
    """rotate: seconds after which a new connection replaces the old one.

    patience: the longest time without an acknowledgement, seconds.
    log_every: number of acknowledgements for one line in the log; 0: no lines.
    """

    rotate: float
    patience: float
    log_every: int


class KvsDelivery:
    """Delivers to one Kinesis stream. `run` returns when the backlog is closed and all of it is stored.

    stream: name or ARN. An error is shown in `error` and tried again with growing pauses.
    After a connection that made progress, the next one begins at once.
    The old connection has always ended before a new one begins, because a stream accepts one at a time.
    """

    def __init__(
        self,
        backlog: FragmentBacklog,
        stream: str,
        endpoints: KvsEndpoints,
        http: aiohttp.ClientSession,
        tls: ssl.SSLContext | None,
        limits: DeliveryLimits,
    ) -> None:
        self._backlog = backlog
        self._stream = stream
        self._endpoints = endpoints
        self._http = http
        self._tls = tls
        self._limits = limits
        self._log = log.bind(kvs=stream)
        self._sent = 0
        self._final: AckEventType | None = None
        self._connection: PutMediaConnection | None = None
        self._last: Ack | None = None
        self._acks = 0
        self._first: asyncio.Future[str] | None = None
        self.arn = stream
        self.error: str | None = None

    async def run(self) -> None:
        """Delivers until all is stored; cancelling it ends the current fragment."""
        backoff, fresh = Backoff(0.5, 30.0), False
        while await self._something():
            try:
                outcome = await self._connect(fresh)
            except (StoreUnavailable, OutputError) as error:
                outcome = ConnectionOutcome(ConnectionEnd.REFUSED, str(error), AckAction.WAIT, fresh=True)
            fresh = outcome.fresh
            progress = self._count()
            if outcome.ending is ConnectionEnd.DONE and not len(self._backlog):
                self.error = None
                return
            if outcome.ending is ConnectionEnd.IDLE:
                await self._grown()
            if progress:
                backoff.reset()
            if not outcome.words or (progress and outcome.remedy is not AckAction.WAIT):
                # Nothing is wrong, or the problem ended with the connection.
                if outcome.words:
                    self._log.info("kinesis connection ended, another follows", reason=outcome.words)
                await asyncio.sleep(BETWEEN_SECONDS)
                continue
            pause = backoff.next()
            self._log.warning("kinesis takes nothing", reason=outcome.words, again_in=round(pause, 1))
            self.error = outcome.words[:300]
            self._tell_first(OutputError(self.error))
            await asyncio.sleep(max(BETWEEN_SECONDS, pause))

    async def started(self) -> str:
        """Returns the fragment number in the first acknowledgement that has one. Call it once, before `run`.

        Raises OutputError if an error occurs before that.
        """
        self._first = asyncio.get_running_loop().create_future()
        return await self._first

    def report(self) -> dict[str, Any]:
        """Returns the state of the fragments and of the connection, for the API."""
        backlog, last = self._backlog, self._last
        sent = self._sent + (self._connection.sent if self._connection is not None else 0)
        said: dict[str, Any] = {
            "stream": self.arn,
            "connected": self._connection is not None and self.error is None,
            "fragments": {
                "sent": sent,
                "persisted": backlog.counts.persisted,
                "replayed": backlog.counts.replayed,
                "dropped": backlog.counts.dropped,
                "unconfirmed": backlog.counts.unconfirmed,
                "waiting": len(backlog),
            },
            "behind": round(backlog.seconds, 1),
            "lastAck": None
            if last is None
            else {"event": str(last.event), "timecode": last.timecode, "fragment": last.number},
        }
        if self.error is not None:
            said["error"] = self.error
        return said

    async def _something(self) -> bool:
        """Waits for a fragment that can be sent. Returns False if none is left and none will come."""
        while (first := self._backlog.first) is None or first.header is None:
            if first is None and self._backlog.closed:
                return False
            await self._backlog.changed()
        return True

    async def _grown(self) -> None:
        growth = self._backlog.growth
        while self._backlog.growth == growth and not self._backlog.closed:
            await self._backlog.changed()

    async def _connect(self, fresh: bool) -> ConnectionOutcome:
        now = time.time()
        request = await self._endpoints.put_media(self._stream, now, fresh=fresh)
        if self._final is None:
            self._final = await self._what_is_final()
        lasts = self._limits.rotate
        if request.expires:
            lasts = max(LEAST_SECONDS, min(lasts, request.expires - TOKEN_MARGIN - now))
        self._connection = PutMediaConnection(
            self._backlog,
            request,
            final=self._final,
            until=asyncio.get_running_loop().time() + lasts,
            patience=self._limits.patience,
            on_ack=self._note,
        )
        return await self._connection.run(self._http, self._tls)

    async def _what_is_final(self) -> AckEventType:
        """Returns the last acknowledgement that a fragment gets.

        A stream without retention acknowledges no storing. If the describe call fails, retention is assumed, as most
        have it.
        """
        with contextlib.suppress(StoreUnavailable, OutputError):
            self.arn, hours = await self._endpoints.describe(self._stream)
            return AckEventType.PERSISTED if hours else AckEventType.RECEIVED
        return AckEventType.PERSISTED

    def _count(self) -> bool:
        """Adds the counters of the last connection, and returns whether anything was stored."""
        connection, self._connection = self._connection, None
        if connection is None:
            return False
        self._sent += connection.sent
        return connection.stored > 0

    def _note(self, ack: Ack) -> None:
        self._last = ack
        if ack.event is AckEventType.ERROR:
            self._log.warning("kinesis reports an error", error=ack.description, timecode=ack.timecode)
            return
        if ack.event is not AckEventType.IDLE:
            self.error = None
        if ack.number:
            self._tell_first(ack.number)
        every = self._limits.log_every
        if every and self._acks % every == 0:
            self._log.info(
                "kinesis acknowledges", event_type=str(ack.event), timecode=ack.timecode, count=self._acks + 1
            )
        self._acks += 1

    def _tell_first(self, told: str | OutputError) -> None:
        first, self._first = self._first, None
        if first is None or first.done():
            return
        if isinstance(told, str):
            first.set_result(told)
        else:
            first.set_exception(told)
