"""The last session of a channel: found with few listings, and not on every request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from gateway.lib.tasks import Tasks
from gateway.outputs.recording.on_demand_session import REWIND_MARK
from gateway.playback.replays import Replays
from gateway.ports.errors import NoSuchObject, StoreUnavailable
from gateway.ports.events import Event, EventType
from gateway.ports.stores import Object
from tests.support.builders import channel
from tests.support.clock import Clock

FIRST = 1_764_300_000_000
RECORDED = {"isOnDemand": True}


class Bucket:
    """An object store in memory, in the order of S3, which counts its listings and the objects that it lists."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.listings, self.listed = 0, 0
        self.away = False

    def session(self, start: int, *, record: bytes | None = None, rewind: bool = False, captions: bool = False) -> None:
        mark = REWIND_MARK if rewind else ""
        self.objects[f"c1/vod-{start}.m3u8"] = f"#EXTM3U\n{mark}#EXTINF:2,\n720p/{start}.ts\n".encode()
        if captions:
            self.objects[f"c1/vod-{start}.master.m3u8"] = b"#EXTM3U\n"
        if record is not None:
            self.objects[f"c1/vod-{start}.json"] = record

    async def list(self, prefix: str) -> AsyncIterator[Object]:
        self.listings += 1
        if self.away:
            raise StoreUnavailable("the bucket does not answer")
        for key in sorted(self.objects):
            if key.startswith(prefix):
                self.listed += 1
                yield Object(key, 1, 5.5)

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        if key not in self.objects:
            raise NoSuchObject(key)
        yield self.objects[key][start:end]


class Rig:
    def __init__(self, tasks: Tasks, *, default: bool = True) -> None:
        self.bucket, self.clock = Bucket(), Clock(100.0)
        self.replays = Replays(cast(Any, self.bucket), tasks, default, self.clock)

    async def start(self, **fields: Any) -> int | None:
        """Returns the start of the session that is replayed."""
        replay = await self.replays.of(channel("c1", **(RECORDED | fields)))
        return None if replay is None else replay["start"]


async def test_the_last_session_is_described_with_its_addresses() -> None:
    async with Tasks("test") as tasks:
        rig = Rig(tasks)
        assert await rig.start() is None
        rig.replays.forget("c1")
        rig.bucket.session(FIRST)
        rig.bucket.session(FIRST + 7, record=b'{"title": "Opening"}', captions=True)
        assert await rig.replays.of(channel("c1", **RECORDED)) == {
            "start": FIRST + 7,
            "changed": 5500,
            "title": "Opening",
            "page": f"vod/{FIRST + 7}/",
            "hls": f"vod/vod-{FIRST + 7}.master.m3u8",
            "poster": f"vod/{FIRST + 7}/poster.jpg",
        }


@pytest.mark.parametrize(
    ("default", "fields", "replayed"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"isReplay": False}, False),
        (False, {"isReplay": "true"}, True),
        (True, {"isOnDemand": False}, False),
        (True, {"isReplay": "perhaps"}, True),
    ],
)
async def test_a_channel_is_replayed_if_it_records_and_wants_it(
    default: bool, fields: dict[str, Any], replayed: bool
) -> None:
    async with Tasks("test") as tasks:
        rig = Rig(tasks, default=default)
        rig.bucket.session(FIRST)
        assert await rig.start(**fields) == (FIRST if replayed else None)
        assert rig.bucket.listings == replayed


async def test_hidden_sessions_those_for_rewinding_and_records_alone_are_passed_over() -> None:
    async with Tasks("test") as tasks:
        rig = Rig(tasks)
        rig.bucket.session(FIRST)
        rig.bucket.session(FIRST + 1, record=b'{"hidden": true}')
        rig.bucket.session(FIRST + 2, record=b"damaged")
        rig.bucket.session(FIRST + 3, rewind=True)
        rig.bucket.objects[f"c1/vod-{FIRST + 4}.json"] = b"{}"
        rig.bucket.objects["c1/vod-notes.m3u8"] = b""
        assert await rig.start() == FIRST


async def test_only_a_stored_session_that_is_not_hidden_has_a_page() -> None:
    async with Tasks("test") as tasks:
        rig = Rig(tasks)
        rig.bucket.session(FIRST)
        rig.bucket.session(FIRST + 1, record=b'{"hidden": true}')
        assert [await rig.replays.has_page("c1", FIRST + n) for n in range(3)] == [True, False, False]


async def test_after_twenty_hidden_sessions_nothing_is_replayed() -> None:
    async with Tasks("test") as tasks:
        rig = Rig(tasks)
        for n in range(21):
            rig.bucket.session(FIRST + n, record=b'{"hidden": true}' if n else None)
        assert await rig.start() is None


async def test_the_last_of_many_sessions_is_found_without_listing_all() -> None:
    async with Tasks("test") as tasks:
        rig = Rig(tasks)
        for n in range(30_000):
            rig.bucket.session(FIRST + n * 3_600_000)
        assert await rig.start() == FIRST + 29_999 * 3_600_000
        assert rig.bucket.listings < 60
        assert rig.bucket.listed < 10_000


async def test_requests_repeat_the_search_only_after_ten_seconds_or_a_change() -> None:
    async with Tasks("test") as tasks:
        rig = Rig(tasks)
        rig.bucket.session(FIRST)
        for _ in range(50):
            assert await rig.start() == FIRST
        assert rig.bucket.listings == 1
        rig.clock.now += 10
        await rig.start()
        assert rig.bucket.listings == 2
        rig.bucket.session(FIRST + 1)
        assert await rig.start() == FIRST
        rig.replays.on_event(Event(EventType.RECORDING_READY, 0.0, "c1", {}))
        assert await rig.start() == FIRST + 1


async def test_a_store_that_does_not_answer_is_asked_again_by_the_next_request() -> None:
    async with Tasks("test") as tasks:
        rig = Rig(tasks)
        rig.bucket.session(FIRST)
        rig.bucket.away = True
        assert await rig.start() is None
        rig.bucket.away = False
        assert await rig.start() == FIRST
