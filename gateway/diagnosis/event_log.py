"""The events log: writes events to a store in the background, and reads them."""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Final, Self, TypeAlias

import structlog

from gateway.lib.backoff import Backoff
from gateway.lib.clocks import SYSTEM_CLOCKS, Clocks
from gateway.lib.metrics import Counter
from gateway.lib.rfc3339 import milliseconds
from gateway.lib.tasks import Tasks
from gateway.lib.token_bucket import TokenBucket
from gateway.ports.errors import StoreUnavailable
from gateway.ports.events import Event, EventType, StoredEvent
from gateway.ports.stores import EventQuery, EventStore
from gateway.settings.models import EventsSettings

log = structlog.get_logger(__name__)

MAX_WAITING: Final = 10_000  # events that wait for the store
MAX_DATA: Final = 8_192  # bytes of an event's data as JSON
# Refused pushes that one node stores. Any client can cause them; encoders with an old key try again every few seconds.
REFUSALS_PER_SECOND: Final = 1.0
REFUSALS_BURST: Final = 600.0
_BATCH: Final = 100  # events of one write
_PAUSE: Final = 0.2  # seconds between two writes
_TRIM_SECONDS: Final = 600.0
_FLUSH_SECONDS: Final = 5.0  # for the waiting events at shutdown
_READ_AFTER_WRITE: Final = 1.0  # seconds for which a reader waits for the events of this node
_DAY: Final = 86_400

_Waiting: TypeAlias = tuple[str, Event]  # an event with its id


class EventIds:
    """Makes ids of 24 hexadecimal digits that sort by time: milliseconds, a counter, random digits of the process."""

    def __init__(self) -> None:
        self._process = secrets.token_hex(4)
        self._count = 0

    def next(self, seconds: float) -> str:
        """Returns the id of an event. seconds: its time since 1970."""
        self._count = (self._count + 1) & 0xFFFF
        return f"{first_id(seconds)}{self._count:04x}{self._process}"


def first_id(seconds: float) -> str:
    """Returns the smallest id of this time or later, without the last digits. seconds: since 1970.

    The time is rounded like the time that answers show, so clients can ask for events before or since a shown time.
    """
    return f"{min(max(0, milliseconds(seconds)), 0xFFFFFFFFFFFF):012x}"


def stored_event(event: Event, id: str, node: str) -> StoredEvent:
    """Returns an event as it is stored, without secrets. The reason of a refused push is the one that clients see."""
    data = event.masked_data()
    if event.type is EventType.PUBLISH_REFUSED and "refusal" in data:
        data["reason"] = data.pop("refusal")
    try:
        text = json.dumps(data, default=str, allow_nan=False)
    except ValueError:  # NaN or infinity, which JSON does not have
        text = json.dumps({"omitted": "no JSON"})
    if len(text) > MAX_DATA:
        text = json.dumps({"omitted": f"{len(text)} bytes"})
    return StoredEvent(id, str(event.type), event.time, event.channel, node, json.loads(text))


