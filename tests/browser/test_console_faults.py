"""Faults of the console itself and of its browser leave words, and not a placeholder that loads for ever."""

from playwright.async_api import Browser, BrowserContext, Route, expect

from tests.support.browser import axe
from tests.support.console import signed_in
from tests.support.gateway import Gateway
from tests.support.shared_gateway import shared_gateway

gateway = shared_gateway("chromium")


async def test_a_browser_whose_locale_is_no_language_shows_every_list(browser: Browser, gateway: Gateway) -> None:
    async def locale_c(context: BrowserContext) -> None:
        await context.add_init_script("Object.defineProperty(navigator, 'languages', { get: () => ['C'] })")

    gateway.channel(videoname="Under C")
    async with signed_in(browser, gateway, "#/channels", prepare=locale_c) as watched:
        page = watched.page
        await expect(page.get_by_role("row", name="Under C")).to_be_visible()
        for view in ("live", "events", "system"):
            await page.evaluate("(to) => { location.hash = to; }", f"#/{view}")
            await page.locator("main h1").wait_for()
            await expect(page.locator("main .skeleton")).to_have_count(0)
        assert watched.complaints == []


async def test_an_exception_in_a_view_is_shown_in_its_place(browser: Browser, gateway: Gateway) -> None:
    async def odd(route: Route) -> None:
        await route.fulfill(json=[{"id": None, "type": "publish.started"}])  # an answer that the view does not expect

    gateway.channel(videoname="Beside the fault")
    async with signed_in(browser, gateway, "#/channels") as watched:
        page = watched.page
        await page.route("**/events?*", odd)
        await page.get_by_role("link", name="Events").click()
        await expect(page.get_by_role("heading", name="This page has a fault")).to_be_visible()
        await expect(page.locator("main")).to_contain_text("TypeError")
        assert await axe(page) == []
        assert any("undefined" in said for said in watched.complaints), watched.complaints
        await page.unroute("**/events?*", odd)
        await page.get_by_role("button", name="Reload").click()
        await expect(page.get_by_role("list", name="Events")).to_contain_text("Beside the fault")
