"""Usability of the player pages: languages, sound, posters, sharing, keys and accessibility."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.support.browser import Watched, axe, opened
from tests.support.media import SMALL
from tests.support.player_stub import Stub, serving
from tests.support.time_outs import at_most
from tests.support.tools import need

PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


@pytest_asyncio.fixture(loop_scope="session")
async def stub() -> AsyncIterator[Stub]:
    need("ffmpeg")
    async with serving(SMALL) as instance:
        yield instance


async def muted(watched: Watched) -> bool:
    return bool(await watched.page.evaluate("document.querySelector('video').muted"))


async def test_the_page_uses_the_browsers_language_until_it_is_changed(stub: Stub, browser: Browser) -> None:
    stub.live = False
    async with opened(browser, stub.url("flv.html"), locale="zh-CN") as watched:
        await watched.comes_to_say("等待直播开始")
        assert await watched.page.evaluate("document.documentElement.lang") == "zh-CN"
        await watched.page.get_by_role("button", name="English").click()
        await watched.comes_to_say("Waiting for the stream")
        await watched.page.reload()
        await watched.comes_to_say("Waiting for the stream")
        await watched.page.get_by_role("button", name="中文").click()
        stub.live = True
        await watched.plays()
        for name in ("暂停", "打开声音", "分享", "全屏"):
            assert await watched.page.get_by_role("button", name=name, exact=True).count() == 1, name
        text = await watched.page.locator("main, header, footer").all_inner_texts()
        left = {word for word in " ".join(text).split() if word.isascii() and word.isalpha() and len(word) > 1}
        assert left <= {"FLV", "HLS", "DASH", "WebRTC", "English"}, left
        assert not watched.complaints


async def test_both_languages_have_all_texts_with_the_same_placeholders(stub: Stub, browser: Browser) -> None:
    async with opened(browser, stub.url("status.json")) as watched:
        tables = await watched.page.evaluate("async () => (await import('/_player/words.js')).TABLES")
    assert tables["en"].keys() == tables["zh"].keys()
    for word, english in tables["en"].items():
        chinese = tables["zh"][word]
        assert english.strip()
        assert chinese.strip()
        assert english.count("{") == chinese.count("{"), word


async def keeps(watched: Watched, name: str, value: str) -> None:
    """Waits until other pages see a choice that the page has stored: the next one may begin in another process."""
    wanted = {"name": f"millrace.{name}", "value": value}
    async with asyncio.timeout(at_most(10)):
        while True:
            state = await watched.page.context.storage_state()
            if any(wanted in origin["localStorage"] for origin in state["origins"]):
                return
            await asyncio.sleep(0.1)


@pytest.mark.nightly
async def test_volume_and_muting_are_remembered(stub: Stub, browser: Browser) -> None:
    async with opened(browser, stub.url("flv.html")) as watched:
        await watched.plays()
        assert await muted(watched), "a first visit begins without sound, as browsers want it"
        await watched.page.get_by_role("button", name="Sound is off").click()
        await watched.page.get_by_role("slider", name="Volume").fill("0.4")
        await keeps(watched, "volume", "0.4")
        await keeps(watched, "muted", "no")
        # As viewers change it: Chromium forgets that a page was touched where the address is typed.
        await watched.page.locator("nav a[href^='hls.html']").click()
        await watched.page.wait_for_url("**/hls.html*", wait_until="domcontentloaded")
        await watched.plays()
        assert not await muted(watched)
        assert await watched.page.evaluate("document.querySelector('video').volume") == 0.4
        await watched.page.locator("#stage").hover()  # the control bar may have gone to sleep
        await watched.page.get_by_role("button", name="Mute").click()
        await keeps(watched, "muted", "yes")
        await watched.page.reload()
        await watched.plays()
        assert await muted(watched)


async def test_a_browser_that_blocks_sound_plays_muted_and_keeps_the_choice(stub: Stub, browser: Browser) -> None:
    async with opened(browser, stub.url("flv.html")) as watched:
        # What autoplay policies do to a page that nobody has touched.
        await watched.page.add_init_script(
            """const play = HTMLMediaElement.prototype.play;
            HTMLMediaElement.prototype.play = function () {
              return this.muted ? play.call(this) : Promise.reject(new DOMException("touch me", "NotAllowedError")); };
            localStorage.setItem("millrace.muted", "no");"""
        )
        await watched.page.reload()
        await watched.plays()
        assert await muted(watched)
        assert await watched.page.get_by_role("button", name="Sound is off").is_visible()
        assert await watched.page.evaluate("localStorage.getItem('millrace.muted')") == "no"


async def test_an_idle_channel_shows_its_last_picture_without_failed_requests(stub: Stub, browser: Browser) -> None:
    stub.live = False
    (stub.media / "vod").mkdir()
    async with opened(browser, stub.url("hls.html")) as watched:
        await watched.comes_to_say("Waiting for the stream")
        assert await watched.page.locator(".poster").is_hidden()
        await watched.page.screenshot(path=str(stub.media / "vod" / "last.jpg"), type="jpeg")
    stub.poster = "vod/last.jpg"
    async with opened(browser, stub.url("hls.html?sign=1-abc")) as watched:
        await watched.page.locator(".poster").wait_for(state="visible")
        assert any(path.endswith("vod/last.jpg?sign=1-abc") for path in stub.requests)
        stub.live = True
        await watched.plays()
        await expect(watched.page.locator(".poster")).to_be_hidden()
        assert not watched.complaints


async def test_addresses_can_be_shared_by_keyboard_and_the_focus_returns(stub: Stub, browser: Browser) -> None:
    async with opened(browser, stub.url("flv.html?sign=1-abc")) as watched:
        page = watched.page
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await watched.plays()
        await page.get_by_role("button", name="Share").focus()
        await page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Share this stream")
        await dialog.get_by_role("button", name="Copy: Stream address").click()
        await dialog.get_by_text("Copied").wait_for()
        assert await page.evaluate("navigator.clipboard.readText()") == stub.url("live.flv?sign=1-abc")
        assert await dialog.get_by_text("contain a signature").is_visible()
        await page.keyboard.press("Escape")
        await dialog.wait_for(state="hidden")
        assert await page.evaluate("document.activeElement.getAttribute('aria-label')") == "Share"
        assert not watched.complaints


async def test_copying_works_on_a_page_without_tls(stub: Stub, browser: Browser) -> None:
    async with opened(browser, stub.url("flv.html")) as watched:
        await watched.page.add_init_script("delete Navigator.prototype.clipboard")
        await watched.page.reload()
        await watched.plays()
        await watched.page.get_by_role("button", name="Share").click()
        await watched.page.get_by_role("button", name="Copy: This page").click()
        await watched.page.get_by_text("Copied").wait_for()


@pytest.mark.nightly
async def test_the_control_bar_hides_and_returns_for_mouse_and_keyboard(stub: Stub, browser: Browser) -> None:
    async with opened(browser, stub.url("flv.html")) as watched:
        await watched.plays()
        asleep = watched.page.locator("#stage[data-asleep]")
        await asleep.wait_for(timeout=at_most(10_000))
        await watched.page.mouse.move(400, 200)
        await asleep.wait_for(state="detached")
        await asleep.wait_for(timeout=at_most(10_000))
        await watched.page.get_by_role("button", name="Pause").focus()
        await watched.page.keyboard.press("Tab")
        await watched.page.wait_for_function(
            "() => getComputedStyle(document.querySelector('.controls')).opacity === '1'"
        )
        await watched.page.mouse.click(400, 200)
        await watched.comes_to_say("Paused")
        await watched.page.mouse.click(400, 200)
        await watched.comes_to_say("Live")


async def test_all_controls_are_reached_by_keyboard_in_order(stub: Stub, browser: Browser) -> None:
    async with opened(browser, stub.url("flv.html")) as watched:
        await watched.plays()
        reached: list[str] = []
        for _ in range(20):
            await watched.page.keyboard.press("Tab")
            told = "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
            reached.append(await watched.page.evaluate(told))
        wanted = ["FLV", "HLS", "LL-HLS", "DASH", "Instant", "WebRTC", "中文", "System theme"]
        wanted += ["Sound is off · Unmute", "Pause", "Unmute", "Volume", "Share", "Picture in picture", "Full screen"]
        assert reached[: len(wanted)] == wanted


async def test_full_screen_has_the_controls_and_ends_with_its_key(stub: Stub, browser: Browser) -> None:
    async with opened(browser, stub.url("flv.html")) as watched:
        await watched.plays()
        await watched.page.keyboard.press("f")
        await watched.page.wait_for_function("() => document.fullscreenElement?.id === 'stage'")
        assert await watched.page.get_by_role("button", name="Leave full screen").is_visible()
        await watched.page.keyboard.press("f")
        await watched.page.wait_for_function("() => document.fullscreenElement === null")


@pytest.mark.nightly
async def test_flv_playback_starts_and_stays_close_to_live_at_normal_speed(stub: Stub, browser: Browser) -> None:
    async with opened(browser, stub.url("flv.html")) as watched:
        await watched.page.evaluate(
            """() => { window.rates = []; document.querySelector("video").addEventListener("ratechange",
              (e) => window.rates.push(e.target.playbackRate)); }"""
        )
        await watched.plays()
        await watched.page.wait_for_timeout(5000)
        assert (await watched.video())["behind"] < 1.5
        rates = await watched.page.evaluate("window.rates")
        assert len(rates) <= 4, rates
        assert all(rate in (1, 1.04, 1.08) for rate in rates), rates


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_player_pages_are_accessible(scheme: str, stub: Stub, browser: Browser) -> None:
    async def judge(watched: Watched, what: str, wrong: dict[str, Any]) -> None:
        if found := await axe(watched.page):
            wrong[what] = found

    wrong: dict[str, Any] = {}
    stub.live = False
    async with opened(browser, stub.url("flv.html"), color_scheme=scheme) as watched:
        await watched.comes_to_say("Waiting for the stream")
        await judge(watched, "waiting", wrong)
        stub.live = True
        await watched.plays()
        await watched.page.mouse.move(400, 200)
        await judge(watched, "live", wrong)
        await watched.page.get_by_role("button", name="Share").click()
        await judge(watched, "share", wrong)
    stub.denied = True
    async with opened(browser, stub.url("dash.html"), color_scheme=scheme, **PHONE) as watched:
        await watched.comes_to_say("Not allowed")
        await judge(watched, "denied, on a phone", wrong)
    assert not wrong, json.dumps(wrong, indent=1)
