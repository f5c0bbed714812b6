"""A replica stays for connections that are not counted as viewers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from gateway.cluster.streams import replicas as module
from gateway.live.stream import Stream
from gateway.packaging.feed import Feed
from gateway.packaging.flv_output import FlvOutput
from gateway.packaging.rtmp_output import RtmpOutput
from gateway.packaging.viewer import Viewer
from gateway.playback.framing import RAW
from gateway.playback.rtmp import RtmpPlayback
from tests.support.holders import Known, Puller, holder, puller
from tests.support.waiting import until


class Open:
    """A transport whose peer reads everything."""

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None:
        return None


def feeds(replica: Stream) -> Callable[[Any], Feed]:
    return lambda rendering: Feed(replica, rendering, 0.05, 30.0)


@asynccontextmanager
async def pulled() -> AsyncIterator[tuple[Puller, Stream]]:
    async with holder() as one, puller(Known(one.place())) as two:
        one.live()
        yield two, await two.replicas.wait("c1", 5)


async def assert_used_until(leave: Callable[[], None], two: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    """The replica stays after a long time, and ends after `leave`."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    pull = two.replicas._pulls["c1"]
    pull.last_needed = 0.0  # long ago
    assert pull._check_needed()
    leave()
    await until(lambda: len(two.replicas) == 0)


async def test_a_replica_stays_for_a_page_that_gets_only_data(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pulled() as (two, replica):
        feed = FlvOutput(feeds(replica), replica.captions).data_feed
        page = Viewer(cast(Any, Open()), RAW, 100_000, "127.0.0.1", lambda reason: None)
        feed.join(page)
        assert not any(replica.viewers.values())
        await assert_used_until(lambda: feed.leave(page), two, monkeypatch)


async def test_a_replica_stays_for_a_player_that_has_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pulled() as (two, replica):
        feed = RtmpOutput(feeds(replica)).feed(1)
        player = RtmpPlayback(feed, cast(Any, Open()), 100_000, "127.0.0.1", lambda reason: None, lambda: None)
        player.join()
        player.pause(True)
        assert not any(replica.viewers.values())
        await assert_used_until(player.leave, two, monkeypatch)


async def test_a_player_that_resumes_uses_the_replica_once() -> None:
    async with pulled() as (_, replica):
        feed = RtmpOutput(feeds(replica)).feed(1)
        player = RtmpPlayback(feed, cast(Any, Open()), 100_000, "127.0.0.1", lambda reason: None, lambda: None)
        player.join()
        for paused in (True, True, False, False):
            player.pause(paused)
        player.leave()
        assert replica.playback.uses == 0
