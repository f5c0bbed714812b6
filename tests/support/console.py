"""Opens the console in a browser, signed in."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from playwright.async_api import Browser, Page, Route

from tests.support.browser import Watched, opened
from tests.support.gateway import Channel, Gateway
from tests.support.time_outs import at_most

WIDE = {"width": 1280, "height": 900}  # of a desktop: the navigation is shown


def address(gateway: Gateway, path: str = "") -> str:
    """The URL of the console. path: a view such as `#/channels`."""
    return f"http://127.0.0.1:{gateway.ports['admin']}/{path}"


async def log_in(page: Page, token: str) -> None:
    """Submits the login form and waits for the console's navigation."""
    await page.get_by_label("Token or password").fill(token)
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_role("navigation", name="Main").wait_for()


@contextlib.asynccontextmanager
async def signed_in(browser: Browser, gateway: Gateway, path: str = "", **options: Any) -> AsyncIterator[Watched]:
    """Opens a console page after the login, in English by default."""
    async with opened(browser, address(gateway, path), **{"locale": "en-US", "viewport": WIDE, **options}) as watched:
        watched.page.set_default_timeout(at_most(20_000))
        await log_in(watched.page, gateway.token)
        yield watched


async def held_changes(page: Page, channel: Channel) -> asyncio.Event:
    """Holds the page's changes of a channel until the returned event is set."""
    answered = asyncio.Event()

    async def late(route: Route) -> None:
        if route.request.method == "PUT":
            await answered.wait()
        await route.continue_()

    await page.route(f"**/videostream/{channel.id}", late)
    return answered
