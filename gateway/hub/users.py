"""Users: who may sign in to the console with a name and a password."""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from dataclasses import dataclass
from typing import Any, Final

from gateway.hub.errors import AtCapacity, InvalidField, NoSuchUser, UserExists
from gateway.hub.ports import ConsoleStore
from gateway.lib import passwords

PROFILE: Final = "profile"  # the kind under which a person's own settings are kept, by profile_key
_KIND: Final = "user"
_MOST: Final = 1_000
_MOST_WAITING: Final = 16


@dataclass(frozen=True, slots=True)
class User:
    """created, changed (the password): seconds since the epoch. mark: another one with every password."""

    name: str
    created: float
    changed: float
    mark: str


class Users:
    """Users over a store that others may share. Every method may raise StoreAway.

    Passwords are hashed one at a time, in a thread: a flood of sign-ins takes one core and 32 MB, and AtCapacity tells
    those who come when sixteen are waiting.
    """

    def __init__(self, store: ConsoleStore) -> None:
        self._store = store
        self._hashing = asyncio.Lock()
        self._waiting = 0

    async def list(self) -> list[User]:
        """All, by name."""
        return [_user(name, value) for name, value in sorted((await self._store.list(_KIND)).items())]

    async def find(self, name: str) -> User | None:
        value = await self._store.get(_KIND, name) if not name_problem(name) else None
        return None if value is None else _user(name, value)

    async def add(self, name: str, password: str, now: float) -> User:
        """Raises InvalidField, UserExists, AtCapacity."""
        name = unicodedata.normalize("NFC", name)
        if wrong := name_problem(name):
            raise InvalidField("name", wrong)
        if wrong := passwords.problem(password):
            raise InvalidField("password", wrong)
        if len(await self._store.list(_KIND)) >= _MOST:
            raise AtCapacity(f"there are {_MOST} users already")
        value = await self._value(password, now, now)
        if not await self._store.add(_KIND, name, value):
            raise UserExists(name)
        return _user(name, value)

    async def change(self, name: str, password: str, now: float) -> User:
        """A new password, which ends the sessions that the old one opened. Raises InvalidField, NoSuchUser."""
        if wrong := passwords.problem(password):
            raise InvalidField("password", wrong)
        user = await self.find(name)
        if user is None:
            raise NoSuchUser(name[:64])
        value = await self._value(password, user.created, now)
        if not await self._store.replace(_KIND, name, value):
            raise NoSuchUser(name)
        return _user(name, value)

    async def delete(self, name: str) -> None:
        """With the profile; sessions end by themselves, their user being gone. Raises NoSuchUser."""
        if name_problem(name) or not await self._store.delete(_KIND, name):
            raise NoSuchUser(name[:64])
        await self._store.delete(PROFILE, profile_key("user", name))

    async def check(self, name: str, password: str) -> User | None:
        """The user whose name and password these are. An unknown name takes as long. Raises AtCapacity."""
        name = unicodedata.normalize("NFC", name)
        value = await self._store.get(_KIND, name) if not name_problem(name) else None
        kept = None if value is None else value["password"]
        right = await self._slowly(lambda: passwords.matches(password, kept))
        return _user(name, value) if right and value is not None else None

    async def _value(self, password: str, created: float, changed: float) -> dict[str, Any]:
        kept = await self._slowly(lambda: passwords.stored(password))
        return {"password": kept, "created": created, "changed": changed, "mark": secrets.token_hex(16)}

    async def _slowly(self, work: Any) -> Any:
        if self._waiting >= _MOST_WAITING:
            raise AtCapacity("too many people are signing in at once")
        self._waiting += 1
        try:
            async with self._hashing:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1


def profile_key(kind: str, id: str) -> str:
    """Of whoever signed in as `kind`: people of different kinds may have the same name."""
    return f"{kind}:{id}"


def name_problem(name: str) -> str:
    """What is wrong with a user's name, as the end of "expected …"; nothing where it can be one."""
    good = (
        0 < len(name) <= 64
        and name.isprintable()
        and name == name.strip()
        and not set(name) & set("/\\%?#")
        and name not in (".", "..")
        and unicodedata.is_normalized("NFC", name)
    )
    return "" if good else "expected 1 to 64 printable characters, none of them / \\ % ? #, no space at the ends"


def _user(name: str, value: dict[str, Any]) -> User:
    return User(name, float(value["created"]), float(value["changed"]), str(value["mark"]))
