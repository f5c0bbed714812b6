"""The player pages with pushes whose media have holes, or whose timestamps are those of their arrival."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

import pytest
from playwright.async_api import Browser

from gateway.formats.flv.tag import AUDIO, VIDEO
from tests.support.browser import Watched, opened
from tests.support.flv_reader import Tag
from tests.support.gateway import Gateway
from tests.support.media import Film
from tests.support.script_push import pushing
from tests.support.shared_gateway import shared_gateway
from tests.support.waiting import until

FILM = Film("unusual-times", seconds=44, rate=15, gop=30)
HOLE = 8_000  # milliseconds without media

FRAMES = "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"
SHOWS = f"(many) => {FRAMES} > many"

gateway = shared_gateway("chromium", "ffmpeg", films=[FILM])


async def show_all_pictures(pages: list[Watched]) -> None:
    """Fails unless the pages decode at least half of the pictures of six seconds."""
    before = [await watched.page.evaluate(FRAMES) for watched in pages]
    await asyncio.sleep(6)
    after = [await watched.page.evaluate(FRAMES) for watched in pages]
    assert all(now - then > 6 * FILM.rate / 2 for then, now in zip(before, after, strict=True)), (before, after)


@pytest.mark.parametrize(
    ("kinds", "pages"),
    [
        pytest.param((VIDEO, AUDIO), ["flv.html", "hls.html", "dash.html"], id="all"),
        pytest.param((VIDEO,), ["hls.html", "dash.html"], id="pictures", marks=pytest.mark.nightly),
    ],
)
async def test_the_pages_go_on_behind_a_hole(
    kinds: tuple[int, ...], pages: list[str], gateway: Gateway, browser: Browser
) -> None:
    """An encoder drops media while its network is away, or a camera is switched off while the sound goes on."""
    channel, sent, begin = gateway.channel("hole"), 0, FILM.seconds * 1000

    def time_of(tag: Tag) -> int | None:
        nonlocal sent
        sent = max(sent, tag.timestamp)
        return None if tag.type_id in kinds and begin <= tag.timestamp < begin + HOLE else tag.timestamp

    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(pushing(channel, FILM, time_of=time_of))
        await asyncio.to_thread(channel.wait_playable, "manifest.mpd")
        watched = [await stack.enter_async_context(opened(browser, channel.url(page))) for page in pages]
        await asyncio.gather(*(page.plays() for page in watched))
        begin = sent + 500
        await until(lambda: sent >= begin + HOLE, "the hole is over", within=HOLE / 1000 + 5)
        shown = [await page.page.evaluate(FRAMES) for page in watched]
        await asyncio.gather(
            *(page.comes_true(SHOWS, few + 30, within=8) for page, few in zip(watched, shown, strict=True))
        )
        await show_all_pictures(watched)


def when_they_come(kind: int, time: int) -> int:
    """Times of pictures go back, and those of the sound are early or late by two frames."""
    spread = {VIDEO: 60, AUDIO: 40}.get(kind, 0)
    return max(0, time + random.Random(kind * time).randint(-spread, spread))


def in_seconds(kind: int, time: int) -> int:
    return time // 1000 * 1000


def without_sound_clock(kind: int, time: int) -> int:
    return 0 if kind == AUDIO else time


@pytest.mark.parametrize(
    "stamped",
    [when_they_come, pytest.param(in_seconds, marks=pytest.mark.nightly), without_sound_clock],
    ids=["when they come", "in seconds", "no clock of the sound"],
)
async def test_the_pages_play_media_with_unusual_times(
    stamped: Callable[[int, int], int], gateway: Gateway, browser: Browser
) -> None:
    channel = gateway.channel("unusual")
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(pushing(channel, FILM, time_of=lambda tag: stamped(tag.type_id, tag.timestamp)))
        await asyncio.to_thread(channel.wait_playable, "manifest.mpd")
        pages = ["flv.html", "hls.html", "dash.html"]
        watched = [await stack.enter_async_context(opened(browser, channel.url(page))) for page in pages]
        await asyncio.gather(*(page.plays() for page in watched))
        await show_all_pictures(watched)


@pytest.mark.nightly
async def test_the_pages_play_sound_that_comes_four_seconds_after_its_pictures(
    gateway: Gateway, browser: Browser
) -> None:
    channel = gateway.channel("late")

    def time_of(tag: Tag) -> int:
        return tag.timestamp + 4_000 * (tag.type_id == VIDEO)

    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(pushing(channel, FILM, time_of=time_of))
        await asyncio.to_thread(channel.wait_playable, "audio/index.m3u8")
        pages = ["flv.html", "hls.html", "dash.html"]
        watched = [await stack.enter_async_context(opened(browser, channel.url(page))) for page in pages]
        await asyncio.gather(*(page.plays() for page in watched))
        await show_all_pictures(watched)
