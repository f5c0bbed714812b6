"""One Chromium for all tests of a file. A file whose pages need flags has its own fixture of this name."""

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser

from tests.support.browser import chromium
from tests.support.tools import need


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    need("chromium")
    async with chromium() as instance:
        yield instance
