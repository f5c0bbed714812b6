"""Pages on phones: the size of the picture, upright and on the side, and installation on the home screen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.support.at_night import at_night
from tests.support.browser import axe, opened
from tests.support.clients import push
from tests.support.console import signed_in
from tests.support.foreign_page import foreign_page
from tests.support.gateway import Channel, Gateway
from tests.support.media import SMALL, Film
from tests.support.shared_gateway import shared_gateway

WIDE, TALL = SMALL, Film("tall", size="180x320", rate=15, gop=15)
UPRIGHT, ON_ITS_SIDE = {"width": 390, "height": 844}, {"width": 844, "height": 390}

gateway = shared_gateway("chromium", "ffmpeg", films=[WIDE, TALL])


@pytest.fixture(scope="module")
def channels(gateway: Gateway) -> Iterator[dict[Film, Channel]]:
    """A live channel for each film. That of the tall one is public."""
    wide, tall = gateway.channel(videoname="On the road"), gateway.channel(videoname="On the road", isPublic=True)
    with push(WIDE, wide.push, loop=True), push(TALL, tall.push, loop=True):
        wide.wait_live()
        tall.wait_live()
        yield {WIDE: wide, TALL: tall}


async def photo(page: Page, name: str) -> None:
    """Keeps a screenshot if a folder for them is set."""
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png")


async def picture(page: Page) -> tuple[float, float]:
    """The size of the shown picture in pixels, without bars beside it."""
    width, height = await page.evaluate(
        """() => { const v = document.querySelector("video"), scale = Math.min(v.clientWidth / v.videoWidth,
          v.clientHeight / v.videoHeight); return [v.videoWidth * scale, v.videoHeight * scale]; }"""
    )
    return float(width), float(height)


SCREENS = [
    (WIDE, ON_ITS_SIDE, (690, 388)),
    (WIDE, UPRIGHT, (388, 218)),
    (TALL, UPRIGHT, (385, 690)),
    (TALL, ON_ITS_SIDE, (218, 388)),
    (TALL, {"width": 1280, "height": 900}, (370, 660)),
]


@pytest.mark.parametrize(
    ("name", "film", "viewport", "least"),
    [
        *(("", *screen) for screen in SCREENS[::2]),
        ("flv.html", *SCREENS[2]),
        *at_night(*(("", *screen) for screen in SCREENS[1::2])),
        *at_night(*(("flv.html", *screen) for screen in SCREENS if screen is not SCREENS[2])),
    ],
)
async def test_the_picture_is_as_large_as_the_screen_allows(
    name: str,
    film: Film,
    viewport: Any,
    least: tuple[float, float],
    channels: dict[Film, Channel],
    browser: Browser,
) -> None:
    touch = viewport["width"] < 1000
    address = channels[film].url(name)
    async with opened(browser, address, viewport=viewport, has_touch=touch, is_mobile=touch) as watched:
        page = watched.page
        await watched.plays(40)
        width, height = await picture(page)
        assert (width, height) >= least and height >= least[1], (width, height)
        box = await page.locator("#stage").bounding_box()
        assert box and box["y"] + height <= viewport["height"] + 1, "the whole picture is on the screen"
        await photo(page, f"phone-{film.size}-{viewport['width']}-{name or 'watch'}")
        if touch:
            await expect(page.locator("footer kbd").first).to_be_hidden()
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await axe(page) == []
        assert not watched.complaints


@pytest.mark.parametrize("kind", ["undefined", "'mouse'"], ids=["Safari before 18.2", "Safari before 18.4"])
async def test_a_tap_shows_and_hides_the_bar_and_does_not_pause(
    kind: str, channels: dict[Film, Channel], browser: Browser
) -> None:
    async def prepare(context: BrowserContext) -> None:
        told = (
            f'addEventListener("click", (tap) => Object.defineProperty(tap, "pointerType", {{ value: {kind} }}), true)'
        )
        await context.add_init_script(told)

    address = channels[WIDE].url("")
    async with opened(browser, address, viewport=UPRIGHT, has_touch=True, is_mobile=True, prepare=prepare) as watched:
        await watched.plays(40)
        page, stage, video = watched.page, watched.page.locator("#stage"), watched.page.locator("#video")
        button = await page.get_by_role("button", name="Pause").bounding_box()
        assert button
        await page.evaluate("document.activeElement.blur()")
        await expect(stage).to_have_attribute("data-asleep", "")
        await page.touchscreen.tap(button["x"] + button["width"] / 2, button["y"] + button["height"] / 2)  # hidden
        await expect(stage).not_to_have_attribute("data-asleep", "")
        assert not (await watched.video())["paused"]
        await video.tap(position={"x": 40, "y": 40})  # not where the first was: two there are a double click
        await expect(stage).to_have_attribute("data-asleep", "", timeout=2500)  # it hides by itself after 3 s
        assert not (await watched.video())["paused"]


async def test_pages_play_in_a_browser_that_makes_no_style_sheets_by_script(gateway: Gateway, browser: Browser) -> None:
    """Safari has these constructors since 16.4."""

    async def prepare(context: BrowserContext) -> None:
        await context.add_init_script(
            """for (const owner of [Document, ShadowRoot]) delete owner.prototype.adoptedStyleSheets;
            globalThis.CSSStyleSheet = class { constructor() { throw new TypeError("Illegal constructor"); } };"""
        )

    channel = gateway.channel(videoname="On an old phone", color="#c8102e", isPublic=True)
    home = f"http://127.0.0.1:{gateway.ports['http']}"
    element = f'<script type="module" src="{home}/player.js"></script>'
    element += f'<millrace-player channel="{channel.id}" autoplay muted></millrace-player>'
    with push(WIDE, channel.push, loop=True):
        channel.wait_live()
        async with opened(browser, channel.url(""), prepare=prepare) as watched:
            await watched.plays(40)
            assert not watched.complaints
        async with opened(browser, f"{home}/", prepare=prepare) as watched:
            await expect(watched.page.get_by_text("On an old phone")).to_be_visible()
            assert not watched.complaints
        async with foreign_page(element) as url, opened(browser, url, prepare=prepare) as watched:
            player = watched.page.locator("millrace-player")
            await watched.comes_true("async () => document.querySelector('millrace-player').state === 'live'")
            await expect(player).to_have_css("display", "block")
            assert not watched.complaints


async def test_the_home_page_shows_the_whole_picture_of_a_portrait_channel(
    gateway: Gateway, channels: dict[Film, Channel], browser: Browser
) -> None:
    home = f"http://127.0.0.1:{gateway.ports['http']}/"
    async with opened(browser, home, viewport=UPRIGHT) as watched:
        card = watched.page.locator(f'.card[href*="{channels[TALL].id}"] img')
        await expect(card).to_have_css("object-fit", "contain")
        await watched.page.wait_for_function("() => document.querySelector('.card img').naturalHeight > 0")
        await photo(watched.page, "phone-home")


async def test_broadcaster_and_console_can_be_installed(gateway: Gateway, browser: Browser) -> None:
    base = f"http://127.0.0.1:{gateway.ports['http']}"
    async with opened(browser, f"{base}/broadcast.html") as watched:
        assert await installable(watched.page) == ("Millrace Broadcast", f"{base}/broadcast.html")
        assert not watched.complaints
    async with signed_in(browser, gateway) as watched:
        assert (await installable(watched.page))[0] == "Millrace Console"
        assert not watched.complaints


async def installable(page: Page) -> tuple[str, str]:
    """Returns the name and the start page of the page's manifest, as the browser reads it, with all its icons."""
    session = await page.context.new_cdp_session(page)
    found = await session.send("Page.getAppManifest")
    assert found["errors"] == []
    manifest = found["manifest"]
    for icon in manifest["icons"]:
        reply = await page.request.get(icon["url"])
        assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
    reply = await page.request.get(found["url"])
    assert reply.headers["content-type"] == "application/manifest+json"
    return manifest["name"], manifest["startUrl"]
