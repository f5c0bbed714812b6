"""Logins of people in the console, known by a cookie. They have nothing to do with live sessions."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, TypeVar

from gateway.ports.errors import StoreUnavailable
from gateway.ports.stores import ConsoleStore

V = TypeVar("V")
SignInKind: TypeAlias = Literal["token", "user", "oidc"]

_KIND: Final = "session"
_MAX_PER_PERSON: Final = 20  # logins; with one more, the oldest ends
_MAX_CACHED: Final = 1_000
_CACHE_SECONDS: Final = 3.0  # seconds without reading the store again: pages send several requests at once
_RENEW: Final = 60.0  # seconds between two updates of `seen`, to avoid a write with every request


@dataclass(frozen=True, slots=True)
class Person:
    """A person or script that uses the API.

    id: the key of this person's own data; "" for the admin token.
    """

    kind: SignInKind
    name: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class LoginSession:
    """One signed-in browser.

    created, seen: seconds since the epoch. mark: identifies the credential it was opened with.
    """

    person: Person
    csrf: str = field(repr=False)
    mark: str = field(repr=False)
    created: float
    seen: float

    def ends(self, idle: float, most: float) -> float:
        return min(self.seen + idle, self.created + most)


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """Seconds without a request, and altogether, after which a login ends."""

    idle: float
    most: float


class LoginSessions:
    """Logins in a store that nodes may share, by the hash of the cookie. Reading the store does not allow signing in.

    idle, most: seconds without a request, and in total, after which a login ends. mark: returns a text for what a
    person signs in with now; "" where the person no longer may. A login with a different mark has ended.

    A change on another node takes effect within three seconds. Every method may raise StoreUnavailable.
    """

    def __init__(self, store: ConsoleStore, idle: float, most: float, mark: Callable[[Person], Awaitable[str]]) -> None:
        self._store, self._idle, self._most, self._mark = store, idle, most, mark
        self._known: OrderedDict[str, tuple[float, LoginSession]] = OrderedDict()
        self._unstored: OrderedDict[str, LoginSession] = OrderedDict()
        self._forgotten = 0  # counts deletions, so that a lookup running meanwhile does not cache a deleted login

    async def open(self, person: Person, mark: str, now: float) -> tuple[str, LoginSession]:
        """Returns a new login and its cookie's value. Ends a person's oldest logins where there are too many.

        The admin token opens one even while the store is unavailable; it lasts as long as this process.
        """
        cookie = secrets.token_urlsafe(32)
        key, login = _key(cookie), LoginSession(person, secrets.token_urlsafe(32), mark, now, now)
        try:
            theirs = [(at, other) for other, at in (await self._of(person)).items()]
            for _, other in sorted(theirs, reverse=True)[_MAX_PER_PERSON - 1 :]:
                await self._forget(other)
            await self._store.put(_KIND, key, _value(login), login.ends(self._idle, self._most))
        except StoreUnavailable:
            if person.kind != "token":
                raise
            _remember(self._unstored, key, login, _MAX_PER_PERSON)
        return cookie, login

    async def find(self, cookie: str, now: float) -> LoginSession | None:
        """Returns the login of a cookie, None where it has ended. now: seconds since the epoch.

        While the store is unavailable, logins seen before stay valid.
        """
        key = _key(cookie)
        if key in self._unstored:
            return await self._unwritten(key, now)
        known, forgotten = self._known.get(key), self._forgotten
        if known is not None and 0 <= now - known[0] < _CACHE_SECONDS:
            at, login = known
        else:
            try:
                found = await self._read(key)
            except StoreUnavailable:
                if known is None:
                    raise
                found = known[1]
            if found is None:
                self._known.pop(key, None)
                return None
            at, login = now, found
        if login.ends(self._idle, self._most) <= now:
            await self._forget(key)
            return None
        if now - login.seen >= min(_RENEW, self._idle / 4):
            login = replace(login, seen=now)
            with suppress(StoreUnavailable):  # a later request tries again
                if not await self._store.replace(_KIND, key, _value(login), login.ends(self._idle, self._most)):
                    self._known.pop(key, None)
                    return None  # closed meanwhile
        if forgotten == self._forgotten:
            _remember(self._known, key, (at, login), _MAX_CACHED)
        return login

    async def _read(self, key: str) -> LoginSession | None:
        value = await self._store.get(_KIND, key)
        if value is None:
            return None
        login = _login(value)
        if await self._lasts(login):
            return login
        await self._forget(key)
        return None

    async def _unwritten(self, key: str, now: float) -> LoginSession | None:
        login = self._unstored[key]
        if login.ends(self._idle, self._most) <= now or not await self._lasts(login):
            self._unstored.pop(key, None)
            return None
        if key in self._unstored:
            self._unstored[key] = login = replace(login, seen=now)
        return login

    async def _lasts(self, login: LoginSession) -> bool:
        mark = await self._mark(login.person)
        return bool(mark) and secrets.compare_digest(mark, login.mark)

    async def close(self, cookie: str) -> None:
        """Ends the login of a cookie."""
        key = _key(cookie)
        if self._unstored.pop(key, None) is None:
            await self._forget(key)

    async def close_all(self, person: Person) -> None:
        """Ends all logins of one person, in every browser."""
        for key in await self._of(person):
            await self._forget(key)

    async def _of(self, person: Person) -> dict[str, float]:
        stored = await self._store.list(_KIND)
        return {
            key: value["created"]
            for key, value in stored.items()
            if (value["kind"], value["id"]) == (person.kind, person.id)
        }

    async def _forget(self, key: str) -> None:
        await self._store.delete(_KIND, key)
        self._known.pop(key, None)
        self._forgotten += 1


def _remember(memory: OrderedDict[str, V], key: str, value: V, most: int) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > most:
        memory.popitem(last=False)


def _key(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()


def _value(login: LoginSession) -> dict[str, Any]:
    person = login.person
    return {
        "kind": person.kind,
        "name": person.name,
        "id": person.id,
        "csrf": login.csrf,
        "mark": login.mark,
        "created": login.created,
        "seen": login.seen,
    }


def _login(value: dict[str, Any]) -> LoginSession:
    person = Person(value["kind"], value["name"], value["id"])
    return LoginSession(person, value["csrf"], value["mark"], value["created"], value["seen"])
