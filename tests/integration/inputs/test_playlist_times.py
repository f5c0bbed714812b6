"""A playlist with times of day: films begin, are joined and are cut at their times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.channels.inputs import InputKind, InputSpec
from gateway.inputs.playlist.playlist_source import PlaylistSource
from gateway.media.track import Kind
from tests.integration.inputs.test_playlist import Store, film
from tests.support import builders, sources
from tests.support.inputs import FakeInput, growing, running_source, worker_pool
from tests.support.time_outs import at_most


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def clock_at(hour: int, minute: int, second: float) -> Callable[[], float]:
    """A clock that shows this time of a day now, and goes on."""
    shift = datetime(2026, 6, 10, hour, minute, tzinfo=UTC).timestamp() + second - time.time()
    return lambda: time.time() + shift


def by_day(store: Store, clock: Callable[[], float], *items: str, loop: bool = True) -> PlaylistSource:
    return PlaylistSource(worker_pool(), store.objects, InputSpec("tv", InputKind.PLAYLIST, "", items, loop), clock)


def pictures(store: Store, key: str) -> list[bytes]:
    return [u.payload for u in sources.read(store.root / key).of(Kind.VIDEO)]


async def test_a_film_is_cut_at_the_time_of_the_next_one(store: Store) -> None:
    store.put(film("four.mp4", 4), "a.mp4")
    store.put(film("red.mp4", 1, "-vf", "hue=s=0"), "b.mp4")
    source, context = by_day(store, clock_at(19, 59, 53), "a.mp4", "b.mp4@20:00"), FakeInput()
    first, second = pictures(store, "a.mp4"), pictures(store, "b.mp4")
    async with running_source(source, context):
        pictures_of_b = set(second)
        await context.recorder.until(lambda: sum(u.payload in pictures_of_b for u in context.recorder.units) >= 25)
    played = [u.payload for u in context.recorder.of(Kind.VIDEO)]
    cut = played.index(second[0])
    assert played[:cut] == (first * 3)[:cut]
    assert cut % len(first) > 0, "in the middle of a film"
    assert played[cut : cut + 25] == second
    assert all(0 < step < 120 for step in growing(context.recorder.of(Kind.VIDEO)))
    assert len(context.recorder.tracks) == 1, "equal tracks are announced once"
    began = context.recorder.at[[u.payload for u in context.recorder.units].index(second[0])]
    assert abs(began + (time.time() - time.monotonic()) + (source._clock() - time.time()) - at_20()) < 1


def at_20() -> float:
    return datetime(2026, 6, 10, 20, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("converted", [False, True])
async def test_a_late_start_joins_a_film_at_its_offset_and_skips_finished_films(store: Store, converted: bool) -> None:
    path = film("eight.mp4", 8)
    key = store.put(path, "a.mp4")
    if converted:
        key = store.put_converted(path, "talks/a/")
    store.put(film("half.mp4", 0.5, "-vf", "hue=s=0"), "b.mp4")
    source, context = by_day(store, clock_at(20, 0, 5.1), f"{key}@20:00", "b.mp4"), FakeInput()
    async with running_source(source, context):
        await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= 25)
    original = [u.key for u in sources.read(path).of(Kind.VIDEO)]
    assert original[125], "key frames are a second apart"
    expected = _slices(pictures(store, "a.mp4")[125])
    assert _slices(context.recorder.of(Kind.VIDEO)[0].payload) == expected
    late, context = by_day(store, clock_at(20, 0, 9), f"{key}@20:00", "b.mp4"), FakeInput()
    async with running_source(late, context):
        await context.recorder.until(lambda: context.recorder.of(Kind.VIDEO))
    assert context.recorder.of(Kind.VIDEO)[0].payload == pictures(store, "b.mp4")[0]
    assert late.problem == ""


def _slices(payload: bytes) -> bytes:
    """Returns the last slice, because parameter sets before it may be missing."""
    return payload[-500:]


async def test_an_input_is_off_between_two_times_without_films(store: Store) -> None:
    store.put(film("half.mp4", 0.5), "a.mp4")
    source, context = by_day(store, clock_at(19, 59, 56), "a.mp4@19:59", "a.mp4@20:00", loop=False), FakeInput()
    context.hub = builders.hub(linger=0.5)
    async with running_source(source, context):
        # The first one is over: nothing plays before the second one.
        async with asyncio.timeout(at_most(5)):
            while not source.is_between_items:
                await asyncio.sleep(0.02)
        assert not source.is_ready
        assert context.recorder.units == []
        await context.recorder.until(lambda: context.recorder.units)
        assert not source.is_between_items
        await context.recorder.until(lambda: context.recorder.ends)
    assert len(context.recorder.of(Kind.VIDEO)) == 12 or len(context.recorder.of(Kind.VIDEO)) == 13


async def test_a_missing_film_is_named_and_the_others_continue(store: Store) -> None:
    store.put(film("half.mp4", 0.5), "a.mp4")
    (store.root / "text.mp4").write_bytes(b"this is text\n" * 100)
    source, context = by_day(store, clock_at(20, 0, 0.5), "gone.mp4@20:00", "text.mp4", "a.mp4"), FakeInput()
    async with running_source(source, context) as task:
        await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) > 30)
        assert not task.done()
    assert source.problem.startswith("text.mp4: it is not readable media")


async def test_a_list_without_usable_films_causes_no_busy_loop(store: Store) -> None:
    source, context = by_day(store, clock_at(20, 0, 0), "gone.mp4@20:00", "gone.mp4", "missing.mp4"), FakeInput()
    async with running_source(source, context) as task:
        async with asyncio.timeout(at_most(30)):
            while source.problem != "missing.mp4: it does not exist":
                await asyncio.sleep(0.02)
        reads = 0

        async def head(key: str) -> None:
            nonlocal reads
            reads += 1

        store.objects.head = head  # type: ignore[method-assign, assignment]
        await asyncio.sleep(0.5)
        assert (reads, task.done()) == (0, False)
