"""People: everyone who may use the API and the console, and how each of them is known."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from aiohttp import web

from gateway.api.logins import Login, Logins, Person
from gateway.hub.errors import StoreAway
from gateway.hub.ports import ConsoleStore
from gateway.hub.users import Users
from gateway.lib.refusals import Refusals

ADMIN: Final = Person("token", "admin")
PERSON: Final = web.RequestKey("person", Person)
LOGIN: Final = web.RequestKey("login", Login)  # only where a cookie opened the request

_FRESH: Final = 3.0  # seconds: anybody may ask whether there are users, the store is asked no more often


class Provider(Protocol):
    """Where people sign in besides (OpenID Connect). name: what the button says; mark: of how it is set up."""

    @property
    def name(self) -> str: ...

    @property
    def mark(self) -> str: ...

    async def bearer(self, token: str) -> Person | None:
        """Who a token of its own belongs to; None where it is none, or somebody who may not in. StoreAway where the
        provider does not answer."""
        ...


class People:
    """verify_token: whether a text is the admin token, in constant time; token_mark: another for every token.

    idle, most: as of Logins. refusals_per_minute: of an address, and of a user's name. clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: ConsoleStore,
        *,
        verify_token: Callable[[str], bool],
        token_mark: Callable[[], str],
        idle: float,
        most: float,
        refusals_per_minute: int,
        provider: Provider | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.users = Users(store)
        self.logins = Logins(store, idle, most, self.mark)
        self.most = most
        self.verify_token = verify_token
        self.provider = provider
        self.clock = clock
        self.addresses = Refusals(refusals_per_minute)
        self.names = Refusals(refusals_per_minute)
        self._token_mark = token_mark
        self._any_users = (-_FRESH, False)

    async def mark(self, person: Person) -> str:
        """What this person signs in with, as it is now; "" for somebody who may no longer. Raises StoreAway."""
        if person.kind == "token":
            return self._token_mark()
        if person.kind == "oidc":
            return self.provider.mark if self.provider is not None else ""
        user = await self.users.find(person.id)
        return user.mark if user is not None else ""

    async def has_users(self) -> bool:
        """Whether a name can be signed in with, as of a few seconds ago."""
        now = time.monotonic()
        if now - self._any_users[0] >= _FRESH:
            try:
                self._any_users = (now, bool(await self.users.list()))
            except StoreAway:
                self._any_users = (now, self._any_users[1])
        return self._any_users[1]

    def forget_users(self) -> None:
        """They have changed."""
        self._any_users = (-_FRESH, False)
