"""The wall in Chromium: all live channels as pictures, on a large screen, a desk and a phone."""

import contextlib
import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.support.browser import axe, opened
from tests.support.clients import push
from tests.support.console import WIDE, address, signed_in
from tests.support.gateway import Gateway
from tests.support.media import SMALL
from tests.support.shared_gateway import shared_gateway

PASSWORD = "a long password"
SCREEN = {"width": 1920, "height": 1080}
PHONE = {"width": 390, "height": 844}
# The bounds of the tiles, of which each has a picture and words.
FITS = """() => [...document.querySelectorAll(".wall-tile")].every((tile) => {
  const box = tile.getBoundingClientRect(), words = tile.querySelector(".wall-words").getBoundingClientRect();
  return box.top >= 0 && box.bottom <= innerHeight && box.right <= innerWidth && words.bottom <= box.bottom
    && tile.querySelector(".input-picture").getBoundingClientRect().height > 60; })"""

gateway = shared_gateway("chromium", "ffmpeg", AWS_REGION="", MILLRACE_EGRESS__ALLOW="127.0.0.0/8")


async def photo(page: Page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png")


async def multiply(page: Page, count: int) -> None:
    """Makes the answer of live sessions `count` channels long, of which the last has a fault."""

    async def answer(route: Route) -> None:
        reply = await route.fetch()
        one = (await reply.json())[0]  # streams of other tests may still linger
        found = [{**one, "videoname": f"Channel {n:02}", "id": f"{one['id']}{n}"} for n in range(count)]
        found[-1]["state"] = "lingering"
        await route.fulfill(response=reply, json=found)

    await page.route("**/videostreams/online", answer)
    await page.route("**/preview?*", lambda route: route.abort())


async def test_the_wall_shows_pictures_faults_viewers_and_delay(browser: Browser, gateway: Gateway) -> None:
    names = ["Hall one with a very long name that does not fit", "舞台", "Broken"]
    faulty: dict[str, Any] = {"isRelay": True, "relayURL": ["rtmp://127.0.0.1:1/app/key"]}
    channels = [gateway.channel(videoname=name, **(faulty if name == "Broken" else {})) for name in names]
    with contextlib.ExitStack() as stack:
        for channel in channels:
            stack.enter_context(push(SMALL, channel.push, loop=True))
        for channel in channels:
            channel.wait_live()
        async with (
            opened(browser, channels[1].url("flv.html")) as viewer,
            signed_in(browser, gateway, "#/live", color_scheme="light") as watched,
        ):
            await viewer.plays()
            page = watched.page
            await page.get_by_role("link", name="Wall").click()
            await expect(page.get_by_role("navigation")).to_have_count(0)
            tiles = page.locator(".wall-tile")
            await expect(tiles).to_have_count(3)
            for name in names:
                await expect(page.get_by_role("img", name=f"Picture of {name}")).to_be_visible()
            stage, broken = tiles.filter(has_text="舞台"), tiles.filter(has_text="Broken")
            await expect(stage.get_by_text("1 viewer", exact=True)).to_be_visible()
            await expect(stage.get_by_text(re.compile(r"^[\d.]+ s delay$"))).to_be_visible()
            await expect(stage.get_by_text("No faults")).to_be_visible()
            await expect(broken.get_by_text(re.compile("^The output Relay"))).to_be_visible()
            await expect(page.get_by_role("status")).to_have_text("1 with a fault")
            await expect(page.locator("video, audio")).to_have_count(0)
            dark = await page.evaluate("getComputedStyle(document.documentElement).colorScheme")
            assert dark == "dark"
            for size in (WIDE, SCREEN):
                await page.set_viewport_size({"width": size["width"], "height": size["height"]})
                await watched.comes_true(FITS)
                assert await axe(page) == []
                await photo(page, f"wall-{size['width']}")
            await page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
            await expect(tiles).to_have_count(3)
            await watched.comes_true(FITS)
            assert await axe(page) == []
            await photo(page, "wall-390")
            await page.keyboard.press("f")
            await watched.comes_true("() => document.fullscreenElement !== null")
            await page.keyboard.press("f")
            await watched.comes_true("() => document.fullscreenElement === null")
            await page.get_by_role("link", name="Live").click()
            await watched.comes_true("() => document.documentElement.dataset.theme === undefined")
            assert watched.complaints == []


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
async def test_keys_turn_the_pages_of_many_channels(browser: Browser, gateway: Gateway, locale: str) -> None:
    with push(SMALL, gateway.channel().push, loop=True):
        async with signed_in(browser, gateway, viewport=SCREEN) as watched:
            page = watched.page
            await multiply(page, 40)
            await page.evaluate(f"localStorage.setItem('millrace.language', '{locale[:2]}')")
            await page.goto(address(gateway, "#/wall"))
            await page.reload()
            tiles = page.locator(".wall-tile")
            await expect(tiles).to_have_count(16)
            await expect(tiles.first).to_contain_text("Channel 39")
            await expect(tiles.first).to_contain_text("Reconnecting" if locale == "en-US" else "等待重连")
            await watched.comes_true(FITS)
            await photo(page, f"wall-many-{locale}")
            for key, first in (("PageDown", "Channel 15"), ("ArrowRight", "Channel 31"), ("PageDown", "Channel 31"),
                               ("ArrowLeft", "Channel 15"), ("Home", "Channel 39"), ("End", "Channel 31")):  # fmt: skip
                await page.keyboard.press(key)
                await expect(tiles.first).to_contain_text(first)
            assert await axe(page) == []


async def test_a_wall_out_of_sight_asks_nothing(browser: Browser, gateway: Gateway) -> None:
    with push(SMALL, gateway.channel().push, loop=True):
        async with signed_in(browser, gateway) as watched:
            page = watched.page
            await page.clock.install()
            await page.goto(address(gateway, "#/wall"))
            await expect(page.locator(".wall-tile").first).to_be_visible()
            await page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true })")
            await page.clock.run_for(20_000)  # the requests that were under way
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            await page.clock.run_for(60_000)
            assert asked == []


@pytest.mark.parametrize("role", ["broadcaster", "observer"])
async def test_the_wall_of_a_user_shows_the_own_channels(browser: Browser, gateway: Gateway, role: str) -> None:
    own, other = gateway.channel(videoname="Own"), gateway.channel(videoname="Other")
    user = {"name": f"wall-{role}", "password": PASSWORD, "role": role, "channels": [own.id]}
    assert gateway.api("POST", "/users", user).status == 200
    with push(SMALL, own.push, loop=True), push(SMALL, other.push, loop=True):
        own.wait_live()
        other.wait_live()
        async with opened(browser, address(gateway), locale="en-US", viewport=WIDE) as watched:
            page = watched.page
            await page.get_by_label("User name").fill(f"wall-{role}")
            await page.get_by_label("Token or password").fill(PASSWORD)
            await page.get_by_role("button", name="Log in").click()
            await page.get_by_role("link", name="Wall").click()
            await expect(page.get_by_role("img", name="Picture of Own")).to_be_visible()
            await expect(page.locator(".wall-tile")).to_have_count(1)
            assert watched.complaints == []
            await page.get_by_role("link", name="Channels").click()
            await expect(page.get_by_role("heading", name="Channels")).to_be_visible()
