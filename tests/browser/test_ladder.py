"""hls.js and dash.js play a ladder in Chromium, change renditions without a gap, and survive their loss."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.support.at_night import at_night
from tests.support.browser import Watched, opened
from tests.support.ladder import LadderStream, ladder
from tests.support.media import Film
from tests.support.plain_players import DASH, HLS, start
from tests.support.time_outs import at_most
from tests.support.tools import need

# Playlists list the parts of three segments. If hls.js has one part of a segment and does not find the next one, it
# goes on with the next segment. So a busy machine must not be later than these.
SOURCE = Film("ladder-b-source", seconds=80, size="640x360", bframes=2, rate=15, gop=30)
RUNGS = {
    "360p": Film("ladder-b-360p", seconds=80, size="160x90", rate=15, gop=30),
    "480p": Film("ladder-b-480p", seconds=80, size="320x180", rate=15, gop=30),
    "720p": Film("ladder-b-720p", seconds=80, size="480x270", rate=15, gop=30),
}
SIZES = (160, 320, 480)

_STATE = """() => { const v = document.querySelector("video"); return { time: v.currentTime, width: v.videoWidth,
  ranges: [...Array(v.buffered.length).keys()].map((i) => [v.buffered.start(i), v.buffered.end(i)]),
  errors: window.player.errors, holes: window.player.holes }; }"""


@dataclass
class Player:
    """A player on an empty page of the gateway's own origin."""

    watched: Watched

    async def state(self) -> dict[str, Any]:
        return dict(await self.watched.page.evaluate(_STATE))

    async def widths(self) -> list[int]:
        return sorted(await self.watched.page.evaluate("() => window.player.widths()"))

    async def choose(self, width: int) -> None:
        await self.watched.page.evaluate("(width) => window.player.choose(width)", width)

    async def free(self) -> None:
        """Lets the player choose by itself."""
        await self.watched.page.evaluate("() => window.player.free()")

    async def has_no_hole(self, within: float = 10.0) -> None:
        """Returns once the buffer has no gap. While a player replaces media ahead, there may be one.

        hls.js reports a gap that it skips.
        """
        end = time.monotonic() + at_most(within)
        while len((now := await self.state())["ranges"]) != 1:
            assert not now["errors"] and time.monotonic() < end, now
            await asyncio.sleep(0.1)
        assert not now["holes"], now

    async def shows(self, *widths: int, within: float = 40.0) -> dict[str, Any]:
        """Returns once a picture of one of these widths moves."""
        end = time.monotonic() + at_most(within)
        last = (await self.state())["time"]
        while True:
            await asyncio.sleep(0.2)
            now = await self.state()
            assert not now["errors"], now
            if now["time"] > last > 0 and now["width"] in widths:
                return now
            assert time.monotonic() < end, f"{widths} wanted: {now}, {self.watched.complaints}"
            last = now["time"]


@asynccontextmanager
async def playing(
    browser: Browser, script: str, path: str, **fields: Any
) -> AsyncIterator[tuple[LadderStream, Player]]:
    need("chromium", "ffmpeg")
    async with ladder(SOURCE, dict(RUNGS), **fields) as lab:
        lab.begin()
        broadcast = asyncio.create_task(lab.broadcast())
        try:
            async with opened(browser, f"{lab.base}/status.json") as watched:
                await start(watched, script, f"{lab.base}/{path}")
                yield lab, Player(watched)
        finally:
            broadcast.cancel()


@pytest.mark.parametrize(
    ("script", "path", "widths"),
    [
        (HLS, "master.m3u8", (*SIZES, 640)),
        *at_night((DASH, "manifest.mpd", (*SIZES, 640)), (HLS, "index.m3u8", SIZES)),
    ],
    ids=["hls.js with master.m3u8", "dash.js", "hls.js with index.m3u8"],
)
async def test_a_player_changes_renditions_without_a_gap(
    script: str, path: str, widths: tuple[int, ...], browser: Browser
) -> None:
    async with playing(browser, script, path) as (_, player):
        await player.shows(*widths)
        assert await player.widths() == list(widths)
        for width in (*widths, widths[0], widths[-1]):
            await player.choose(width)
            await player.shows(width)
            await player.has_no_hole()


@pytest.mark.nightly
async def test_the_playlists_of_an_hevc_ladder_play_in_hls_js(browser: Browser) -> None:
    # The form is the channel's, not the codec of these films: Chromium here decodes no HEVC.
    async with playing(browser, HLS, "index.m3u8", codec="libx265", isCMAF=False) as (_, player):
        await player.shows(*SIZES)
        for width in (480, 160, 320):
            await player.choose(width)
            await player.shows(width)
            await player.has_no_hole()


@pytest.mark.nightly
@pytest.mark.parametrize(("script", "path"), [(HLS, "master.m3u8"), (DASH, "manifest.mpd")], ids=["hls.js", "dash.js"])
async def test_a_player_returns_to_the_source_when_the_renditions_are_lost(
    script: str, path: str, browser: Browser
) -> None:
    async with playing(browser, script, path) as (lab, player):
        await player.shows(640, *SIZES)
        await player.choose(320)
        await player.shows(320)
        lab.leave(*RUNGS)
        await player.free()
        await player.shows(640)
        for name in RUNGS:
            lab.publish(name)
        await asyncio.sleep(6)
        await player.shows(640, *SIZES)


async def test_a_player_of_only_renditions_continues_after_a_discontinuity(browser: Browser) -> None:
    async with playing(browser, HLS, "index.m3u8") as (lab, player):
        before = await player.shows(*SIZES)
        lab.leave(*RUNGS)
        await asyncio.sleep(1.5)
        for name in RUNGS:
            lab.publish(name)
        end = time.monotonic() + at_most(25)
        while (now := await player.state())["time"] < before["time"] + 10:
            assert not now["errors"] and time.monotonic() < end, (before, now)
            await asyncio.sleep(0.3)


@pytest.mark.parametrize("page", at_night("hls.html", "dash.html", "index.html"))
async def test_the_pages_play_a_channel_with_a_ladder(page: str, browser: Browser) -> None:
    need("chromium", "ffmpeg")
    async with ladder(SOURCE, dict(RUNGS)) as lab:
        lab.begin()
        broadcast = asyncio.create_task(lab.broadcast())
        try:
            async with opened(browser, f"{lab.base}/{page}") as watched:
                await watched.plays()
                await watched.comes_to_say("Live")
                assert not watched.complaints
        finally:
            broadcast.cancel()
