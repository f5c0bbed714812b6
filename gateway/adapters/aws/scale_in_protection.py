"""Protects an ECS task with publishers from scale-in, through the ECS agent's endpoint. It needs no SDK."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.lib.backoff import Backoff

if TYPE_CHECKING:
    import aiohttp  # imported where an agent runs

log = structlog.get_logger(__name__)

AGENT: Final = "ECS_AGENT_URI"
MINUTES: Final = 60  # duration of one protection, also after a crash; ECS accepts 1 to 2880
_RENEW_AFTER: Final = 0.5  # fraction of the duration; the rest is for retries of a failed renewal
_POLL_SECONDS: Final = 1.0
_TIMEOUT: Final = 5.0
_MAX_BYTES: Final = 1 << 16


class ProtectionFailed(Exception):
    """ECS rejected the request. The message has the reason."""


class ScaleInProtection:
    """Keeps the task protected while `busy()` is true. A failure is logged once and retried. It does not end streams.

    protected: whether the task is protected, as far as known.

    Spot interruptions, retirements of Fargate tasks and StopTask ignore the protection.

    busy: returns whether this process has a publisher.
    shared: a lock file for the processes of one task. The last process without publishers ends the protection.
    poll: seconds between two calls of `busy`.
    """

    def __init__(
        self,
        busy: Callable[[], bool],
        environ: Mapping[str, str] | None = None,
        *,
        shared: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        poll: float = _POLL_SECONDS,
        backoff: Backoff | None = None,
    ) -> None:
        self._uri = (os.environ if environ is None else environ).get(AGENT, "").rstrip("/")
        self._busy, self._clock, self._poll = busy, clock, poll
        self._backoff = backoff or Backoff(2, 60)
        self._lock = _FileLock(shared)
        self.protected = False
        self._may_be_protected = False  # a request to protect was sent since the last known end
        self._until = 0.0  # end of the protection as far as known, by `clock`
        self._failing = False  # a failure is already logged

    @property
    def available(self) -> bool:
        """Whether an ECS agent runs beside this process."""
        return bool(self._uri)

    async def run(self) -> None:
        """Runs until cancelled, and then ends an active protection. Returns at once if there is no agent."""
        if not self._uri:
            return
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as http:
            try:
                while True:
                    pause = await self._step(http)
                    await asyncio.sleep(pause)
            finally:
                if self._may_be_protected and self._lock.acquire(exclusive=True):
                    await self._end(http)
                self._lock.release()

    async def _step(self, http: aiohttp.ClientSession) -> float:
        """Calls the agent if the protection must change. Returns the seconds until the next step."""
        busy, now = self._busy(), self._clock()
        due = now >= self._until - MINUTES * 60 * (1 - _RENEW_AFTER)
        if (self.protected and not due) if busy else not self._may_be_protected:
            return self._poll
        if not self._lock.acquire(exclusive=not busy):
            if not busy:  # other processes have publishers and keep the protection
                self.protected = self._may_be_protected = False
                self._lock.release()
            return self._poll
        self._may_be_protected |= busy
        try:
            await self._ask(http, busy)
        except ProtectionFailed as failed:
            if not self._failing:
                action = "protected from" if busy else "released to"
                log.warning(f"this task cannot be {action} scale-in now", reason=str(failed))
                self._failing = True
            if not busy:
                self._lock.release()
            return self._backoff.next()
        if self._failing or busy != self.protected:
            log.info("task is protected from scale-in" if busy else "task may be scaled in")
        self._failing = False
        self._backoff.reset()
        if not busy:
            self._lock.release()
        self.protected = self._may_be_protected = busy
        self._until = now + MINUTES * 60
        return self._poll

    async def _end(self, http: aiohttp.ClientSession) -> None:
        """Ends the protection at the end of the process, after all publishers have ended."""
        try:
            await self._ask(http, False)
            self.protected = self._may_be_protected = False
        except ProtectionFailed as failed:
            log.info("task may stay protected from scale-in for a while", minutes=MINUTES, reason=str(failed))

    async def _ask(self, http: aiohttp.ClientSession, enabled: bool) -> None:
        """Switches the protection on or off. Raises ProtectionFailed."""
        import aiohttp

        request: dict[str, Any] = {"ProtectionEnabled": enabled}
        if enabled:
            request["ExpiresInMinutes"] = MINUTES
        url = f"{self._uri}/task-protection/v1/state"
        try:
            async with http.put(url, json=request, allow_redirects=False) as answer:
                reply = _object(await answer.content.read(_MAX_BYTES))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ProtectionFailed(str(error)[:200] or type(error).__name__) from None
        state = reply.get("protection")
        if answer.status != 200 or not isinstance(state, dict):
            raise ProtectionFailed(_reason(reply) or f"the agent answers {answer.status}")
        if state.get("ProtectionEnabled") is not enabled:
            raise ProtectionFailed("the agent's answer does not match the request")


class _FileLock:
    """A lock on a file. Processes with publishers share it. A process that ends the protection has it alone."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: int | None = None

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def acquire(self, *, exclusive: bool) -> bool:
        """Acquires the lock. Returns False while another process ends the protection, or (exclusive) has publishers."""
        if self._path is None:
            return True
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            log.warning("processes of this task cannot see each other", file=str(self._path), reason=error.strerror)
            self._path = None
        return True


def _object(body: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return reply if isinstance(reply, dict) else {}


def _reason(reply: Mapping[str, Any]) -> str:
    """Returns the reason of a rejection, or "".

    `error` is an error of the agent or of ECS. `failure` is about this task, for example "not in a service".
    """
    for kind, names in (("error", ("Code", "Message")), ("failure", ("Reason", "Detail"))):
        value = reply.get(kind)
        if isinstance(value, dict):
            return ": ".join(str(value[name]) for name in names if value.get(name))[:200]
    return ""
