"""Captions on the page of a film: they are chosen there, shown at their time, and their text never becomes markup."""

from __future__ import annotations

from playwright.async_api import Browser, Page, expect

from tests.support import films
from tests.support.browser import axe, opened
from tests.support.film_captions import send_captions, uploaded_film
from tests.support.gateway import Gateway
from tests.support.shared_gateway import shared_gateway

gateway = shared_gateway("chromium", "ffmpeg", MILLRACE_VOD__PRESET="ultrafast")

ENGLISH = b"WEBVTT\n\n00:01.000 --> 00:05.000 line:10%\n&lt;img src=x onerror=alert(1)&gt; & more\n"
HEBREW = "1\n00:00:01,000 --> 00:00:05,000\nשלום 🎬\n"
SHOWN = """() => [...document.querySelector("video").textTracks].filter(({ mode }) => mode === "showing")
  .flatMap(({ activeCues }) => [...activeCues ?? []].map((cue) => cue.getCueAsHTML().textContent))"""
WIDE = {"width": 1100, "height": 800}


async def shown(page: Page, *texts: str) -> None:
    """Waits until the video shows these captions."""
    await page.wait_for_function(f"(wanted) => JSON.stringify(({SHOWN})()) === JSON.stringify(wanted)", arg=list(texts))


async def test_captions_are_chosen_and_shown_at_their_time(browser: Browser, gateway: Gateway) -> None:
    key = uploaded_film(gateway, films.plain("captions.mp4", 6))
    assert send_captions(gateway, f"{key}/en?label=English", ENGLISH).status == 200
    assert send_captions(gateway, f"{key}/he?label=%D7%A2%D7%91%D7%A8%D7%99%D7%AA", HEBREW.encode()).status == 200
    async with opened(browser, f"http://127.0.0.1:{gateway.ports['http']}/vod/{key}/", viewport=WIDE) as watched:
        page = watched.page
        await page.locator("#start").click()
        await watched.plays()
        await page.keyboard.press("k")
        toggle = page.get_by_role("button", name="Captions")
        await expect(toggle).to_be_visible()
        await expect(toggle).to_have_attribute("aria-pressed", "false")
        await page.locator("video").evaluate("(v) => { v.currentTime = 0.5; }")
        await toggle.click()
        await expect(toggle).to_have_attribute("aria-pressed", "true")
        await shown(page)  # one second of the film has none: their times are those of the film
        await page.locator("video").evaluate("(v) => { v.currentTime = 1.2; }")
        await shown(page, "<img src=x onerror=alert(1)> & more")
        await page.get_by_label("Language of the captions").select_option("עברית")
        await shown(page, "שלום 🎬")
        assert not await axe(page)
        await page.keyboard.press("Escape")
        await page.locator("video").focus()
        await page.keyboard.press("c")
        await expect(toggle).to_have_attribute("aria-pressed", "false")
        await shown(page)
        assert not watched.complaints


async def test_a_film_without_captions_has_no_button_for_them(browser: Browser, gateway: Gateway) -> None:
    key = uploaded_film(gateway, films.plain("captions.mp4", 6))
    async with opened(browser, f"http://127.0.0.1:{gateway.ports['http']}/vod/{key}/") as watched:
        await watched.page.locator("#start").click()
        await watched.plays()
        await expect(watched.page.locator("#track-captions")).to_be_hidden()
        assert not watched.complaints
