"""Gets a certificate by ACME and renews it in time: when to ask, and how long to wait after a failure."""

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from gateway.adapters.acme.acme_files import AcmeFiles, Attempts
from gateway.adapters.local.data_folder import folder_lock
from gateway.lib.certificates import Certificate, CertificateError
from gateway.ports.errors import StoreUnavailable, StoreUnusable

log = structlog.get_logger(__name__)

_KINDS: Final = ("http-01", "tls-alpn-01")
_HOUR: Final = 3600.0
# Let's Encrypt checks a name at most five times an hour in vain. The other challenge may succeed at once.
_MAX_FAILURES: Final = 4  # in an hour, also over restarts
_FIRST_PAUSE: Final = 10.0
_PAUSE: Final = 240.0  # seconds; doubled with each further failure
_MAX_PAUSE: Final = 6 * _HOUR
_LOCK_SECONDS: Final = 10.0  # until the next try to get the lock of another process
_MAX_SLEEP: Final = _HOUR  # the clock may be set meanwhile


class Obtain(Protocol):
    """Asks the authority, like `Authority.obtain`. Blocks. Raises AcmeFailure."""

    def __call__(self, names: Sequence[str], kind: str) -> str:
        """Returns the key and the chain, as PEM. kind: of the challenge to answer."""


class AcmeFailure(Exception):
    """No certificate was issued. The message is for the operator.

    retry_after: seconds that the authority asks to wait; 0: it names no time. refused: it checked a challenge in vain.
    """

    def __init__(self, message: str, retry_after: float = 0.0, *, refused: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Failure:
    """The last attempt failed. retry: seconds since 1970."""

    reason: str
    retry: float


@dataclass(frozen=True, slots=True)
class Order:
    """The names that the certificate must cover, and the address of the authority's directory."""

    names: tuple[str, ...]
    directory: str


class CertificateRenewal:
    """Keeps the certificate of an order in `files` valid. One process of a machine does this; the others read the file.

    obtain: asks the authority. renewed, failed: are called on the event loop after an attempt.
    """

    def __init__(
        self,
        order: Order,
        files: AcmeFiles,
        obtain: Obtain,
        renewed: Callable[[], Awaitable[None]],
        failed: Callable[[Failure], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._names, self._directory, self._files, self._obtain = order.names, order.directory, files, obtain
        self._renewed, self._failed, self._clock = renewed, failed, clock
        self._jitter = random.random()  # noqa: S311 (spreads the load of authorities; not a secret)

    async def run(self) -> None:
        """Runs until cancelled. Failures never end it."""
        while True:
            try:
                with folder_lock(self._files.folder):
                    await self._keep_valid()
            except StoreUnusable as error:  # another process asks, or the disk is full
                log.debug("certificates are requested by another process", reason=str(error))
            await asyncio.sleep(_LOCK_SECONDS)

    async def _keep_valid(self) -> None:
        attempts = self._files.attempts(self._directory)
        began, retry = self._clock(), self._earliest(attempts)
        while True:
            if self._is_future(began):
                began, retry = self._clock(), self._earliest(attempts)
            wait = max(self._due(attempts), retry) - self._clock()
            if wait > 0:
                await self._wait(min(wait, _MAX_SLEEP), attempts)
            else:
                began, retry = self._clock(), await self._attempt(attempts)

    async def _wait(self, seconds: float, attempts: Attempts) -> None:
        """Waits until something may have to be done."""
        await asyncio.sleep(seconds)

    def _due(self, attempts: Attempts) -> float:
        """Returns when a certificate is needed: two thirds into the life of the stored one, with some jitter."""
        try:
            stored = Certificate.read(self._files.certificate, None)
        except CertificateError:
            return 0.0
        if not attempts.certified or not all(map(stored.names.cover, self._names)):
            return 0.0
        life = stored.ends - stored.begins
        return stored.begins + life * (2 / 3 + self._jitter / 60)

    def _is_future(self, at: float) -> bool:
        """Whether the clock was ahead when it told this time. The clocks of machines differ a little."""
        return at > self._clock() + _HOUR

    def _earliest(self, attempts: Attempts) -> float:
        """Returns the time of the first attempt after a restart, or after the clock was set back.

        It is at once, because the operator may have removed the cause, unless too many attempts have failed recently or
        the authority asked to wait. Times of a clock that was ahead are forgotten.
        """
        if any(map(self._is_future, attempts.failures)):
            attempts.failures, attempts.not_before = [], 0.0
        recent = [at for at in attempts.failures if at > self._clock() - _HOUR]
        blocked = recent[-_MAX_FAILURES] + _HOUR if len(recent) >= _MAX_FAILURES else 0.0
        return max(attempts.not_before, blocked)

    async def _attempt(self, attempts: Attempts) -> float:
        """Asks the authority once. Returns the earliest time of the next request."""
        self._files.clear_challenges()
        log.info("requesting a certificate", names=list(self._names), challenge=attempts.kind)
        try:
            pem = await in_thread(lambda: self._obtain(self._names, attempts.kind))
            self._files.save_certificate(pem)
        except Exception as error:  # whatever an authority answers, the next attempt may succeed
            if not isinstance(error, AcmeFailure | StoreUnavailable | StoreUnusable):
                log.error("the request for a certificate failed in this program", exc_info=error)
            return self._after_failure(attempts, error)
        await self._succeeded(attempts)
        return 0.0

    async def _succeeded(self, attempts: Attempts) -> None:
        attempts.failures, attempts.not_before, attempts.certified = [], 0.0, True
        self._files.save_attempts(attempts)
        await self._renewed()

    def _after_failure(self, attempts: Attempts, error: Exception) -> float:
        now = self._clock()
        attempts.failures = [*attempts.failures[-16:], now]
        pause = _FIRST_PAUSE if len(attempts.failures) == 1 else _PAUSE * 2.0 ** (len(attempts.failures) - 2)
        pause = min(pause, _MAX_PAUSE) * random.uniform(1.0, 1.2)  # noqa: S311 (jitter)
        wait = error.retry_after if isinstance(error, AcmeFailure) else 0.0
        attempts.not_before = now + wait if wait else 0.0
        if isinstance(error, AcmeFailure) and error.refused:
            attempts.kind = _KINDS[1 - _KINDS.index(attempts.kind)]
        retry = max(now + pause, attempts.not_before)
        try:
            self._files.save_attempts(attempts)
        except StoreUnusable as unsaved:
            log.warning("the attempts cannot be stored", reason=str(unsaved))
        self._failed(Failure(str(error), retry))
        return retry


async def in_thread(work: Callable[[], str]) -> str:
    """Runs `work` in a thread that does not delay the end of the process: an authority may not answer for minutes."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()

    def finish(result: str | None, error: BaseException | None) -> None:
        if not done.done():
            done.set_exception(error) if error is not None else done.set_result(result or "")

    def run() -> None:
        try:
            result, error = work(), None
        except Exception as failed:  # goes to the coroutine that waits
            result, error = "", failed
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=run, name="acme", daemon=True).start()
    return await done
