"""One Chromium for all tests of a test process, on one event loop. Each page has a browser context of its own."""

import asyncio
import inspect
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from tests.support.browser import Browsers
from tests.support.time_outs import at_most
from tests.support.tools import need
from tests.support.waiting import until

_HERE = Path(__file__).parent

expect.set_options(timeout=at_most(20_000))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs these tests on the event loop of the session. Objects of playwright belong to the loop that made them."""
    for item in items:
        if _HERE in item.path.parents and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def _connections() -> dict[int, Any]:
    """The open connections of the running event loop, by the number of their file."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, BaseSelectorEventLoop)
    found = loop._transports.items()  # type: ignore[attr-defined]
    return {file: link for file, link in found if link._sock is not None}


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def closed_connections() -> AsyncIterator[None]:
    """Fails a test that leaves a connection open, as `tests/conftest.py` does at the end of an event loop."""
    before = _connections()
    yield

    def left() -> list[Any]:
        return [link for file, link in _connections().items() if before.get(file) is not link]

    try:
        what = "the test closed its connections"
        await until(lambda: not left(), lambda: f"{what}, of {[link.get_protocol() for link in left()]}", within=5.0)
    finally:
        for link in left():
            link.abort()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def started_browsers() -> AsyncIterator[Browsers]:
    """The browsers of this process, which end with it."""
    need("chromium")
    async with async_playwright() as playwright:
        browsers = Browsers(playwright)
        try:
            yield browsers
        finally:
            await browsers.close()


@pytest_asyncio.fixture(loop_scope="session")
async def browsers(started_browsers: Browsers) -> AsyncIterator[Browsers]:
    """The browsers of this process, for a test that needs one with flags. They have no open page."""
    yield started_browsers
    await started_browsers.close_pages()


@pytest_asyncio.fixture(loop_scope="session")
async def browser(browsers: Browsers) -> Browser:
    """The browser without flags."""
    return await browsers.get()
