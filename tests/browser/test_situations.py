"""All pages, staged: what players show around an event and on slow links, and every page at every size of a screen.

A clock in the picture judges the players: they are never "Live" over a still picture, and their delay is the true one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from tests.support.browser import Watched, axe, opened
from tests.support.clients import Program, push
from tests.support.clock_picture import Sample, clock_push, difference, longest_still, sampled, stalls
from tests.support.console import signed_in
from tests.support.gateway import Gateway, running
from tests.support.media import FRAMES_PER_SECOND, Film
from tests.support.slow_link import slow_link
from tests.support.time_outs import at_most
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
async def test_no_page_is_live_over_a_still_picture(event: str, pages: list[str], browser: Browser) -> None:
    need("chromium", "ffmpeg")
    happens, code, words = EVENTS[event]
    async with contextlib.AsyncExitStack() as stack:
        gateway = stack.enter_context(running(code, MILLRACE_STREAM__LINGER="8"))
        channel = gateway.channel(videoname="clock")
        encoder = stack.enter_context(clock_push(channel.push, size="320x180", kbps=400))
        await asyncio.to_thread(channel.wait_playable, "live.m3u8", "master.m3u8")
        watched = [await stack.enter_async_context(opened(browser, channel.url(page))) for page in pages]

        async def look(page: str, one: Watched) -> list[Sample]:
            samples = await sampled(one.page, 6)
            await photo(one.page, f"{event}-{page}")
            samples += await sampled(one.page, AFTER - 6)
            await photo(one.page, f"{event}-{page}-later")
            return samples

        for one in watched:
            await one.page.locator("#stage[data-state=live]").wait_for(timeout=at_most(30_000))
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
async def test_two_minutes_on_a_slow_link_with_renditions(page: str, browser: Browser) -> None:
    need("chromium", "ffmpeg")
    async with contextlib.AsyncExitStack() as stack:
        gateway = stack.enter_context(running())
        channel = gateway.channel("slow", codec="libx264", ld=True, isCodec=True)
        stack.enter_context(clock_push(channel.push, size="854x480", kbps=1600))
        for name in ("live.m3u8", "master.m3u8", "index.m3u8"):
            await asyncio.to_thread(channel.wait_playable, name)
        link = await stack.enter_async_context(slow_link(gateway.ports["http"], kbps=900))
        address = f"http://127.0.0.1:{link.port}/{channel.id}/{page}"
        watched = await stack.enter_async_context(opened(browser, address))
        await watched.page.wait_for_function(
            "() => document.querySelector('video').videoWidth === 640", timeout=at_most(10_000)
        )
        await watched.page.wait_for_timeout(4000)  # a player comes closer to live in its first seconds
        samples = await sampled(watched.page, 120)
        await photo(watched.page, f"slow-{page}")
        print(f"{page or 'watch'}: difference {difference(samples):.2f} s, stalls {stalls(samples)}")
        honest(samples)
        assert abs(difference(samples)) <= 0.3, samples
        assert stalls(samples) <= 1, samples


SIZES = {"phone": (390, 844), "on its side": (844, 390), "200 %": (640, 450), "desktop": (1280, 900)}
FILM = Film("console", seconds=20, size="640x360")
VIEWS = ["channels", "live", "recordings", "recordings/bin", "films", "events", "alarms", "site", "domains", "users"]
VIEWS += ["system", "channels/{id}", "channels/{id}/edit", "channels/{id}/edit?section=basics"]
PLAYERS = ["", "{id}/", "{id}/flv.html", "{id}/hls.html", "{id}/whep.html", "{id}/instant.html", "broadcast.html"]
# The controls that stand beyond the page, or that a parent which does not scroll cuts off.
CONTROLS = "button, a, input:not([type=file], [type=hidden]), select, textarea"
CUT = """(controls) => [...document.querySelectorAll(controls)].filter((e) => {
  const r = e.getBoundingClientRect();
  if (!e.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || r.width < 2 || r.height < 2
      || e.closest(".visually-hidden")) return false;
  if (r.left < -1 || r.right > innerWidth + 1) return ![...parents(e)].some((p) => scrolls(p));
  for (const p of parents(e)) {
    if (scrolls(p)) return false;
    const style = getComputedStyle(p), b = p.getBoundingClientRect();
    if (["hidden", "clip"].includes(style.overflowX) && (r.left < b.left - 1 || r.right > b.right + 1)) return true;
    if (["hidden", "clip"].includes(style.overflowY) && (r.top < b.top - 1 || r.bottom > b.bottom + 1)) return true;
  }
  return false;
  function* parents(e) { for (let p = e.parentElement; p && p !== document.body; p = p.parentElement) yield p; }
  function scrolls(p) { return /auto|scroll/.test(getComputedStyle(p).overflow); }
}).map((e) => e.outerHTML.slice(0, 160))"""


async def judged(watched: Watched, what: str) -> list[str]:
    """What is wrong with a page at its size."""
    wide = "" if await watched.page.evaluate("document.documentElement.scrollWidth <= innerWidth") else "too wide"
    await photo(watched.page, what.replace("/", "_"))
    return [
        f"{what}: {found}"
        for found in (wide, *await axe(watched.page), *await watched.page.evaluate(CUT, CONTROLS))
        if found
    ]


async def test_dash_plays_on_after_key_frames_became_rare(browser: Browser) -> None:
    """dash.js kept the delay of the first manifest, which is too short for whole groups of 12 s, and stood still."""
    need("chromium", "ffmpeg")
    film = Film("rare-key-frames", seconds=90, gop=12 * FRAMES_PER_SECOND)
    with running() as gateway:
        channel = gateway.channel(videoname="rare")
        with push(film, channel.push):
            await asyncio.to_thread(channel.wait_playable, "manifest.mpd")
            await asyncio.sleep(4)  # the first segment after a key frame has begun
            async with opened(browser, channel.url("dash.html")) as watched:
                await watched.plays()
                await asyncio.sleep(42)  # the manifest has changed, and the page has opened the stream again
                counted = "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"
                before = await watched.page.evaluate(counted)
                await asyncio.sleep(12)
                shown = await watched.page.evaluate(counted) - before
    assert shown > 0.6 * 12 * FRAMES_PER_SECOND


@pytest.mark.parametrize("size", list(SIZES))
async def test_every_page_fits_and_passes_axe_at_every_size(size: str, browser: Browser) -> None:
    need("chromium", "ffmpeg")
    width, height = SIZES[size]
    screen = {"viewport": {"width": width, "height": height}, "has_touch": width < 1000}
    wrong: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        gateway = stack.enter_context(running())
        channel = gateway.channel(videoname="Main stage", isPublic=True, isVideo=True, video_time="10")
        stack.enter_context(push(FILM, channel.push, loop=True))
        await asyncio.to_thread(channel.wait_playable, "live.m3u8", "master.m3u8")
        console = await stack.enter_async_context(signed_in(browser, gateway, has_touch=width < 1000))
        await console.page.set_viewport_size({"width": width, "height": height})
        for view in VIEWS:
            await console.page.evaluate("(to) => { location.hash = to; }", f"#/{view.format(id=channel.id)}")
            await console.page.reload()
            await console.page.locator("main h1").wait_for()
            await console.page.wait_for_function("() => !document.querySelector('main .skeleton')")
            wrong += await judged(console, f"{size} {view}")
        for path in PLAYERS:
            address = f"http://127.0.0.1:{gateway.ports['http']}/{path.format(id=channel.id)}"
            async with opened(browser, address, **screen) as watched:
                if "{id}" in path:
                    await watched.page.locator("#stage[data-state=live]").wait_for(timeout=at_most(30_000))
                else:
                    await watched.page.locator("h1").first.wait_for()
                wrong += await judged(watched, f"{size} {path}")
    assert not wrong, "\n".join(wrong)
