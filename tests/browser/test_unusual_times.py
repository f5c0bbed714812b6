"""The player pages with pushes whose media have holes, or whose timestamps are those of their arrival."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import pytest
from playwright.async_api import Browser

from gateway.formats.flv.tag import AUDIO, VIDEO
from tests.support.browser import Watched, opened
from tests.support.flv_reader import Tag
from tests.support.gateway import Gateway
from tests.support.media import Film
from tests.support.script_push import pushing
from tests.support.shared_gateway import shared_gateway

FILM = Film("unusual-times", seconds=44, gop=60)
BEGIN, END = 12_000, 20_000  # milliseconds: a hole in the media

FRAMES = "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"

gateway = shared_gateway("chromium", "ffmpeg", films=[FILM])


async def show_all_pictures(pages: list[Watched]) -> None:
    """Fails unless the pages decode at least half of the pictures of six seconds."""
    before = [await watched.page.evaluate(FRAMES) for watched in pages]
    await asyncio.sleep(6)
    after = [await watched.page.evaluate(FRAMES) for watched in pages]
    assert all(now - then > 6 * FILM.rate / 2 for then, now in zip(before, after, strict=True)), (before, after)


@pytest.mark.parametrize(
    ("kinds", "pages"),
    [((VIDEO, AUDIO), ["flv.html", "hls.html", "dash.html"]), ((VIDEO,), ["hls.html", "dash.html"])],
    ids=["all", "pictures"],
)
async def test_the_pages_go_on_behind_a_hole(
    kinds: tuple[int, ...], pages: list[str], gateway: Gateway, browser: Browser
) -> None:
    """An encoder drops media while its network is away, or a camera is switched off while the sound goes on."""
    channel = gateway.channel("hole")

    def time_of(tag: Tag) -> int | None:
        return None if tag.type_id in kinds and BEGIN <= tag.timestamp < END else tag.timestamp

    async with contextlib.AsyncExitStack() as stack:
        began = time.monotonic()
        stack.enter_context(pushing(channel, FILM, time_of=time_of))
        await asyncio.to_thread(channel.wait_playable, "manifest.mpd")
        watched = [await stack.enter_async_context(opened(browser, channel.url(page))) for page in pages]
        await asyncio.gather(*(page.plays() for page in watched))
        assert time.monotonic() - began < BEGIN / 1000, "the pages were opened before the hole"
        await asyncio.sleep(began + END / 1000 + 8 - time.monotonic())
        await show_all_pictures(watched)


async def test_the_pages_play_media_that_are_stamped_when_they_come(gateway: Gateway, browser: Browser) -> None:
    """Times of pictures go back, and those of the sound are early or late by two frames."""
    channel, draw = gateway.channel("jitter"), random.Random(4)

    def time_of(tag: Tag) -> int:
        spread = {VIDEO: 60, AUDIO: 40}.get(tag.type_id, 0)
        return max(0, tag.timestamp + draw.randint(-spread, spread))

    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(pushing(channel, FILM, time_of=time_of))
        await asyncio.to_thread(channel.wait_playable, "manifest.mpd")
        pages = ["flv.html", "hls.html", "dash.html"]
        watched = [await stack.enter_async_context(opened(browser, channel.url(page))) for page in pages]
        await asyncio.gather(*(page.plays() for page in watched))
        await show_all_pictures(watched)
