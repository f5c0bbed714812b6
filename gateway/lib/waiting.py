"""Waits for an event, with a time limit."""

import asyncio


async def wait_at_most(seconds: float | None, event: asyncio.Event) -> bool:
    """Waits until the event is set. Returns False if it was not set within `seconds` (None: no limit)."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
