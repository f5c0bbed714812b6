"""The WebRTC player page and the real gateway: picture and sound, breaks, refusals, reports, and the end of a session."""

import asyncio
import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Browser

from tests.support.browser import Watched, opened
from tests.support.clients import push, until
from tests.support.gateway import Channel, Gateway, running
from tests.support.media import Film
from tests.support.tools import need

FILM = Film("whep", seconds=120, size="640x360", bframes=0)
BROKEN = "The broadcaster's connection broke, waiting"

# One browser for all: each test has a context of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    need("chromium", "ffmpeg")
    FILM.path()
    with running(MILLRACE_STREAM__LINGER="3", MILLRACE_STREAM__WAIT_FOR_PUBLISHER="1") as instance:
        yield instance


async def fact(watched: Watched, name: str) -> str:
    return (await watched.page.locator(f"#{name}").inner_text()).strip()


async def has_viewers(channel: Channel, count: int) -> None:
    await asyncio.to_thread(until, lambda: channel.session()["viewers"]["whep"] == count, f"{count} viewers by WHEP")


async def test_the_page_plays_follows_its_publisher_and_ends_its_session(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("webrtc", isHls=False, isCMAF=False)
    async with opened(browser, channel.url("whep.html")) as watched:
        page = watched.page
        await watched.comes_to_say("Waiting for the stream")
        with push(FILM, channel.push):
            async with page.expect_request(lambda r: r.url.endswith("/report"), timeout=30_000) as sent:
                await watched.plays()
            assert "millrace-p=whep," in ((await sent.value).post_data or "")
            assert await watched.says() == "Live"
            assert await fact(watched, "protocol") == "WebRTC"
            await page.wait_for_function("() => /H264.*opus/.test(document.querySelector('#decoder').textContent)")
            await page.wait_for_function("() => /^0\\.\\d s$/.test(document.querySelector('#delay').textContent)")
            await has_viewers(channel, 1)
            await page.get_by_role("button", name="Sound is off").click()
            assert await page.evaluate("() => !document.querySelector('video').muted")
        await watched.comes_to_say(BROKEN)
        # In time: the connection of the viewer stays. Too late: the stream has ended, and the page waits for the next.
        with push(FILM, channel.push):
            await watched.comes_to_say("Live")
            await watched.plays()
        await watched.comes_to_say("The stream has ended", within=30)
        await has_viewers(channel, 0)
        with push(FILM, channel.push):
            await watched.comes_to_say("Live")
            await watched.plays()
            await page.goto("about:blank")
            await has_viewers(channel, 0)
    assert not [line for line in watched.complaints if "404" not in line]


async def test_refusals_are_told_and_a_broken_path_is_replaced(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("refused", isHls=False, isCMAF=False)
    with push(FILM, channel.push):
        channel.wait_live()
        async with opened(browser, channel.url("about.txt")) as watched:
            page, asked = watched.page, list[str]()
            page.on("request", lambda request: asked.append(f"{request.method} {request.url}"))
            await page.route("**/whep", lambda route: route.fulfill(status=406, body="the stream has AV1 only"))
            await page.goto(channel.url("whep.html"))
            await page.locator("#detail", has_text="the stream has AV1 only").wait_for()
            await page.unroute("**/whep")
            await page.route("**/whep", lambda route: route.fulfill(status=401, body="the sign has expired"))
            await page.get_by_role("button", name="Try again").click()
            await watched.comes_to_say("Not allowed")
            assert sum(line.startswith("POST") and line.endswith("/whep") for line in asked) == 2, asked
            await page.unroute("**/whep")
            await page.get_by_role("button", name="Try again").click()
            await watched.plays()
            assert re.search(r"H264", await fact(watched, "decoder"))
