"""Checks whether this node is ready for work, and which parts are missing."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

import structlog

log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable[None]]

CACHE_SECONDS = 1.0  # how long a result is reused, because any client may ask
TIMEOUT_SECONDS = 5.0  # limit of one check; load balancers wait only a little longer


class Readiness:
    """Named checks. A check raises if its part is missing. Names are public; reasons are only logged."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._optional: list[Callable[[], Iterable[str]]] = []
        self._closing = False
        self._missing: tuple[str, ...] = ()
        self._checked_at = -CACHE_SECONDS
        self._lock = asyncio.Lock()

    def add(self, name: str, check: Check) -> None:
        self._checks[name] = check

    def add_optional(self, missing: Callable[[], Iterable[str]]) -> None:
        """Adds parts that live streams do not need. missing: returns the names of those that are missing."""
        self._optional.append(missing)

    def degraded(self) -> list[str]:
        """Returns the names of missing parts that live streams do not need."""
        return [name for missing in self._optional for name in missing()]

    def close(self) -> None:
        """Makes the node not ready because it shuts down. The checks no longer matter."""
        self._closing = True

    async def missing(self) -> tuple[str, ...]:
        """Returns the names of failed checks; empty if the node is ready. They are at most CACHE_SECONDS old."""
        if self._closing:
            return ("shutting down",)
        async with self._lock:
            if time.monotonic() - self._checked_at >= CACHE_SECONDS:
                results = await asyncio.gather(*(self._fails(n, c) for n, c in self._checks.items()))
                missing = tuple(n for n, failed in zip(self._checks, results, strict=True) if failed)
                if missing != self._missing:
                    if missing:
                        log.warning("not ready", missing=list(missing))
                    else:
                        log.info("ready again")
                self._missing, self._checked_at = missing, time.monotonic()
        return self._missing

    async def _fails(self, name: str, check: Check) -> bool:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await check()
        except Exception as error:  # any error means not ready; the log has the reason
            log.debug("readiness check failed", check=name, reason=str(error) or type(error).__name__)
            return True
        return False
