"""What every player page shows around an event, with a clock in the picture: never "Live" over a still picture."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.support.browser import Watched, chromium, opened
from tests.support.clients import Program
from tests.support.clock_picture import Sample, clock_push, difference, longest_still, sampled, stalls
from tests.support.gateway import Gateway, running
from tests.support.slow_link import slow_link
from tests.support.tools import need

pytestmark = pytest.mark.nightly

PAGES = [["", "flv.html"], ["instant.html", "whep.html"], ["hls.html", "index.html"], ["dash.html"]]
STILL = 2.3  # seconds: the limit of 2 s, and the distance of two samples
AFTER = 14  # seconds; the stream lingers for 8 s

# What ends the pictures, the exit code of the gateway after it, and what viewers read.
EVENTS: dict[str, tuple[Callable[[Gateway, Program], object], int, str]] = {
    "stop": (lambda _, encoder: encoder.stop(), 0, "The broadcast has paused"),
    "cut": (lambda _, encoder: encoder.process.kill(), 0, "The broadcaster's connection broke, waiting"),
    "gateway": (lambda gateway, _: gateway.process.kill(), -signal.SIGKILL, "Connection lost"),
}
# What they may read before and after it.
USUAL = {"Live", "The stream has ended", "Waiting for new pictures"}


async def photo(page: Page, name: str) -> None:
    """Keeps a screenshot if a folder for them is set."""
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name or 'watch'}.png", full_page=True)


def honest(samples: list[Sample]) -> None:
    assert longest_still(samples) <= STILL, samples


@pytest.mark.parametrize("pages", PAGES, ids="+".join)
@pytest.mark.parametrize("event", list(EVENTS))
async def test_no_page_is_live_over_a_still_picture(event: str, pages: list[str]) -> None:
    need("chromium", "ffmpeg")
    happens, code, words = EVENTS[event]
    async with contextlib.AsyncExitStack() as stack:
        gateway = stack.enter_context(running(code, MILLRACE_STREAM__LINGER="8"))
        channel = gateway.channel(videoname="clock")
        encoder = stack.enter_context(clock_push(channel.push, size="320x180", kbps=400))
        await asyncio.to_thread(channel.wait_playable, "live.m3u8", "master.m3u8")
        browser = await stack.enter_async_context(chromium())
        watched = [await stack.enter_async_context(opened(browser, channel.url(page))) for page in pages]

        async def look(page: str, one: Watched) -> list[Sample]:
            samples = await sampled(one.page, 6)
            await photo(one.page, f"{event}-{page}")
            samples += await sampled(one.page, AFTER - 6)
            await photo(one.page, f"{event}-{page}-later")
            return samples

        for one in watched:
            await one.page.locator("#stage[data-state=live]").wait_for(timeout=30_000)
        before = await asyncio.gather(*(sampled(one.page, 3) for one in watched))
        await asyncio.to_thread(happens, gateway, encoder)
        after = await asyncio.gather(*map(look, pages, watched))
        for live, ended in zip(before, after, strict=True):
            assert live[-1].state == "live", live
            honest(live + ended)
            assert ended[-1].state != "live", ended
            read = {sample.headline for sample in ended}
            assert words in read and read <= {words, *USUAL}, ended


@pytest.mark.parametrize("page", ["", "flv.html", "instant.html", "hls.html", "index.html", "dash.html"])
async def test_two_minutes_on_a_slow_link_with_renditions(page: str) -> None:
    need("chromium", "ffmpeg")
    async with contextlib.AsyncExitStack() as stack:
        gateway = stack.enter_context(running())
        channel = gateway.channel("slow", codec="libx264", ld=True, isCodec=True)
        stack.enter_context(clock_push(channel.push, size="854x480", kbps=1600))
        for name in ("live.m3u8", "master.m3u8", "index.m3u8"):
            await asyncio.to_thread(channel.wait_playable, name)
        link = await stack.enter_async_context(slow_link(gateway.ports["http"], kbps=900))
        browser = await stack.enter_async_context(chromium())
        address = f"http://127.0.0.1:{link.port}/{channel.id}/{page}"
        watched = await stack.enter_async_context(opened(browser, address))
        await watched.page.wait_for_function("() => document.querySelector('video').videoWidth === 640", timeout=10_000)
        await watched.page.wait_for_timeout(4000)  # a player comes closer to live in its first seconds
        samples = await sampled(watched.page, 120)
        await photo(watched.page, f"slow-{page}")
        print(f"{page or 'watch'}: difference {difference(samples):.2f} s, stalls {stalls(samples)}")
        honest(samples)
        assert abs(difference(samples)) <= 0.3, samples
        assert stalls(samples) <= 1, samples
