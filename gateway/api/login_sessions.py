"""Login sessions of the console, identified by a cookie. They are unrelated to live sessions."""

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from gateway.lib.bounded_dict import BoundedDict
from gateway.ports.errors import StoreUnavailable
from gateway.ports.stored_rows import read_row
from gateway.ports.stores import ConsoleStore
from gateway.ports.users import ADMINISTRATOR, Rights, stored_rights, stored_value

SignInKind: TypeAlias = Literal["token", "user", "oidc", "api"]

_KIND: Final = "session"
_MAX_PER_USER: Final = 20  # logins; with one more, the oldest ends
_MAX_CACHED: Final = 1_000
_CACHE_SECONDS: Final = 3.0  # seconds without reading the store again: pages send several requests at once
_SEEN_UPDATE_SECONDS: Final = 60.0  # seconds between two updates of `seen`, to avoid a write with every request


@dataclass(frozen=True, slots=True)
class ApiUser:
    """A user or a script that uses the API.

    kind: "api" is a token for scripts. id: the key of this user's profile; "" for the admin token.
    """

    kind: SignInKind
    name: str
    id: str = ""
    rights: Rights = ADMINISTRATOR


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """Limits of a login, in seconds. idle: time without a request. max_age: time since it was opened."""

    idle: float
    max_age: float


@dataclass(frozen=True, slots=True)
class LoginSession:
    """One signed-in browser.

    created, seen: seconds since 1970. credential_mark: identifies the credential that opened the login.
    """

    user: ApiUser
    csrf: str = field(repr=False)
    credential_mark: str = field(repr=False)
    created: float
    seen: float

    def expires_at(self, limits: LoginLimits) -> float:
        """Returns the time of expiry, in seconds since 1970."""
        return min(self.seen + limits.idle, self.created + limits.max_age)


class LoginSessions:
    """Logins in a store that nodes may share, by the hash of the cookie. Nobody can sign in with a stored hash.

    credential_mark(user): returns a text that changes with the credential; "" if the user may not sign in. A login
    ends when this text differs from its `credential_mark`.

    A change on another node applies within 3 seconds. Every method may raise StoreUnavailable.
    """

    def __init__(
        self, store: ConsoleStore, limits: LoginLimits, credential_mark: Callable[[ApiUser], Awaitable[str]]
    ) -> None:
        self.limits = limits
        self._store = store
        self._current_mark = credential_mark
        self._cached: BoundedDict[str, tuple[float, LoginSession]] = BoundedDict(_MAX_CACHED)  # with read time
        self._memory_only: BoundedDict[str, LoginSession] = BoundedDict(_MAX_PER_USER)  # not in the store
        self._deletions = 0  # counts deletions: a lookup that runs during one must not cache the deleted login

    async def open(self, user: ApiUser, credential_mark: str, now: float) -> tuple[str, LoginSession]:
        """Returns a new login and the value of its cookie. If a user has too many logins, ends the oldest.

        The admin token opens a login even if the store is unavailable. That login lasts until this process ends.
        """
        cookie = secrets.token_urlsafe(32)
        key, login = _key(cookie), LoginSession(user, secrets.token_urlsafe(32), credential_mark, now, now)
        try:
            others = [(created, other) for other, created in (await self._logins_of(user)).items()]
            for _, other in sorted(others, reverse=True)[_MAX_PER_USER - 1 :]:
                await self._delete(other)
            await self._store.put(_KIND, key, _value(login), login.expires_at(self.limits))
        except StoreUnavailable:
            if user.kind != "token":
                raise
            self._memory_only[key] = login
        return cookie, login

    async def get(self, cookie: str, now: float) -> LoginSession | None:
        """Returns the login of a cookie; None if it has ended. now: seconds since 1970.

        While the store is unavailable, cached logins stay valid.
        """
        key = _key(cookie)
        if key in self._memory_only:
            return await self._get_memory_only(key, now)
        cached, deletions = self._cached.get(key), self._deletions
        if cached is not None and 0 <= now - cached[0] < _CACHE_SECONDS:
            read_at, login = cached
        else:
            try:
                found = await self._read(key)
            except StoreUnavailable:
                if cached is None:
                    raise
                found = cached[1]
            if found is None:
                self._cached.pop(key, None)
                return None
            read_at, login = now, found
        if login.expires_at(self.limits) <= now:
            await self._delete(key)
            return None
        if now - login.seen >= min(_SEEN_UPDATE_SECONDS, self.limits.idle / 4):
            login = replace(login, seen=now)
            with suppress(StoreUnavailable):  # a later request writes it
                if not await self._store.replace(_KIND, key, _value(login), login.expires_at(self.limits)):
                    self._cached.pop(key, None)
                    return None  # closed meanwhile
        if deletions == self._deletions:
            self._cached[key] = read_at, login
        return login

    async def _read(self, key: str) -> LoginSession | None:
        value = await self._store.get(_KIND, key)
        if value is None:
            return None
        login = read_row(_KIND, "of this cookie", _login, value)
        if await self._is_valid(login):
            return login
        await self._delete(key)
        return None

    async def _get_memory_only(self, key: str, now: float) -> LoginSession | None:
        login = self._memory_only[key]
        if login.expires_at(self.limits) <= now or not await self._is_valid(login):
            self._memory_only.pop(key, None)
            return None
        if key in self._memory_only:
            self._memory_only[key] = login = replace(login, seen=now)
        return login

    async def _is_valid(self, login: LoginSession) -> bool:
        current = await self._current_mark(login.user)
        return bool(current) and secrets.compare_digest(current, login.credential_mark)

    async def close(self, cookie: str) -> None:
        """Ends the login of a cookie."""
        key = _key(cookie)
        if self._memory_only.pop(key, None) is None:
            await self._delete(key)

    async def close_all(self, user: ApiUser) -> None:
        """Ends all logins of one user, in every browser."""
        for key in await self._logins_of(user):
            await self._delete(key)

    async def _logins_of(self, user: ApiUser) -> dict[str, float]:
        """Returns the creation times of a user's stored logins by their keys."""
        stored = await self._store.list(_KIND)
        return {
            key: value.get("created", 0.0)
            for key, value in stored.items()
            if (value.get("kind"), value.get("id")) == (user.kind, user.id)
        }

    async def _delete(self, key: str) -> None:
        await self._store.delete(_KIND, key)
        self._cached.pop(key, None)
        self._deletions += 1


def _key(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()


def _value(login: LoginSession) -> dict[str, Any]:
    user, times = login.user, {"created": login.created, "seen": login.seen}
    owner = {"kind": user.kind, "name": user.name, "id": user.id, **stored_value(user.rights)}
    return {**owner, "csrf": login.csrf, "mark": login.credential_mark, **times}


def _login(value: dict[str, Any]) -> LoginSession:
    user = ApiUser(value["kind"], value["name"], value["id"], stored_rights(value))
    return LoginSession(user, value["csrf"], value["mark"], value["created"], value["seen"])