class EventLog:
    """A listener of events: `events.listen(event_log.record)` inside `async with EventLog(…) as event_log`.

    At most MAX_WAITING events wait for the store. Beyond that, the oldest refused push is dropped, or else the oldest
    event. `results` counts stored and dropped events. A node stores at most REFUSALS_PER_SECOND refused pushes on
    average, and no snapshots, because each channel has one every few seconds. While the store does not answer, events
    wait and are written again.

    node: id of this node.
    """

    def __init__(
        self, store: EventStore, node: str, settings: EventsSettings, results: Counter, clocks: Clocks = SYSTEM_CLOCKS
    ) -> None:
        self._store, self._node, self._results = store, node, results
        self._kept_seconds, self._max_stored = settings.days * _DAY, settings.most
        self._clocks = clocks
        self._ids = EventIds()
        self._refused: deque[_Waiting] = deque()
        self._others: deque[_Waiting] = deque()
        self._bucket = TokenBucket(REFUSALS_PER_SECOND, REFUSALS_BURST)
        self._added, self._stored = asyncio.Event(), asyncio.Event()
        self._stored.set()  # no event waits
        self._unavailable = False  # the last write failed
        self._closed = False
        self._tasks = Tasks("events")

    async def __aenter__(self) -> Self:
        self._tasks.keep(self._write_all, "write")
        self._tasks.keep(self._trim_regularly, "trim")
        return self

    async def __aexit__(self, *error: object) -> None:
        """Stores the waiting events for at most _FLUSH_SECONDS. The rest is dropped."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._stored.wait()
        await self._tasks.close()
        if len(self):
            log.warning("events not stored before the shutdown", events=len(self))
            self._results.add("dropped", amount=len(self))

    def __len__(self) -> int:
        """Returns the number of waiting events."""
        return len(self._refused) + len(self._others)

    # ---- writing ----

    def record(self, event: Event) -> None:
        """Queues an event; returns at once."""
        if event.type is EventType.RECORDING_READY and event.data.get("kind") == "image":
            return
        refused = event.type is EventType.PUBLISH_REFUSED
        if self._closed or (refused and not self._bucket.take(1, self._clocks.monotonic())):
            self._results.add("dropped")
            return
        (self._refused if refused else self._others).append((self._ids.next(event.time), event))
        self._drop_surplus()
        self._stored.clear()
        self._added.set()

    def _drop_surplus(self) -> None:
        while len(self) > MAX_WAITING:
            (self._refused or self._others).popleft()
            self._results.add("dropped")

    async def _write_all(self) -> None:
        """Writes events in batches until it is cancelled."""
        backoff = Backoff(1, 30)
        while True:
            await self._added.wait()
            batch = self._next_batch()
            try:
                await self._store.append(await asyncio.to_thread(self._to_store, batch))
            except StoreUnavailable as error:
                self._return_batch(batch)
                self._set_unavailable(str(error))
                await asyncio.sleep(backoff.next())
                continue
            except asyncio.CancelledError:
                self._return_batch(batch)
                raise
            except Exception as error:  # the same events would fail again
                log.error("events cannot be stored", events=len(batch), exc_info=error)
                self._results.add("dropped", amount=len(batch))
            else:
                self._results.add("stored", amount=len(batch))
                self._set_unavailable("")
                backoff.reset()
            if not len(self):
                self._added.clear()
                self._stored.set()
            await asyncio.sleep(_PAUSE)

    def _to_store(self, batch: Sequence[_Waiting]) -> list[StoredEvent]:
        """Returns the events as they are stored. Runs in a thread, because masking takes 0.2 ms for each event."""
        return [stored_event(event, id, self._node) for id, event in batch]

    def _next_batch(self) -> list[_Waiting]:
        """Takes the next events from the queues."""
        batch = list(islice(self._others, _BATCH))
        batch += islice(self._refused, _BATCH - len(batch))
        for waiting in batch:
            self._queue_of(waiting).popleft()
        return batch

    def _return_batch(self, batch: Sequence[_Waiting]) -> None:
        """Puts events back, before the newer ones."""
        for waiting in reversed(batch):
            self._queue_of(waiting).appendleft(waiting)
        self._drop_surplus()

    def _queue_of(self, waiting: _Waiting) -> deque[_Waiting]:
        return self._refused if waiting[1].type is EventType.PUBLISH_REFUSED else self._others

    def _set_unavailable(self, reason: str) -> None:
        """Logs the first failure, and the first success after it. reason: "" after a success."""
        if reason and not self._unavailable:
            log.warning("the events store does not answer: events wait", reason=reason)
        elif self._unavailable and not reason:
            log.info("the events store answers again")
        self._unavailable = bool(reason)

    async def _trim_regularly(self) -> None:
        """Deletes old events from the store until it is cancelled."""
        while True:
            try:
                await self._store.trim(first_id(self._clocks.wall() - self._kept_seconds), self._max_stored)
            except StoreUnavailable as error:
                log.warning("old events cannot be deleted now", reason=str(error))
            await asyncio.sleep(_TRIM_SECONDS)

    # ---- reading ----

    async def since(self, channel: str, seconds: float) -> list[StoredEvent]:
        """Returns the events of a channel since a time, of any node. seconds: since 1970. Raises StoreUnavailable."""
        return await self.newest(EventQuery(_BATCH, channel, since=first_id(seconds)))

    async def newest(self, query: EventQuery) -> list[StoredEvent]:
        """Returns the selected events, the newest first. Raises StoreUnavailable.

        The events of this node that just happened are included, if the store is fast enough.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self._unavailable else _READ_AFTER_WRITE):
                await self._stored.wait()
        kept = first_id(self._clocks.wall() - self._kept_seconds)
        return await self._store.newest(replace(query, since=max(query.since, kept)))
