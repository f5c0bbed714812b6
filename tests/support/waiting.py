"""Waiting on the event loop until something holds. `tests.support.clients.until` does so for tests without a loop."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from tests.support.time_outs import at_most


async def until(
    condition: Callable[[], Any], what: str | Callable[[], str] = "the condition holds", within: float = 20.0
) -> Any:
    """Returns the first true value of `condition()`, called every few milliseconds.

    Fails with `what` after `within` seconds, more on a slow machine; a test reaches them only if something is broken.
    """
    loop = asyncio.get_running_loop()
    limit = at_most(within)
    end = loop.time() + limit
    while not (value := condition()):
        if loop.time() > end:
            raise AssertionError(f"after {limit:g} s still not: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(0.005)
    return value


async def until_in_thread(condition: Callable[[], Any], what: str, within: float = 20.0) -> Any:
    """Does the same with a condition that blocks, such as a request to a gateway."""
    limit = at_most(within)
    end = time.monotonic() + limit
    while not (value := await asyncio.to_thread(condition)):
        if time.monotonic() > end:
            raise AssertionError(f"after {limit:g} s still not: {what}")
        await asyncio.sleep(0.1)
    return value
