"""The time bar of the player pages: viewers go an hour back and forth, with mouse, keys, touch and address."""

import asyncio
import re
import time
from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.browser import Watched, axe, opened
from tests.support.clients import push
from tests.support.gateway import Channel, running
from tests.support.media import SMALL_BFRAMES
from tests.support.rewinding import StoredFilm
from tests.support.time_outs import at_most
from tests.support.tools import need

PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
SESSIONS = 90  # of forty seconds: an hour
EVERY = 41.0  # seconds


@pytest.fixture(scope="module")
def live() -> Iterator[tuple[Channel, float]]:
    """A live channel that was live for an hour before, and when that began."""
    need("chromium", "ffmpeg")
    with StoredFilm(SMALL_BFRAMES) as film, running() as gateway:
        channel = gateway.channel(rewind=2, isCMAF=False, isFlv=True, hls_time="2", videoname="Main stage")
        began = time.time() - SESSIONS * EVERY - 20
        for n in range(SESSIONS):
            film.store(gateway.data / "media", channel.id, began + n * EVERY)
        with push(SMALL_BFRAMES, channel.push, loop=True):
            channel.wait_playable("live.m3u8")
            yield channel, began


def seconds(behind: str) -> int:
    """The seconds of "-1:02:03"."""
    return sum(int(n) * 60**k for k, n in enumerate(reversed(behind.removeprefix("-").split(":"))))


async def behind(page: Page) -> int:
    return seconds(await page.locator("#behind").inner_text())


async def shows(watched: Watched, wanted: float, within: float = 15) -> None:
    """Returns once a picture of so many seconds ago plays."""
    await watched.page.wait_for_function(
        "() => document.querySelector('#stage').dataset.state === 'live'", timeout=at_most(30_000)
    )
    await watched.plays(40)
    await expect(watched.page.locator("#behind")).not_to_be_empty()
    for _ in range(40):
        if abs(await behind(watched.page) - wanted) < within:
            return
        await asyncio.sleep(0.5)
    raise AssertionError(f"{await behind(watched.page)} s behind live, {wanted} were wanted")


async def test_viewers_can_rewind_an_hour_and_return(browser: Browser, live: tuple[Channel, float]) -> None:
    channel, began = live
    async with opened(browser, channel.url("")) as watched:
        page = watched.page
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await watched.plays()
        await page.locator("#stage").hover()
        bar = page.get_by_role("slider", name="Time")
        await bar.wait_for(timeout=at_most(20_000))
        assert await bar.get_attribute("aria-valuetext") == "Live"
        assert await page.get_by_role("button", name="Live", exact=True).is_disabled()
        box = await bar.bounding_box()
        assert box is not None
        # A picture of the time under the pointer, with the clock of the viewer.
        await page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        await page.locator(".rewind-picture:not([hidden])").wait_for(timeout=at_most(40_000))
        assert re.fullmatch(r"-3\d:\d\d", await page.locator(".rewind-tip-time span").first.inner_text())
        length = time.time() - began
        for share in (0.5, 0.02, 0.9, 0.1):
            await page.locator("#stage").hover()
            box = await bar.bounding_box()
            assert box is not None
            await page.mouse.click(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
            await shows(watched, length * (1 - share), 0.05 * length)
        await expect(page.locator("#badge")).to_have_text("REWOUND", use_inner_text=True)
        assert not await axe(page)
        await bar.focus()
        for key, change in (("ArrowLeft", 10), ("PageUp", -60)):
            before = await behind(page)
            await page.keyboard.press(key)
            await shows(watched, before + change)
        await page.get_by_role("button", name="Live", exact=True).click()
        await watched.plays()
        await expect(bar).to_have_attribute("aria-valuetext", "Live")
        assert any("_HLS_skip=YES" in url for url in asked)  # hours of segments are not loaded again
        assert watched.complaints == []


@pytest.mark.nightly
async def test_an_address_with_a_time_opens_that_time_also_on_a_phone(
    browser: Browser, live: tuple[Channel, float]
) -> None:
    channel, began = live
    at = int(began + 15 * EVERY + 20)
    async with opened(browser, channel.url(f"?t={at}"), **PHONE) as watched:
        await shows(watched, time.time() - at)
        page = watched.page
        assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        bar = await page.locator("#rewind").bounding_box()
        assert bar is not None and bar["height"] >= 24
        await page.locator("video").tap()
        await page.touchscreen.tap(bar["x"] + bar["width"] * 0.8, bar["y"] + bar["height"] / 2)
        await shows(watched, (time.time() - began) * 0.2, 150)
        assert watched.complaints == []
    async with opened(browser, channel.url(f"index.html?embed=1&t={at}")) as watched:
        await shows(watched, time.time() - at)
        assert watched.complaints == []
