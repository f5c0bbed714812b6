"""The ways in which people prove who they are to the API and the console."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable
from typing import Final, Protocol

from aiohttp import web

from gateway.api.login_sessions import LoginLimits, LoginSession, LoginSessions, Person
from gateway.api.openid_provider import OpenIdProvider
from gateway.lib.attempt_limiter import Attempt, attempt_pause
from gateway.lib.network import client_network
from gateway.lib.refusals import Refusals
from gateway.ports.errors import StoreUnavailable
from gateway.ports.stores import ConsoleStore
from gateway.ports.users import Users

ADMIN: Final = Person("token", "admin")
PERSON: Final = web.RequestKey("person", Person)
LOGIN: Final = web.RequestKey("login", LoginSession)  # only where a cookie authorized the request

_CACHE_SECONDS: Final = 3.0  # seconds between reads of the store: anybody may ask whether there are users


class AdminToken(Protocol):
    """The admin token, which may be replaced while this runs."""

    @property
    def mark(self) -> str:
        """Another text for every token."""
        ...

    def verify(self, token: str) -> bool:
        """Whether this is the token, in constant time."""
        ...


class Authenticators:
    """Everyone who may use the API, and how each is known.

    refusals_per_minute: of an address; tries at a user's name are slowed to as many. clock:
    seconds since the epoch.
    """

    def __init__(
        self,
        store: ConsoleStore,
        token: AdminToken,
        limits: LoginLimits,
        *,
        refusals_per_minute: int,
        provider: OpenIdProvider | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.users = Users(store)
        self.logins = LoginSessions(store, limits.idle, limits.most, self.mark)
        self.most = limits.most
        self.verify_token = token.verify
        self.provider = provider
        self.clock = clock
        self.addresses = Refusals(refusals_per_minute)
        self.names = Refusals(refusals_per_minute)
        self._token = token
        self._any_users = (-_CACHE_SECONDS, False)

    def trying(self, address: str, name: str = "") -> Attempt:
        """Returns an attempt from this address for this user's name. It waits longer after more wrong tries."""
        now = time.monotonic()
        failures = self.addresses.count(address, now)
        most = self.addresses.per_minute
        pauses = {f"address {client_network(address)}": attempt_pause(failures, most)}
        if name:
            key = _guessed(name)
            pauses[key] = attempt_pause(self.names.count(key, now), most)
        return Attempt(address, failures, pauses)

    def wrong(self, address: str, name: str = "") -> int:
        """Records a wrong try. Returns the seconds that the address has to wait, 0 where it may try again."""
        now = time.monotonic()
        if name:
            self.names.add(_guessed(name), now)
        return self.addresses.add(address, now)

    async def mark(self, person: Person) -> str:
        """Returns a text for what this person signs in with now; "" where the person no longer may.

        Raises StoreUnavailable.
        """
        if person.kind == "token":
            return self._token.mark
        if person.kind == "oidc":
            return self.provider.mark if self.provider is not None else ""
        user = await self.users.find(person.id)
        return user.mark if user is not None else ""

    async def has_users(self) -> bool:
        """Whether there are users with passwords, read at most three seconds ago."""
        now = time.monotonic()
        if now - self._any_users[0] >= _CACHE_SECONDS:
            try:
                self._any_users = (now, bool(await self.users.list()))
            except StoreUnavailable:
                self._any_users = (now, self._any_users[1])
        return self._any_users[1]

    def forget_users(self) -> None:
        """Drops the cached answer of `has_users` after a change."""
        self._any_users = (-_CACHE_SECONDS, False)


def _guessed(name: str) -> str:
    """Returns the key under which tries for a name are counted. It is never an address, and all spellings share it."""
    return f"user {unicodedata.normalize('NFC', name).casefold()}"
