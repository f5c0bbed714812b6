"""Events are stored in the background, in batches and within bounds, also after an outage of the store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.diagnosis import event_log as module
from gateway.diagnosis.event_log import EventIds, EventLog, first_id, stored_event
from gateway.lib.clocks import Clocks
from gateway.lib.metric_table import EVENTS
from gateway.lib.metrics import Counter
from gateway.lib.rfc3339 import rfc3339
from gateway.ports.errors import StoreUnavailable
from gateway.ports.events import Event, EventType, StoredEvent
from gateway.ports.stores import EventQuery
from gateway.settings.models import EventsSettings
from tests.support.clock import Clock

NOW = 1_700_000_000.5
SETTINGS = EventsSettings(store="sqlite:///events.db", days=7, most=1000)


class Store:
    """A store in memory. away: it is unavailable. held: writes wait until it is set."""

    def __init__(self) -> None:
        self.batches: list[list[StoredEvent]] = []
        self.trims: list[tuple[str, int]] = []
        self.asked: list[EventQuery] = []
        self.away = False
        self.broken = False
        self.refused = asyncio.Event()
        self.held = asyncio.Event()
        self.held.set()

    @property
    def events(self) -> list[StoredEvent]:
        return [event for batch in self.batches for event in batch]

    async def append(self, events: Sequence[StoredEvent]) -> None:
        await self.held.wait()
        if self.away:
            self.refused.set()
            raise StoreUnavailable("away")
        if self.broken:
            self.broken = False
            raise ValueError("a fault of ours")
        self.batches.append(list(events))

    async def newest(self, query: EventQuery) -> list[StoredEvent]:
        self.asked.append(query)
        return self.events

    async def trim(self, oldest: str, most: int) -> None:
        self.trims.append((oldest, most))


@contextlib.asynccontextmanager
async def logging(store: Store, clock: Clock | None = None) -> AsyncIterator[tuple[EventLog, Counter]]:
    results = Counter(EVENTS)
    monotonic = clock or Clock(1000.0)
    async with EventLog(store, "n1", SETTINGS, results, Clocks(lambda: NOW, monotonic)) as log:
        yield log, results


def event(type: EventType = EventType.STREAM_STARTED, channel: str = "c1", **data: Any) -> Event:
    return Event(type, NOW, channel, data)


REFUSED = {"peer": "192.0.2.7", "protocol": "rtmp", "reason": "NotAuthorized", "refusal": "expired", "expired": 7}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0)
    monkeypatch.setattr(
        module, "Backoff", lambda *seconds: type("B", (), {"next": lambda s: 0, "reset": lambda s: None})()
    )


async def test_an_event_is_stored_with_its_node():
    store = Store()
    async with logging(store) as (log, results):
        log.record(event(stream="c1"))
    (stored,) = store.events
    assert (stored.type, stored.time, stored.channel, stored.node, stored.data) == (
        "stream.started", NOW, "c1", "n1", {"stream": "c1"},
    )  # fmt: skip
    assert results.values == {("stored",): 1}


async def test_a_reader_sees_all_events_recorded_before():
    store = Store()
    async with logging(store) as (log, _):
        log.record(event())
        assert await log.newest(EventQuery(10)) == store.events != []


async def test_readers_get_no_events_older_than_the_retention_days():
    store = Store()
    async with logging(store) as (log, _):
        await log.newest(EventQuery(10))
        await log.newest(EventQuery(10, since=first_id(NOW - 60)))
    assert [query.since for query in store.asked] == [first_id(NOW - 7 * 86_400), first_id(NOW - 60)]


async def test_events_wait_for_an_unavailable_store_and_keep_their_order():
    store = Store()
    store.away = True
    async with logging(store) as (log, results):
        log.record(event(n=0))
        await store.refused.wait()
        log.record(event(n=1))
        store.away = False
    assert [stored.data["n"] for stored in store.events] == [0, 1]
    assert results.values == {("stored",): 2}


async def test_events_for_a_slow_store_are_written_in_batches():
    store = Store()
    store.held.clear()
    async with logging(store) as (log, _):
        for n in range(250):
            log.record(event(n=n))
        store.held.set()
    assert [len(batch) for batch in store.batches] == [100, 100, 50]
    assert [stored.data["n"] for stored in store.events] == list(range(250))


async def test_a_full_queue_drops_the_oldest_refusal_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    store = Store()
    store.held.clear()
    async with logging(store) as (log, results):
        log.record(event(n=0))
        log.record(event(EventType.PUBLISH_REFUSED, **REFUSED))
        for n in range(1, 5):
            log.record(event(n=n))
        assert len(log) == 3
        store.held.set()
    assert [stored.data.get("n") for stored in store.events] == [2, 3, 4]
    assert results.values == {("dropped",): 3, ("stored",): 3}


async def test_only_refused_pushes_have_a_rate_limit():
    store, clock = Store(), Clock(1000.0)
    async with logging(store, clock) as (log, results):
        for _ in range(1000):
            log.record(event(EventType.PUBLISH_REFUSED, **REFUSED))
        log.record(event())
        clock.now += 10
        for _ in range(20):
            log.record(event(EventType.PUBLISH_REFUSED, **REFUSED))
    refused = [stored for stored in store.events if stored.type == "publish.refused"]
    assert len(refused) == 610 and len(store.events) == 611
    assert results.values == {("dropped",): 410, ("stored",): 611}


async def test_snapshot_images_are_not_logged():
    store = Store()
    async with logging(store) as (log, _):
        log.record(event(EventType.RECORDING_READY, kind="image", key="c1/images/a.jpg"))
        log.record(event(EventType.RECORDING_READY, kind="video", key="c1/mp4/a.mp4"))
    assert [stored.data["kind"] for stored in store.events] == ["video"]


async def test_an_event_that_cannot_be_stored_does_not_block_others():
    store = Store()
    store.broken = True
    async with logging(store) as (log, results):
        log.record(event(n=0))
        assert await log.newest(EventQuery(10)) == []
        log.record(event(n=1))
    assert [stored.data["n"] for stored in store.events] == [1]
    assert results.values == {("dropped",): 1, ("stored",): 1}


async def test_events_lost_through_an_unavailable_store_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FLUSH_SECONDS", 0)
    store = Store()
    store.away = True
    async with logging(store) as (log, results):
        log.record(event())
        await store.refused.wait()
    log.record(event())  # after the end
    assert results.values == {("dropped",): 2}


async def test_old_events_are_trimmed():
    store = Store()
    async with logging(store):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert store.trims == [(first_id(NOW - 7 * 86_400), 1000)]


def test_event_ids_sort_by_time_and_order():
    ids, others = EventIds(), EventIds()
    made = [ids.next(NOW), ids.next(NOW), ids.next(NOW + 0.001), others.next(NOW + 0.002)]
    assert made == sorted(made) and len({len(id) for id in made}) == 1 and len(made[0]) == 24
    assert ids.next(NOW)[:12] == first_id(NOW)
    assert first_id(-5) == "0" * 12 and first_id(1e300) == "f" * 12


@given(st.floats(1.6e9, 2e9))
@example(1_700_000_000.118_6)
def test_an_event_is_found_by_its_displayed_time(seconds: float) -> None:
    """Once the displayed time was rounded up and the id was truncated, so an event preceded its own time."""
    shown = datetime.fromisoformat(rfc3339(seconds)).timestamp()
    assert EventIds().next(seconds)[:12] == first_id(shown)


def test_a_refusal_is_stored_with_the_public_reason():
    data = stored_event(event(EventType.PUBLISH_REFUSED, **REFUSED), "1", "n1").data
    assert data == {"peer": "192.0.2.7", "protocol": "rtmp", "reason": "expired", "expired": 7}


@pytest.mark.parametrize(
    ("data", "stored"),
    [
        (
            {"error": "cannot reach rtmp://a.example/app/the-relay-key"},
            {"error": "cannot reach rtmp://a.example/app/***"},
        ),
        ({"value": float("nan")}, {"omitted": "no JSON"}),
        ({"text": "x" * 7_990, "more": "y" * 500}, {"omitted": "8514 bytes"}),
    ],
)
def test_secrets_nan_and_long_data_are_not_stored(data: dict[str, Any], stored: dict[str, Any]) -> None:
    assert stored_event(event(**data), "1", "n1").data == stored
