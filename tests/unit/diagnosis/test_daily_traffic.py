"""Traffic by day: kept over restarts, added up over processes, and split at midnight."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.local.stores import SqliteConsole
from gateway.diagnosis import daily_traffic
from gateway.diagnosis.daily_traffic import DAYS, DailyTraffic
from gateway.lib.traffic import TrafficCounts
from gateway.live.sink import EndReason
from gateway.media.track import AccessUnit
from gateway.ports.errors import StoreUnavailable
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, picture
from tests.support.clock import Clock

NOON = 1_795_694_400.0  # 2026-11-26T12:00Z
DAY = 86_400


class Store(SqliteConsole):
    """Counts writes. down: it does not answer."""

    down = False
    writes = reads = 0

    async def put(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> None:
        if self.down:
            raise StoreUnavailable("gone")
        self.writes += 1
        await super().put(kind, key, value, expires)

    async def list(self, kind: str) -> dict[str, dict[str, Any]]:
        if self.down:
            raise StoreUnavailable("gone")
        self.reads += 1
        return await super().list(kind)


class Process:
    def __init__(self, store: Store, clock: Clock) -> None:
        self.counts = TrafficCounts()
        self.traffic = DailyTraffic(self.counts, store, clock)

    def send(self, size: int, channel: str = "c1", received: int = 0) -> None:
        tally = self.counts.of(channel)
        tally.sent += size
        tally.received += received


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    async with Store(tmp_path / "console.db", clock) as store:
        yield store


async def test_bytes_are_known_at_once_and_after_a_restart(store: Store, clock: Clock):
    one = Process(store, clock)
    one.send(1000, received=10)
    assert await one.traffic.by_day("c1") == [("2026-11-26", 10, 1000)]
    await one.traffic.save()
    one.send(1)
    assert await one.traffic.by_day("c1") == [("2026-11-26", 10, 1001)]
    await one.traffic.save()
    again = Process(store, clock)
    again.send(5)
    assert await again.traffic.by_day("c1") == [("2026-11-26", 10, 1006)]
    assert await again.traffic.by_day("other") == [("2026-11-26", 0, 0)]


async def test_processes_add_up(store: Store, clock: Clock):
    one, other = Process(store, clock), Process(store, clock)
    one.send(1000)
    other.send(20)
    other.send(7, "c2")
    assert await one.traffic.by_day("c1") == [("2026-11-26", 0, 1000)]
    for process in (one, other, one):
        await process.traffic.save()
    assert await one.traffic.by_day("c1") == [("2026-11-26", 0, 1020)]
    assert await one.traffic.by_day() == [("2026-11-26", 0, 1027)]
    assert await one.traffic.of_day("2026-11-26") == {"c1": (0, 1020), "c2": (0, 7)}


@pytest.mark.parametrize("entry", [{"c1": 5}, {"c1": [1]}, {"c1": ["x", None]}])
async def test_a_stored_sum_that_cannot_be_read_is_left_out(store: Store, clock: Clock, entry: dict[str, Any]):
    one = Process(store, clock)
    one.send(20)
    await one.traffic.save()
    await store.put("traffic/2026-11-26", "other/0", entry)
    assert await Process(store, clock).traffic.of_day("2026-11-26") == {"c1": (0, 20)}


async def test_a_day_ends_at_midnight_utc_and_old_days_are_forgotten(store: Store, clock: Clock):
    one = Process(store, clock)
    for day in range(DAYS + 2):
        one.send(100 + day)
        clock.now += DAY / 2
        await one.traffic.save()  # at midnight: the bytes belong to the day before
        clock.now += DAY / 2
    found = await one.traffic.by_day("c1")
    assert found[0] == ("2026-12-29", 0, 0)
    assert found[1] == ("2026-12-28", 0, 100 + DAYS + 1)
    assert len(found) == DAYS
    assert found == await Process(store, clock).traffic.by_day("c1")
    assert len([entry for entry in await store.entries() if entry.kind.startswith("traffic/")]) == DAYS


async def test_only_changes_are_stored_with_one_write_and_kept_while_the_store_is_away(store: Store, clock: Clock):
    one = Process(store, clock)
    await one.traffic.save()
    assert store.writes == 0
    for n in range(50):
        one.send(1, f"c{n}")
    await one.traffic.save()
    await one.traffic.save()
    assert store.writes == 1
    store.down = True
    one.send(10)
    clock.now += DAY
    await one.traffic.save()  # the store is away over midnight
    with pytest.raises(StoreUnavailable):
        await one.traffic.by_day("c1")
    one.send(3)
    store.down = False
    await one.traffic.save()
    assert await Process(store, clock).traffic.by_day("c1") == [("2026-11-27", 0, 3), ("2026-11-26", 0, 11)]


async def test_days_that_are_over_are_read_once(store: Store, clock: Clock):
    one = Process(store, clock)
    await one.traffic.by_day("c1")
    assert store.reads == DAYS
    for _ in range(5):
        await one.traffic.save()
        await one.traffic.by_day("c1")
        await one.traffic.by_day("c2")
    assert store.reads == DAYS + 5 * 2  # today and yesterday


async def test_many_channels_have_several_entries(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(daily_traffic, "_PER_ENTRY", 10)
    one = Process(store, clock)
    for n in range(25):
        one.send(1, f"c{n}")
    await one.traffic.save()
    assert store.writes == 3
    assert await Process(store, clock).traffic.by_day() == [("2026-11-26", 0, 25)]


def test_a_table_that_is_full_forgets_the_channel_that_was_used_least_recently(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.lib.traffic.MAX_CHANNELS", 3)
    counts = TrafficCounts()
    for channel in ("a", "b", "c"):
        counts.of(channel).sent += 1
    assert sorted(counts.take_all()) == [("a", 0, 1), ("b", 0, 1), ("c", 0, 1)]
    counts.of("a").sent += 1
    assert list(counts.take_all()) == [("a", 0, 1)]
    counts.of("d").sent += 1
    assert {sample.labels[0] for sample in counts.samples()} == {"a", "c", "d"}


async def test_the_bytes_of_a_push_and_its_tracks_count_and_those_of_renditions_do_not():
    hub = builders.hub(linger=0)
    source = builders.publish(hub)
    source.set_tracks(VIDEO, AUDIO, {})
    rendition = builders.publish(hub, "c1@720p")
    rendition.set_tracks(VIDEO, AUDIO, {})

    def unit(size: int) -> AccessUnit:
        return picture(0, True, size=size)

    source.push(unit(100), 1.0)
    rendition.push(unit(1000), 1.0)
    hub.sample(2.0, 2.0)
    hub.sample(3.0, 3.0)
    assert hub.traffic.of("c1").received == 100
    source.push(unit(50), 3.0)
    hub.end("c1", EndReason.KICKED)  # less than a second after its last bytes
    hub.end("c1@720p", EndReason.KICKED)
    assert hub.traffic.of("c1").received == 150
    await hub.drained()


async def test_a_stream_of_another_node_has_no_received_bytes_here():
    shelf = builders.shelf(linger=0)
    source = builders.publish(shelf)
    source.set_tracks(VIDEO, AUDIO, {})
    source.push(picture(0, True, size=100), 1.0)
    shelf.sample(2.0, 2.0)
    shelf.end("c1", EndReason.KICKED)
    assert shelf.traffic.of("c1").received == 0
    await shelf.drained()
