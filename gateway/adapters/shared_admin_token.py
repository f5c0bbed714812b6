"""Shares the admin token's hash in the store of the console, so that all machines of a fleet accept one token."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import structlog

from gateway.adapters.local.credentials import AdminToken
from gateway.lib.tasks import Tasks
from gateway.ports.errors import StoreUnavailable, StoreUnusable
from gateway.ports.stores import ConsoleStore
from gateway.settings import Settings

log = structlog.get_logger(__name__)

KIND: Final = "admin-token"  # of the entry; its key is KIND too
_SECONDS: Final = 5.0  # between two reads of the store


def shares_token(settings: Settings) -> bool:
    """Whether other machines may have the same store of the console, and take the token from it."""
    return not settings.admin.store.startswith("sqlite:") and not settings.admin.token.get_secret_value()


def entry_of(file_text: str) -> Mapping[str, Any]:
    """Returns the entry for the text of a token's file."""
    return {"hash": file_text}


async def share_token(token: AdminToken, store: ConsoleStore, tasks: Tasks) -> None:
    """Takes the admin token of the fleet from a store, and follows it as a task. One process of a machine does it."""
    shared = SharedAdminToken(token, store)
    if failure := await shared.try_to_synchronize():
        log.warning("the admin token of the fleet cannot be read now", reason=failure)
    token.claim = shared.claim
    tasks.keep(shared.run, "admin token of the fleet")


class SharedAdminToken:
    """The token of a fleet. The file of this machine is its copy, which all processes of the machine follow."""

    def __init__(self, token: AdminToken, store: ConsoleStore) -> None:
        self._token, self._store = token, store

    async def synchronize(self) -> None:
        """Takes the token of the fleet; if the fleet has none, it gets that of this machine.

        Raises StoreUnavailable, StoreUnusable.
        """
        entry, own = await self._store.get(KIND, KIND), await asyncio.to_thread(self._token.stored)
        if entry is None:
            if own:
                await self._store.add(KIND, KIND, entry_of(own))
        elif (shared := str(entry.get("hash"))) != own:
            await asyncio.to_thread(self._token.replace, shared)
            log.info("this machine takes the admin token of the fleet")

    async def try_to_synchronize(self) -> str:
        """Returns why the token could not be compared with that of the fleet; "": it is equal."""
        try:
            await self.synchronize()
        except (StoreUnavailable, StoreUnusable) as error:
            return str(error)
        return ""

    async def run(self) -> None:
        """Follows the token of the fleet until it is cancelled. `millrace token reset` replaces it."""
        failure = ""
        while True:
            await asyncio.sleep(_SECONDS)
            before, failure = failure, await self.try_to_synchronize()
            if failure and not before:
                log.warning("the admin token of the fleet cannot be read: the last one stays valid", reason=failure)

    async def claim(self) -> bool:
        """Stores a new token for the fleet. Returns False if the fleet has one, which is valid here from now on."""
        try:
            if await self._store.add(KIND, KIND, entry_of(self._token.file_text)):
                return True
            await self.synchronize()
        except StoreUnavailable as error:
            log.warning("the admin token cannot be shared now: the other machines have another one", reason=str(error))
            return True
        return False
