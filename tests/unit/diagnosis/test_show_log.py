"""The log of shows: one entry for each stream from its start to its end, also after the death of a process."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.adapters.local.stores import SqliteConsole
from gateway.channels.channel import Channel
from gateway.diagnosis import show_log
from gateway.diagnosis.cmcd import Cmcd
from gateway.diagnosis.experience import Experience
from gateway.diagnosis.show_log import ShowLog, ShowSources
from gateway.lib.clocks import Clocks
from gateway.lib.metrics import Metrics
from gateway.live.hub import Hub
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.sink import EndReason
from gateway.ports.errors import StoreUnavailable
from gateway.ports.events import Events
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO
from tests.support.clock import Clock


class Studio:
    """A hub with a log of its shows. viewers: of every stream."""

    def __init__(self, store: Any, hub: Hub, events: Events, clock: Clock) -> None:
        self.hub, self.events, self.clock = hub, events, clock
        self.viewers: Counter[str] = Counter()
        self.experience = Experience(Metrics("1"))
        sources = ShowSources(hub, self.experience, lambda stream: self.viewers, Channel.show_title)
        self.log = ShowLog(sources, store, 7 * 86_400, Clocks(clock, clock))
        events.listen(self.log.note)

    def push(self, **fields: Any) -> StreamPublisher:
        channel = builders.channel("c1", **fields)
        publisher = self.hub.publish_from(PushOrigin("rtmp", "192.0.2.1:5"), channel, "c1", lambda reason: None)
        publisher.set_tracks(VIDEO, AUDIO, {})
        return publisher

    def push_again(self, **fields: Any) -> None:
        """Pushes the next show of the channel. The id of a show counts milliseconds."""
        stream = self.push(**fields).stream
        stream.spec = replace(stream.spec, started=stream.spec.started + 1)


@asynccontextmanager
async def studio(folder: Path, store: Any = None) -> AsyncIterator[Studio]:
    """Runs a hub whose log measures when the test says so."""
    clock, events = Clock(time.time()), Events()
    hub = builders.hub(events=events)
    async with SqliteConsole(folder / "console.db") as kept:
        yield Studio(store or kept, hub, events, clock)
        hub.drain()
        await hub.drained()


async def test_a_show_lasts_from_the_first_push_to_the_end_of_the_stream(tmp_path: Path):
    async with studio(tmp_path) as at:
        publisher = at.push(videoname="Concert")
        at.viewers["hls"] = 3
        await at.log.measure()
        publisher.close()
        at.clock.now += 4
        at.push(videoname="Concert")  # it returns within the linger
        at.viewers["hls"] = 5
        await at.log.measure()
        (live,) = await at.log.shows("c1")
        assert (live.title, live.end, live.all.peak) == ("Concert", None, 5)
        at.clock.now += 6
        at.hub.end("c1", EndReason.KICKED)
        await at.log.measure()
        (ended,) = await at.log.shows("c1")
        assert ended.id == live.id
        assert (ended.end, round(ended.all.seconds)) == (at.clock.now, 50)
        at.push_again()
        await at.log.measure()
        assert [show.end is None for show in await at.log.shows("c1")] == [True, False]


async def test_a_show_of_a_dead_process_has_ended_when_it_was_seen_last(tmp_path: Path):
    async with studio(tmp_path) as at:
        at.push()
        at.viewers["flv"] = 2
        await at.log.measure()
        at.clock.now += 70
        await at.log.measure()
        again = ShowLog(cast(Any, None), at.log._store, 1, Clocks(at.clock, at.clock))
        at.clock.now += 10
        (show,) = await again.shows("c1")
        assert (show.end, show.all.peak) == (at.clock.now - 10, 2)
        (elsewhere,) = await again.shows("c1", fresh=show_log.FRESH)
        assert elsewhere.end is None


async def test_a_show_has_the_reports_of_its_own_viewers_only(tmp_path: Path):
    async with studio(tmp_path) as at:
        at.experience.add("c1", "hls", Cmcd(1, startup=900))
        at.push()
        at.experience.add("c1", "hls", Cmcd(2, startup=500))
        await at.log.measure()
        at.hub.end("c1", EndReason.KICKED)
        at.experience.add("c1", "hls", Cmcd(3, startup=500))
        (show,) = await at.log.shows("c1")
        assert {name: totals.players for name, totals in show.experience.items()} == {"hls": 1}


async def test_a_store_that_is_away_gets_the_show_later(tmp_path: Path):
    class Away(SqliteConsole):
        away = True

        async def put(self, *entry: Any) -> None:
            if self.away:
                raise StoreUnavailable("away")
            await super().put(*entry)

    async with Away(tmp_path / "own.db") as store, studio(tmp_path, store) as at:
        at.push()
        at.hub.end("c1", EndReason.KICKED)
        await at.log.measure()
        assert not await store.list("show/c1")
        assert len(await at.log.shows("c1")) == 1
        store.away = False
        await at.log.measure()
        assert len(await store.list("show/c1")) == 1


async def test_a_channel_keeps_the_newest_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(show_log, "MAX_SHOWS", 3)
    async with studio(tmp_path) as at:
        ids = []
        for _ in range(5):
            publisher = at.push()
            publisher.stream.spec = replace(publisher.stream.spec, started=at.clock.now)
            at.clock.now += 60
            await at.log.measure()
            ids.append((await at.log.shows("c1"))[0].id)
            at.hub.end("c1", EndReason.KICKED)
        assert [show.id for show in await at.log.shows("c1")] == ids[:1:-1]


async def test_the_next_show_gives_its_title_to_the_show_at_its_time(tmp_path: Path):
    async with studio(tmp_path) as at:
        at.push(videoname="Club", upcoming={"title": "Final", "at": at.clock.now + 600})
        await at.log.measure()
        at.hub.end("c1", EndReason.KICKED)
        at.push_again(videoname="Club", upcoming={"title": "Final", "at": at.clock.now + 86_400})
        await at.log.measure()
        assert {show.title for show in await at.log.shows("c1")} == {"Final", "Club"}
