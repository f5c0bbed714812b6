"""Logins: people who are signed in to the console, known by a cookie; not to be taken for live sessions."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, TypeVar

from gateway.hub.errors import StoreAway
from gateway.hub.ports import ConsoleStore

V = TypeVar("V")
Kind: TypeAlias = Literal["token", "user", "oidc"]

_KIND: Final = "session"
_MOST_EACH: Final = 20  # of one person; the one that began first gives way
_MOST_KNOWN: Final = 1_000
_FRESH: Final = 3.0  # seconds for which the store is not asked again: pages ask for several things at once
_RENEW: Final = 60.0  # a login's use is written down this often, not with every request


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks. id: what is this person's own is kept under it; "" for whoever holds the admin token."""

    kind: Kind
    name: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    """One signed-in browser. created, seen: seconds since the epoch. mark: of what it was opened with."""

    person: Person
    csrf: str = field(repr=False)
    mark: str = field(repr=False)
    created: float
    seen: float

    def ends(self, idle: float, most: float) -> float:
        return min(self.seen + idle, self.created + most)


class Logins:
    """Kept in a store that nodes may share, under the hash of the cookie: who reads the store cannot sign in.

    idle, most: seconds without a request, and altogether, after which one ends. mark: what a person signs in with, as
    it is now ("" for somebody who may no longer): a login that was opened with something else has ended. A change on
    another node is seen within three seconds. Every method may raise StoreAway.
    """

    def __init__(self, store: ConsoleStore, idle: float, most: float, mark: Callable[[Person], Awaitable[str]]) -> None:
        self._store, self._idle, self._most, self._mark = store, idle, most, mark
        self._known: OrderedDict[str, tuple[float, Login]] = OrderedDict()
        self._unstored: OrderedDict[str, Login] = OrderedDict()
        self._forgotten = 0  # counts, so that whoever looked one up meanwhile does not remember it

    async def open(self, person: Person, mark: str, now: float) -> tuple[str, Login]:
        """A new login and its cookie's value. A person's oldest end where there are too many.

        Whoever holds the admin token gets one also while the store is away; it lasts as long as this process.
        """
        cookie = secrets.token_urlsafe(32)
        key, login = _key(cookie), Login(person, secrets.token_urlsafe(32), mark, now, now)
        try:
            theirs = [(at, other) for other, at in (await self._of(person)).items()]
            for _, other in sorted(theirs, reverse=True)[_MOST_EACH - 1 :]:
                await self._forget(other)
            await self._store.put(_KIND, key, _value(login), login.ends(self._idle, self._most))
        except StoreAway:
            if person.kind != "token":
                raise
            _remember(self._unstored, key, login, _MOST_EACH)
        return cookie, login

    async def find(self, cookie: str, now: float) -> Login | None:
        """The login of a cookie, None where it has ended; now: seconds since the epoch.

        While the store is away, those that were seen before go on.
        """
        key = _key(cookie)
        if key in self._unstored:
            return await self._unwritten(key, now)
        known, forgotten = self._known.get(key), self._forgotten
        if known is not None and 0 <= now - known[0] < _FRESH:
            at, login = known
        else:
            try:
                found = await self._read(key)
            except StoreAway:
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
            with suppress(StoreAway):  # the next request tries again, when what is known is no longer fresh
                if not await self._store.replace(_KIND, key, _value(login), login.ends(self._idle, self._most)):
                    self._known.pop(key, None)
                    return None  # closed meanwhile
        if forgotten == self._forgotten:
            _remember(self._known, key, (at, login), _MOST_KNOWN)
        return login

    async def _read(self, key: str) -> Login | None:
        value = await self._store.get(_KIND, key)
        if value is None:
            return None
        login = _login(value)
        if await self._lasts(login):
            return login
        await self._forget(key)
        return None

    async def _unwritten(self, key: str, now: float) -> Login | None:
        login = self._unstored[key]
        if login.ends(self._idle, self._most) <= now or not await self._lasts(login):
            self._unstored.pop(key, None)
            return None
        if key in self._unstored:
            self._unstored[key] = login = replace(login, seen=now)
        return login

    async def _lasts(self, login: Login) -> bool:
        mark = await self._mark(login.person)
        return bool(mark) and secrets.compare_digest(mark, login.mark)

    async def close(self, cookie: str) -> None:
        """The cookie opens nothing any more."""
        key = _key(cookie)
        if self._unstored.pop(key, None) is None:
            await self._forget(key)

    async def close_all(self, person: Person) -> None:
        """Of one person, in every browser."""
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


def _value(login: Login) -> dict[str, Any]:
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


def _login(value: dict[str, Any]) -> Login:
    person = Person(value["kind"], value["name"], value["id"])
    return Login(person, value["csrf"], value["mark"], value["created"], value["seen"])
