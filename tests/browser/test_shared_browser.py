"""The browser that tests share: it starts anew after a crash, and no test leaves a page in it."""

import contextlib

from playwright.async_api import Browser, Error

from tests.support.browser import Browsers
from tests.support.waiting import until

FLAG = "--lang=en"  # a browser of its own, because it crashes


async def test_a_browser_that_crashed_is_replaced(browsers: Browsers) -> None:
    first = await browsers.get(FLAG)
    assert await browsers.get(FLAG) is first
    session = await first.new_browser_cdp_session()
    with contextlib.suppress(Error):  # the connection breaks before the answer
        await session.send("Browser.crash")
    await until(lambda: not first.is_connected(), "the browser has ended")
    second = await browsers.get(FLAG)
    page = await second.new_page()
    assert await page.evaluate("1 + 1") == 2


async def test_a_test_begins_without_pages_of_another_one(browser: Browser, browsers: Browsers) -> None:
    await browser.new_context()
    assert len(browser.contexts) == 1
    await browsers.close_pages()
    assert browser.contexts == []
