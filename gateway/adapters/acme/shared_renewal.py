"""Renews the certificate of a fleet: one node at a time asks the authority, and the others take what it has got."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Final

import structlog

from gateway.adapters.acme.acme_files import AcmeFiles, Attempts
from gateway.adapters.acme.renewal import CertificateRenewal, Failure, Obtain, Order
from gateway.adapters.acme.shared_entries import CERTIFICATE, STATE, SharedEntries
from gateway.lib.certificates import Certificate, CertificateError
from gateway.lib.waiting import wait_at_most
from gateway.ports.errors import StoreUnavailable

log = structlog.get_logger(__name__)

_POLL_SECONDS: Final = 30.0  # two requests a minute, if the store tells no changes
_BUSY_SECONDS: Final = 10.0  # until the next try, while another node asks the authority
_AWAY_SECONDS: Final = 60.0  # likewise, while the store does not answer


class SharedRenewal(CertificateRenewal):
    """Keeps the certificate in `files` equal to that of the fleet. The newest one that is valid for the names wins.

    The files are also what a node begins with while the store does not answer.
    """

    def __init__(
        self,
        shared: SharedEntries,
        order: Order,
        files: AcmeFiles,
        obtain: Obtain,
        renewed: Callable[[], Awaitable[None]],
        failed: Callable[[Failure], None],
    ) -> None:
        super().__init__(order, files, obtain, renewed, failed, shared.clock)
        self._shared = shared
        self._is_first_turn = True

    async def _wait(self, seconds: float, attempts: Attempts) -> None:
        await wait_at_most(min(seconds, _POLL_SECONDS), self._shared.changed)
        self._shared.changed.clear()
        try:
            await self._synchronize(attempts)
        except StoreUnavailable as error:
            log.debug("the certificate of the fleet cannot be read", reason=str(error))

    async def _attempt(self, attempts: Attempts) -> float:
        try:
            async with self._shared.turn() as is_mine:
                return await self._take_turn(attempts) if is_mine else self._clock() + _BUSY_SECONDS
        except StoreUnavailable as error:
            retry = self._clock() + _AWAY_SECONDS
            self._failed(Failure(f"the database with the certificate of the fleet does not answer: {error}", retry))
            return retry

    async def _take_turn(self, attempts: Attempts) -> float:
        """Asks the authority, if no other node has a certificate and none has failed too recently."""
        if await self._synchronize(attempts):
            return 0.0
        state = await self._shared.load(STATE) or {"attempts": asdict(attempts), "account": None, "retry": 0.0}
        for name in ("kind", "failures", "not_before"):
            setattr(attempts, name, state["attempts"][name])
        retry = self._earliest(attempts)  # a restart tries at once, like that of a single machine
        if attempts.failures and not self._is_first_turn:
            retry = max(attempts.not_before, float(state["retry"]))
        self._is_first_turn = False
        if retry > self._clock():
            return retry
        if state["account"]:
            self._files.save_account(state["account"])
        retry = await super()._attempt(attempts)
        account = self._files.account(self._directory)
        await self._shared.save(STATE, {"attempts": asdict(attempts), "account": account, "retry": retry})
        await self._synchronize(attempts)
        return retry

    async def _synchronize(self, attempts: Attempts) -> bool:
        """Takes the certificate of the fleet if it is newer; else stores the own one. Returns whether it was taken."""
        theirs, own = await self._shared.load(CERTIFICATE), self._files.stored_certificate()
        if theirs == own:
            return False
        shared, mine = self._usable(theirs), self._usable(own) if attempts.certified else None
        # Two of the same second: all nodes must choose the same one.
        if shared and (mine is None or (shared.begins, theirs) > (mine.begins, own)):
            self._files.save_certificate(theirs)
            await self._succeeded(attempts)
            return True
        if mine:
            await self._shared.save(CERTIFICATE, own, mine.ends)
        return False

    def _usable(self, pem: str | None) -> Certificate | None:
        """Returns a certificate that is valid now for all names; otherwise None."""
        if pem is None:
            return None
        try:
            with self._files.temporary(pem) as path:
                found = Certificate.read(path, None)
        except CertificateError:
            return None
        return found if found.ends > self._clock() and all(map(found.names.cover, self._names)) else None
