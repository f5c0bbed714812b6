"""Shares the admin token's hash in the store of the console, so that all machines of a fleet accept one token."""

import asyncio
from typing import Final

import structlog

from gateway.adapters.local.credentials import AdminToken
from gateway.lib.tasks import Tasks
from gateway.ports.errors import StoreUnavailable, StoreUnusable
from gateway.ports.store_outage import StoreOutage
from gateway.ports.stores import ConsoleStore
from gateway.settings import Settings

log = structlog.get_logger(__name__)

KIND: Final = "admin-token"  # of the entry; its key is KIND too
HASH: Final = "hash"  # its field, with the text of the file in a data folder
_SECONDS: Final = 5.0  # between two reads of the store


def shares_token(settings: Settings) -> bool:
    """Whether other machines may have the same store of the console, and take the token from it."""
    return not settings.admin.store.startswith("sqlite:") and not settings.admin.token.get_secret_value()


async def share_token(token: AdminToken, store: ConsoleStore, tasks: Tasks) -> None:
    """Takes the admin token of the fleet from a store, and follows it as a task. One process of a machine does it."""
    shared = SharedAdminToken(token, store)
    await shared.look()
    token.claim = shared.claim
    tasks.keep(shared.run, "admin token of the fleet")


class SharedAdminToken:
    """The token of a fleet. The file of this machine is its copy, which all processes of the machine follow."""

    def __init__(self, token: AdminToken, store: ConsoleStore) -> None:
        self._token, self._store = token, store
        text = "the admin token of the fleet cannot be read: the last one stays valid"
        self._outage = StoreOutage(text, (StoreUnavailable, StoreUnusable))

    async def run(self) -> None:
        """Follows the token of the fleet until it is cancelled. `millrace token reset` replaces it."""
        while True:
            await asyncio.sleep(_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Takes the token of the fleet; if the fleet has none, it gets this one. The log has a failure once."""
        with self._outage:
            await self._synchronize()

    async def claim(self) -> bool:
        """Stores a new token for the fleet. Returns False if the fleet has one, which is valid here from now on."""
        try:
            if await self._store.add(KIND, KIND, {HASH: self._token.file_text}):
                return True
            await self._synchronize()
        except StoreUnavailable as error:
            log.warning("the admin token cannot be shared now: the other machines have another one", reason=str(error))
            return True
        return False

    async def _synchronize(self) -> None:
        entry, own = await self._store.get(KIND, KIND), await asyncio.to_thread(self._token.stored)
        if entry is not None and (shared := str(entry.get(HASH))) != own:
            await asyncio.to_thread(self._token.replace, shared)
            log.info("this machine takes the admin token of the fleet")
        elif entry is None and own:
            await self._store.add(KIND, KIND, {HASH: own})
