"""What pages say when the encoder stops, and when the gateway or the channel is gone: nothing that is not so."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.at_night import at_night
from tests.support.broadcaster import CAMERAS, from_console, from_key
from tests.support.browser import Browsers, Watched, axe, opened
from tests.support.clients import push
from tests.support.console import signed_in
from tests.support.gateway import Gateway, running
from tests.support.media import SMALL
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

PAUSED = {"en-US": ("The broadcast has paused", "The stream has ended"), "zh-CN": ("直播已暂停", "直播已结束")}

# A player may have 4 s of media when the encoder stops, and more on a busy machine. It plays them, and only then it can
# say "paused"; after the linger time it would say "ended".
gateway = shared_gateway("chromium", "ffmpeg", films=[SMALL], MILLRACE_STREAM__LINGER="20")


async def photo(page: Page, name: str) -> None:
    """Keeps a screenshot if a folder for them is set."""
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.mark.parametrize(("first", "second"), [("en-US", "zh-CN"), *at_night(("zh-CN", "en-US"))])
async def test_viewers_read_that_the_broadcast_has_paused_and_then_that_it_ended(
    first: str, second: str, gateway: Gateway, browser: Browser
) -> None:
    channel = gateway.channel("stops")
    async with contextlib.AsyncExitStack() as stack:
        with push(SMALL, channel.push, loop=True) as encoder:
            channel.wait_live()
            pages = {}
            for name, language in (("flv.html", first), ("hls.html", second), ("whep.html", first), ("", second)):
                pages[name, language] = await stack.enter_async_context(
                    opened(browser, channel.url(name), locale=language)
                )
            await asyncio.gather(*(watched.plays(40) for watched in pages.values()))
            encoder.stop()

            async def reads(name: str, language: str) -> None:
                paused, ended = PAUSED[language]
                page = pages[name, language].page
                headline = page.locator("#headline")
                await expect(headline).to_have_text(paused, timeout=at_most(40_000))
                await photo(page, f"paused-{name or 'watch'}-{language}")
                await expect(headline).to_have_text(ended, timeout=at_most(40_000))

            await asyncio.gather(*(reads(*page) for page in pages))


async def test_the_console_says_that_the_encoder_stopped(browser: Browser) -> None:
    async with contextlib.AsyncExitStack() as stack:
        # The console has no media to play before it says "paused".
        gateway = stack.enter_context(running(MILLRACE_STREAM__LINGER="7"))
        channel = gateway.channel("stops-console")
        page = (await stack.enter_async_context(signed_in(browser, gateway, f"#/channels/{channel.id}"))).page
        badge = page.locator(".page-head .badge")
        with push(SMALL, channel.push, loop=True) as encoder:
            await expect(badge).to_have_text("Live")
            encoder.stop()
            await expect(badge).to_have_text("Paused")
            await expect(page.get_by_text("The encoder stopped the broadcast.")).to_be_visible()
            await photo(page, "console-paused")
        recent = page.get_by_role("region", name="Latest events")
        await expect(recent).to_contain_text("the encoder stopped the broadcast", timeout=at_most(45_000))
        await expect(badge).to_have_text("Idle", timeout=at_most(45_000))
        assert "Interrupted" not in await page.inner_text("main")


async def claims_nothing(page: Page) -> None:
    """No badge of a live stream, no message of the browser."""
    assert not await page.locator(".badge.live, .pill[data-live]:visible").all()
    text = await page.inner_text("body")
    assert "Failed to fetch" not in text


@pytest.mark.parametrize("language", ["en-US", *at_night("zh-CN")])
async def test_pages_claim_nothing_while_the_gateway_does_not_answer(language: str, browser: Browser) -> None:
    async with contextlib.AsyncExitStack() as stack:
        gateway = stack.enter_context(running(expected=-signal.SIGKILL))
        channel = gateway.channel("gone", isPublic=True)
        stack.enter_context(push(SMALL, channel.push, loop=True))
        channel.wait_live()

        async def open_console(path: str) -> Page:
            watched: Watched = await stack.enter_async_context(signed_in(browser, gateway, path, locale="en-US"))
            if language == "zh-CN":
                await watched.page.evaluate("localStorage.setItem('millrace.language', 'zh')")
                await watched.page.reload()
            return watched.page

        home = f"http://127.0.0.1:{gateway.ports['http']}/"
        start = (await stack.enter_async_context(opened(browser, home, locale=language))).page
        await expect(start.locator(".pill[data-live]")).to_be_visible()
        shown = await open_console(f"#/channels/{channel.id}")
        await expect(shown.locator(".page-head .badge.live")).to_be_visible()
        live = await open_console("#/live")
        await expect(live.locator(".live-card .badge.live")).to_be_visible()
        listed = await open_console("#/channels")
        await expect(listed.locator("table .badge.live")).to_be_visible()
        # A gateway that ends in order first tells the pages that its streams have ended.
        gateway.process.kill()
        for name, page in (("channel", shown), ("live", live), ("channels", listed)):
            await expect(page.locator(".away")).to_be_visible(timeout=at_most(20_000))
            await claims_nothing(page)
            await photo(page, f"away-{name}-{language}")
            assert await axe(page) == []
        age = await live.locator(".live-age").inner_text()
        await expect(
            live.get_by_role("button", name="End push" if language == "en-US" else "结束推流")
        ).to_be_disabled()
        for button in await shown.locator(".page-head .button:not(.warns), .page-head .warns").all():
            words = await button.inner_text()
            if words in ("Preview", "End push", "预览", "结束推流"):
                await expect(button).to_be_disabled()
        await expect(start.locator(".note")).not_to_be_empty(timeout=at_most(30_000))
        await claims_nothing(start)
        await photo(start, f"away-home-{language}")
        assert await live.locator(".live-age").inner_text() == age, "the clock stands still"


async def test_a_channel_that_was_deleted_elsewhere_or_expired_offers_nothing(
    gateway: Gateway, browser: Browser
) -> None:
    channel = gateway.channel("deleted")
    expired = gateway.channel("expired", outdate="2020-01-01T00:00:00Z")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        with push(SMALL, channel.push, loop=True):
            await expect(page.locator(".page-head .badge")).to_have_text("Live")
            gateway.api("DELETE", f"/videostream/{channel.id}")
            await expect(page.get_by_role("heading", name="This channel does not exist")).to_be_visible()
            await claims_nothing(page)
        await page.goto(page.url.replace(channel.id, expired.id))
        await expect(page.get_by_text("This channel has expired")).to_be_visible()
        await expect(page.get_by_role("link", name="Go live")).to_have_count(0)
        await photo(page, "expired")


async def test_a_preview_after_the_domains_were_changed_asks_for_a_reload(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel("domains")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        with push(SMALL, channel.push, loop=True):
            await expect(page.locator(".page-head .badge")).to_have_text("Live")
            # `localhost` is another host than that of the page.
            gateway.api("PUT", "/domains", {"pushDNS": "", "pullDNS": f"http://localhost:{gateway.ports['http']}"})
            try:
                there = page.get_by_role("link", name="Open", exact=True)
                await expect(there).to_have_attribute("href", re.compile("^http://localhost:"), timeout=at_most(30_000))
                await page.get_by_role("button", name="Preview").click()
                stage = page.locator(".preview .stage")
                await expect(stage).to_contain_text("The domains were changed after this page was opened.")
                await photo(page, "domains")
                await stage.get_by_role("button", name="Reload this page").click()
                await page.get_by_role("button", name="Preview").click()
                await expect(stage).to_have_attribute("data-state", "playing")
            finally:
                gateway.api("PUT", "/domains", {"pushDNS": "", "pullDNS": ""})


@pytest.mark.parametrize(
    ("shown", "opening"),
    [(from_key, "Sending to channel Evening talk"), *at_night((from_console, "Evening talk"))],
    ids=lambda one: getattr(one, "__name__", ""),
)
async def test_the_broadcaster_page_says_what_viewers_get_and_how_many_there_are(
    shown: Any, opening: str, gateway: Gateway, browsers: Browsers
) -> None:
    channel = gateway.channel(videoname="Evening talk", isPublic=True)
    browser = await browsers.get(*CAMERAS)
    async with shown(browser, channel) as studio, opened(browser, channel.url("flv.html")) as watched:
        page = studio.page
        await expect(page.get_by_text(opening).first).to_be_visible()
        await studio.go_live()
        await watched.plays(40)
        await expect(page.locator("#viewers")).to_have_text("1", timeout=at_most(15_000))
        await studio.press("Turn camera off")
        await expect(page.locator("#detail")).to_have_text("Viewers see a dark picture and still hear you.")
        await studio.press("Mute microphone")
        await expect(page.locator("#detail")).to_have_text("Viewers see a dark picture and hear nothing.")
        await photo(page, f"broadcaster-{shown.__name__}")
        await studio.stop()
        await expect(watched.page.locator("#headline")).to_have_text(
            "The broadcast has paused", timeout=at_most(20_000)
        )


async def test_a_hidden_key_is_asked_for_before_its_code_is_shown(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel("codes")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        await page.get_by_role("button", name="QR code of RTMP URL").click()
        question = page.get_by_role("alertdialog", name="QR code of RTMP URL")
        await expect(question).to_contain_text("also on a shared screen")
        assert not await page.locator(".qr-dialog").count()
        await question.get_by_role("button", name="Show the code").click()
        code = page.locator(".qr-dialog")
        await expect(code.get_by_role("img")).to_be_visible()
        await expect(code).to_contain_text("for example a streaming app")
        await expect(page.get_by_text("Open to everybody (the gateway’s setting)")).to_be_visible()
        assert await axe(page) == []
