"""The page of Media over QUIC and the real gateway: the vendored player, B-frames with AAC, protection, the end."""

import asyncio
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import opened
from tests.support.clients import push, until
from tests.support.gateway import Channel, Gateway
from tests.support.media import SMALL_BFRAMES
from tests.support.shared_gateway import shared_gateway

gateway = shared_gateway(
    "chromium", "ffmpeg", films=[SMALL_BFRAMES], MILLRACE_MOQ__PORT="0", MILLRACE_STREAM__LINGER="3"
)


async def has_viewers(channel: Channel, count: int) -> None:
    await asyncio.to_thread(until, lambda: channel.session()["viewers"]["moq"] == count, f"{count} viewers by MoQ")


async def test_the_page_plays_pictures_and_sound(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("moq", playAuth="sign")
    query = urlsplit(channel.item["playUrls"]["moq"]).query
    async with opened(browser, channel.url(f"moq.html?{query}")) as watched:
        page = watched.page
        with push(SMALL_BFRAMES, channel.push, loop=True):
            await watched.comes_to_say("Live", within=30)
            await watched.plays()
            await expect(page.locator("#protocol")).to_have_text("MoQ")
            await expect(page.locator("#decoder")).to_contain_text("moq-rs 0.5.1")
            await has_viewers(channel, 1)
            await page.get_by_role("button", name="Sound is off").click()
            element = "document.querySelector('moq-watch')"
            await watched.comes_true(f"() => {element}.audio.out.stats.peek()?.bytesReceived > 10_000")
            await watched.plays()
        await watched.comes_to_say("The broadcaster's connection broke, waiting")
        with push(SMALL_BFRAMES, channel.push, loop=True):
            await watched.comes_to_say("Live")
            await watched.plays()
        await watched.comes_to_say("The stream has ended", within=30)
        await has_viewers(channel, 0)
    # The library writes the end of a session to the console.
    assert not [line for line in watched.complaints if "404" not in line and "The session is closed" not in line]


async def test_the_watch_page_offers_it_and_plays_by_it(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("offered")
    with push(SMALL_BFRAMES, channel.push, loop=True):
        await asyncio.to_thread(channel.wait_live)
        async with opened(browser, channel.url("")) as watched:
            page = watched.page
            await watched.plays()
            await expect(page.locator("moq-watch")).to_have_count(0)
            await watched.open_advanced()
            await page.get_by_role("radio", name="MoQ").check()
            await page.locator("moq-watch").wait_for(state="attached")
            await has_viewers(channel, 1)
            await watched.plays()


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.4 Safari/605.1.15",
    ],
)
async def test_firefox_and_safari_have_no_web_transport_that_the_library_uses(
    agent: str, browser: Browser, gateway: Gateway
) -> None:
    channel = gateway.channel("agents")
    with push(SMALL_BFRAMES, channel.push, loop=True):
        await asyncio.to_thread(channel.wait_live)
        async with opened(browser, channel.url("moq.html"), user_agent=agent) as watched:
            await watched.comes_to_say("This browser cannot play MoQ")
            words = "It has no complete WebTransport. Choose another player above."
            await expect(watched.page.locator("#detail")).to_have_text(words)
            await watched.page.goto(channel.url(""))
            await watched.plays()
            await watched.open_advanced()
            await expect(watched.page.get_by_role("radio", name="LL-HLS")).to_have_count(1)
            await expect(watched.page.get_by_role("radio", name="MoQ")).to_have_count(0)


async def test_without_web_transport_the_watch_page_does_not_offer_it(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("old")
    with push(SMALL_BFRAMES, channel.push, loop=True):
        await asyncio.to_thread(channel.wait_live)
        async with opened(browser, channel.url("about.txt")) as watched:
            await watched.page.add_init_script("delete globalThis.WebTransport")
            await watched.page.goto(channel.url(""))
            await watched.plays()
            await watched.open_advanced()
            await expect(watched.page.get_by_role("radio", name="LL-HLS")).to_have_count(1)
            await expect(watched.page.get_by_role("radio", name="MoQ")).to_have_count(0)
