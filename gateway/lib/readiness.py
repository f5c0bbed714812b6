"""Tells whether this node is ready for work, and what is missing if not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable[None]]

FRESH = 1.0  # seconds between two checks of the store, because any client may ask
TIMEOUT_SECONDS = 5.0  # seconds: load balancers give up soon after


class Readiness:
    """Named checks, each of which raises if something is missing. Names are public; reasons go to the log."""

    def __init__(self, checks: Mapping[str, Check] | None = None) -> None:
        self._checks = dict(checks or {})
        self._closing = False
        self._missing: tuple[str, ...] = ()
        self._at = -FRESH
        self._asking = asyncio.Lock()

    def add(self, name: str, check: Check) -> None:
        self._checks[name] = check

    def close(self) -> None:
        """Makes the node not ready, whatever the checks return, because it shuts down."""
        self._closing = True

    async def missing(self) -> tuple[str, ...]:
        """Returns the names of failed checks, at most FRESH seconds old; empty if the node is ready."""
        if self._closing:
            return ("shutting down",)
        async with self._asking:
            if time.monotonic() - self._at >= FRESH:
                found = await asyncio.gather(*(self._fails(n, c) for n, c in self._checks.items()))
                missing = tuple(n for n, failed in zip(self._checks, found, strict=True) if failed)
                if missing != self._missing:
                    if missing:
                        log.warning("not ready", missing=list(missing))
                    else:
                        log.info("ready again")
                self._missing, self._at = missing, time.monotonic()
        return self._missing

    async def _fails(self, name: str, check: Check) -> bool:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await check()
        except Exception as error:  # any error means not ready; the reason is in the log
            log.debug("readiness check failed", check=name, reason=str(error) or type(error).__name__)
            return True
        return False
