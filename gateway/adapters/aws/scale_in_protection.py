"""Protects an ECS task with publishers from scale-in, through the agent's endpoint; no SDK is needed."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import structlog

from gateway.lib.backoff import Backoff

log = structlog.get_logger(__name__)

AGENT: Final = "ECS_AGENT_URI"
MINUTES: Final = 60  # of one protection; after a crash it lasts at most this long; ECS accepts 1 to 2880
_RENEWED: Final = 0.5  # renewed after this share of its time, so that a failing renewal can be tried for as long again
_POLL_SECONDS: Final = 1.0
_TIMEOUT: Final = 5.0
_BIGGEST: Final = 1 << 16


class ProtectionFailed(Exception):
    """ECS refused the request; the message says why."""


class ScaleInProtection:
    """Keeps the task protected while `busy()` returns true. A failure is logged once and tried again; streams go on.

    Spot interruptions, Fargate's retirements and StopTask ignore the protection.
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
        """Sets up the protection; `run` starts it.

        busy: returns whether this process has at least one publisher. poll: seconds between two calls of it. shared: a
        file by which processes of one task know of each other. The last one without publishers takes the protection
        off.
        """
        self._uri = (os.environ if environ is None else environ).get(AGENT, "").rstrip("/")
        self._busy = busy
        self._clock = clock
        self._poll = poll
        self._backoff = backoff or Backoff(2, 60)
        self._turn = _FileLock(shared)
        self._protected = False
        self._perhaps = False  # requested since it was last known to be off
        self._until = 0.0  # end of the protection as far as known, by `clock`
        self._failing = False  # a failure is already logged

    @property
    def available(self) -> bool:
        """Whether this process has an ECS agent to call."""
        return bool(self._uri)

    @property
    def protected(self) -> bool:
        """Whether the task is protected, as far as is known."""
        return self._protected

    async def run(self) -> None:
        """Runs until cancelled, and then takes an active protection off. Returns at once where there is no agent."""
        if not self._uri:
            return
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as http:
            try:
                while True:
                    pause = await self._step(http)
                    await asyncio.sleep(pause)
            finally:
                if self._perhaps and self._turn.alone():
                    await self._last(http)
                self._turn.leave()

    async def _step(self, http: aiohttp.ClientSession) -> float:
        """Calls the agent where the protection has to change. Returns the seconds until the next look."""
        busy, now = self._busy(), self._clock()
        due = now >= self._until - MINUTES * 60 * (1 - _RENEWED)
        if busy == self._protected and not (busy and due):
            return self._poll
        if not (self._turn.join() if busy else self._turn.alone()):
            if not busy:  # other processes have publishers and keep the protection
                self._protected = self._perhaps = False
                self._turn.leave()
            return self._poll
        self._perhaps |= busy
        try:
            await self._ask(http, busy)
        except ProtectionFailed as failed:
            if not self._failing:
                what = "protected from" if busy else "released to"
                log.warning(f"this task cannot be {what} scale-in now", reason=str(failed))
                self._failing = True
            if not busy:
                self._turn.leave()
            return self._backoff.next()
        if self._failing or busy != self._protected:
            log.info("task is protected from scale-in" if busy else "task may be scaled in")
        self._failing = False
        self._backoff.reset()
        if not busy:
            self._turn.leave()
        self._protected = self._perhaps = busy
        self._until = now + MINUTES * 60
        return self._poll

    async def _last(self, http: aiohttp.ClientSession) -> None:
        """Takes the protection off at the end of the process, when the publishers are gone."""
        try:
            await self._ask(http, False)
            self._protected = self._perhaps = False
        except ProtectionFailed as failed:
            log.info("task may stay protected from scale-in for a while", minutes=MINUTES, reason=str(failed))

    async def _ask(self, http: aiohttp.ClientSession, enabled: bool) -> None:
        """Switches the protection on or off. Raises ProtectionFailed."""
        wanted: dict[str, Any] = {"ProtectionEnabled": enabled}
        if enabled:
            wanted["ExpiresInMinutes"] = MINUTES
        url = f"{self._uri}/task-protection/v1/state"
        try:
            async with http.put(url, json=wanted, allow_redirects=False) as answer:
                reply = _object(await answer.content.read(_BIGGEST))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ProtectionFailed(str(error)[:200] or type(error).__name__) from None
        state = reply.get("protection")
        if answer.status != 200 or not isinstance(state, dict):
            raise ProtectionFailed(_reason(reply) or f"the agent answers {answer.status}")
        if state.get("ProtectionEnabled") is not enabled:
            raise ProtectionFailed("the agent says the opposite of what was asked")


class _FileLock:
    """A lock on a file: shared by the processes that have publishers, exclusive while one takes the protection off."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: int | None = None

    def join(self) -> bool:
        """Takes the shared lock. Returns False while another process takes the protection off."""
        return self._lock(fcntl.LOCK_SH)

    def alone(self) -> bool:
        """Takes the exclusive lock. Returns False where another process has publishers."""
        return self._lock(fcntl.LOCK_EX)

    def leave(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _lock(self, kind: int) -> bool:
        if self._path is None:
            return True
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
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
    """Returns the reason of a refusal, "" without one.

    `error` is the refusal of the agent or of ECS. `failure` concerns this task, such as "not in a service".
    """
    for kind, names in (("error", ("Code", "Message")), ("failure", ("Reason", "Detail"))):
        said = reply.get(kind)
        if isinstance(said, dict):
            return ": ".join(str(said[name]) for name in names if said.get(name))[:200]
    return ""
