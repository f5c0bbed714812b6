"""The ways to authenticate to the API and the console: admin token, user with a password, sign-in provider."""

import time
import unicodedata
from collections.abc import Callable
from typing import Final

from aiohttp import web

from gateway.adapters.local.credentials import TokenVerifier
from gateway.api.login_sessions import ApiUser, LoginLimits, LoginSession, LoginSessions
from gateway.api.openid_provider import OpenIdProvider
from gateway.lib.attempt_limiter import Attempt, attempt_pause
from gateway.lib.network import client_network
from gateway.lib.refusals import Refusals
from gateway.ports.api_tokens import ApiTokens
from gateway.ports.errors import StoreUnavailable
from gateway.ports.second_factors import SecondFactors
from gateway.ports.stores import ConsoleStore
from gateway.ports.users import Users

ADMIN: Final = ApiUser("token", "admin")
USER: Final = web.RequestKey("user", ApiUser)
LOGIN: Final = web.RequestKey("login", LoginSession)  # only if a cookie authorized the request

_CACHE_SECONDS: Final = 3.0  # seconds between reads of the store: anybody may ask whether there are users


class Authenticators:
    """The users of the API and the ways to authenticate them.

    refusals_per_minute: the limit of wrong attempts from an address. Attempts at one user's name are slowed down.
    clock: seconds since 1970.
    """

    def __init__(
        self,
        store: ConsoleStore,
        token: TokenVerifier,
        limits: LoginLimits,
        *,
        refusals_per_minute: int,
        provider: OpenIdProvider | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.users = Users(store)
        self.second_factors = SecondFactors(store, clock)
        self.tokens = ApiTokens(store, clock)
        self.logins = LoginSessions(store, limits, self.credential_mark)
        self.verify_token = token.verify
        self.provider = provider
        self.clock = clock
        self.addresses = Refusals(refusals_per_minute)  # wrong attempts by address
        self.names = Refusals(refusals_per_minute)  # wrong attempts by the name of a user, as `_name_key`
        self._token = token
        self._has_users = (-_CACHE_SECONDS, False)  # monotonic time of the read, and its answer

    def new_attempt(self, address: str, name: str = "") -> Attempt:
        """Returns an attempt from this address for this user's name. It waits longer after more wrong attempts."""
        now = time.monotonic()
        failures = self.addresses.count(address, now)
        per_minute = self.addresses.per_minute
        pauses = {f"address {client_network(address)}": attempt_pause(failures, per_minute)}
        if name:
            key = _name_key(name)
            pauses[key] = attempt_pause(self.names.count(key, now), per_minute)
        return Attempt(address, failures, pauses)

    def record_failure(self, address: str, name: str = "") -> int:
        """Records a wrong attempt. Returns the seconds that the address has to wait; 0: it may try again."""
        now = time.monotonic()
        if name:
            self.names.add(_name_key(name), now)
        return self.addresses.add(address, now)

    async def credential_mark(self, user: ApiUser) -> str:
        """Returns a text that changes whenever the user's credential changes: older logins then end.

        It is "" if the user may not sign in. Raises StoreUnavailable.
        """
        if user.kind == "token":
            return self._token.mark
        if user.kind == "oidc":
            return self.provider.credential_mark if self.provider is not None else ""
        account = await self.users.find(user.id)
        return account.mark if account is not None else ""

    async def has_users(self) -> bool:
        """Whether there are users with passwords. The store is asked at most every three seconds.

        While it is unavailable, the last answer stays; at first it is False.
        """
        now = time.monotonic()
        if now - self._has_users[0] >= _CACHE_SECONDS:
            try:
                self._has_users = (now, bool(await self.users.list()))
            except StoreUnavailable:
                self._has_users = (now, self._has_users[1])
        return self._has_users[1]

    def drop_users_cache(self) -> None:
        """Drops the cached answer of `has_users` after a change."""
        self._has_users = (-_CACHE_SECONDS, False)


def _name_key(name: str) -> str:
    """Returns the key under which attempts at a name are counted. All spellings of the name have this key.

    It never equals the key of an address.
    """
    return f"user {unicodedata.normalize('NFC', name).casefold()}"
