"""Chromium through playwright, with all errors and warnings of a page."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, async_playwright

from tests.support.time_outs import at_most

_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (e) =>
  console.error(`CSP violation: ${e.violatedDirective} ${e.blockedURI}`));
"""
_VIDEO = """() => { const v = document.querySelector("video"); return v && {
  time: v.currentTime, width: v.videoWidth, paused: v.paused, rate: v.playbackRate,
  behind: v.buffered.length ? v.buffered.end(v.buffered.length - 1) - v.currentTime : -1 }; }"""


@dataclass
class Watched:
    """A page and its console errors, exceptions and policy violations."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} {message.location.get('url', '')}")

    async def video(self) -> dict[str, Any]:
        """The video element: time, width, paused, rate, and seconds buffered ahead."""
        return dict(await self.page.evaluate(_VIDEO))

    async def plays(self, within: float = 25.0) -> None:
        """Waits until the picture has advanced four times; fails with the state of the page."""
        end, last, moved = time.monotonic() + at_most(within), -1.0, 0
        while moved < 4:
            now = await self.video()
            moved += bool(now["width"] and last >= 0 and now["time"] > last)
            last = now["time"]
            if time.monotonic() > end:
                raise AssertionError(f"it does not play: {now}, says {await self.says()!r}, {self.complaints[:4]}")
            await asyncio.sleep(0.15)

    async def plays_past(self, time_s: float, within: float = 40.0) -> None:
        """Waits until the playback position is later than `time_s`."""
        end = time.monotonic() + at_most(within)
        while (now := await self.video())["time"] <= time_s:
            assert time.monotonic() < end, f"not past {time_s}: {now}, says {await self.says()!r}"
            await asyncio.sleep(0.3)

    async def comes_true(self, script: str, arg: Any = None, within: float = 30.0) -> None:
        """Waits until an async function of the page returns something true.

        `Page.wait_for_function` is for other functions: it takes the promise itself for true.
        """
        end = time.monotonic() + at_most(within)
        while not await self.page.evaluate(script, arg):
            assert time.monotonic() < end, f"still not true: {script}"
            await asyncio.sleep(0.1)

    async def says(self) -> str:
        """The state shown by the page."""
        return (await self.page.locator("#state").inner_text()).strip()

    async def open_advanced(self) -> None:
        """Opens the part of the watch page's menu with the ways to play."""
        await self.page.locator("#stage").hover()
        await self.page.get_by_role("button", name="Settings").click()
        await self.page.get_by_text("Advanced", exact=True).click()

    async def comes_to_say(self, words: str, within: float = 20.0) -> None:
        """Waits until the page shows the state `words`."""
        await self.page.locator("#state", has_text=words).wait_for(timeout=at_most(within * 1000))


async def _launch(playwright: Playwright, flags: tuple[str, ...], whole: bool) -> Browser:
    program = (None if whole else shutil.which("chromium-headless-shell")) or shutil.which("chromium")
    return await playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu", *flags])


@contextlib.asynccontextmanager
async def chromium(*flags: str, whole: bool = False) -> AsyncIterator[Browser]:
    """Starts Debian's `chromium-headless-shell` for the block, or the whole browser. Pages may play without a click."""
    async with async_playwright() as playwright:
        browser = await _launch(playwright, flags, whole)
        try:
            yield browser
        finally:
            await browser.close()


class Browsers:
    """The browsers of one test process: one for each set of flags, started when a test first asks for it."""

    def __init__(self, playwright: Playwright) -> None:
        self._playwright = playwright
        self._running: dict[tuple[tuple[str, ...], bool], Browser] = {}

    async def get(self, *flags: str, whole: bool = False) -> Browser:
        """Returns the browser with these flags. It starts anew if it has crashed.

        It is `chromium-headless-shell`, which opens a page with a quarter of the CPU. whole: the complete Chromium, for
        example for permission prompts.
        """
        browser = self._running.get((flags, whole))
        if browser is None or not browser.is_connected():
            browser = self._running[flags, whole] = await _launch(self._playwright, flags, whole)
        return browser

    async def close_pages(self) -> None:
        """Closes the contexts that a failed test has left open."""
        for browser in self._running.values():
            for context in browser.contexts if browser.is_connected() else ():
                await context.close()

    async def close(self) -> None:
        for browser in self._running.values():
            await browser.close()


def shared_browser(*flags: str) -> Any:
    """Returns the fixture `browser` for a module whose pages need these flags."""

    @pytest_asyncio.fixture(name="browser", loop_scope="session")
    async def give(browsers: Browsers) -> Browser:
        return await browsers.get(*flags)

    return give


@contextlib.asynccontextmanager
async def opened(
    browser: Browser, url: str, *, prepare: Callable[[BrowserContext], Awaitable[None]] | None = None, **options: Any
) -> AsyncIterator[Watched]:
    """Opens a page at `url` and watches it from its start. prepare: is called with the browser context before."""
    # A playing page costs half the CPU of one with 1280 × 900.
    context = await browser.new_context(**{"viewport": {"width": 800, "height": 600}, **options})
    context.set_default_timeout(at_most(30_000))
    try:
        if prepare is not None:
            await prepare(context)
        watched = Watched(await context.new_page())
        watched.page.on("console", watched._console)
        watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        await watched.page.add_init_script(_VIOLATIONS)
        await watched.page.goto(url)
        yield watched
    finally:
        await context.close()


_AXE = Path(__file__).resolve().parents[2] / "tools" / "web" / "node_modules" / "axe-core" / "axe.min.js"


async def axe(page: Page) -> list[str]:
    """Returns the serious and critical findings of axe-core on the page, one line each."""
    if not _AXE.exists():
        raise AssertionError("axe-core is not installed: run `make setup`")
    # Elements that fade in do not have their final colours yet. Endless animations continue.
    await page.evaluate(
        "() => Promise.allSettled(document.getAnimations()"
        ".filter((a) => a.effect?.getComputedTiming().endTime !== Infinity).map((a) => a.finished))"
    )
    # The debugger evaluates the script, because the policy of the page forbids foreign scripts.
    if not await page.evaluate("() => 'axe' in window"):
        await page.evaluate(_AXE.read_text(encoding="utf-8"))
    found = await page.evaluate(
        "async () => (await axe.run(document, {resultTypes: ['violations'], preload: false})).violations"
        ".filter((v) => v.impact === 'serious' || v.impact === 'critical')"
        ".map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.target.join(' ')).join(' | ')}`)"
    )
    return list(found)
