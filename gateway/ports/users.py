"""The users who may sign in to the console with a name and a password."""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from gateway.lib import passwords
from gateway.lib.attempt_limiter import Attempt, AttemptLimiter, TooManyAttempts
from gateway.ports.errors import AtCapacity, InvalidField, NoSuchUser, TooManyRefusals, UserExists
from gateway.ports.stores import ConsoleStore

V = TypeVar("V")

PROFILE: Final = "profile"  # the kind of entries for a user's own settings, by profile_key
_KIND: Final = "user"
_MAX_USERS: Final = 1_000
_TRUSTED: Final = Attempt(failures=-1)  # administrators that add users go before sign-ins


@dataclass(frozen=True, slots=True)
class ConsoleUser:
    """A user of the console.

    created, changed: seconds since the epoch; `changed` is that of the password.
    mark: random, new with every password.
    """

    name: str
    created: float
    changed: float
    mark: str


class Users:
    """Users over a store that other processes may share. Every method may raise StoreUnavailable.

    Passwords are hashed one at a time, in a thread. So a flood of sign-ins uses one core and 32 MB. `AttemptLimiter`
    selects the next attempt. If too many wait, an address at its own limit gets TooManyRefusals, all others get
    AtCapacity.
    """

    def __init__(self, store: ConsoleStore) -> None:
        self._store = store
        self._turns = AttemptLimiter()

    async def list(self) -> list[ConsoleUser]:
        """Returns all users, sorted by name."""
        return [_user(name, value) for name, value in sorted((await self._store.list(_KIND)).items())]

    async def find(self, name: str) -> ConsoleUser | None:
        value = await self._store.get(_KIND, name) if not name_problem(name) else None
        return None if value is None else _user(name, value)

    async def add(self, name: str, password: str, now: float) -> ConsoleUser:
        """Adds a user. Raises InvalidField, UserExists, AtCapacity."""
        name = unicodedata.normalize("NFC", name)
        if wrong := name_problem(name):
            raise InvalidField("name", wrong)
        if wrong := passwords.problem(password):
            raise InvalidField("password", wrong)
        if len(await self._store.list(_KIND)) >= _MAX_USERS:
            raise AtCapacity(f"there are {_MAX_USERS} users already")
        value = await self._value(password, now, now)
        if not await self._store.add(_KIND, name, value):
            raise UserExists(name)
        return _user(name, value)

    async def change(self, name: str, password: str, now: float) -> ConsoleUser:
        """Sets a new password. Sessions that were opened with the old one end.

        Raises InvalidField, NoSuchUser, AtCapacity.
        """
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
        """Deletes the user and its profile. Its sessions end, because the user is gone. Raises NoSuchUser."""
        if name_problem(name) or not await self._store.delete(_KIND, name):
            raise NoSuchUser(name[:64])
        await self._store.delete(PROFILE, profile_key("user", name))

    async def check(self, name: str, password: str, who: Attempt) -> ConsoleUser | None:
        """Returns the user with this name and password, else None. An unknown name takes as long as a known one.

        Raises AtCapacity, TooManyRefusals.
        """
        name = unicodedata.normalize("NFC", name)
        value = await self._store.get(_KIND, name) if not name_problem(name) else None
        kept = None if value is None else value["password"]
        right = await self._slowly(who, lambda: passwords.verify_password(password, kept))
        return _user(name, value) if right and value is not None else None

    def waits_for(self, address: str) -> bool:
        """Whether an attempt of the address waits."""
        return self._turns.waits_for(address)

    async def _value(self, password: str, created: float, changed: float) -> dict[str, Any]:
        kept = await self._slowly(_TRUSTED, lambda: passwords.hash_password(password))
        return {"password": kept, "created": created, "changed": changed, "mark": secrets.token_hex(16)}

    async def _slowly(self, who: Attempt, work: Callable[[], V]) -> V:
        try:
            async with self._turns.turn(who):
                return await asyncio.to_thread(work)
        except TooManyAttempts as no:
            words = "too many people are signing in at once"
            raise (TooManyRefusals if no.own_limit else AtCapacity)(words) from None


def profile_key(kind: str, id: str) -> str:
    """Returns the key of a profile. kind: the way of signing in, because users of different kinds may have equal
    names.
    """
    return f"{kind}:{id}"


def name_problem(name: str) -> str:
    """Returns the problem of a user name, beginning with "expected …"; "" if it is valid."""
    good = (
        0 < len(name) <= 64
        and name.isprintable()
        and name == name.strip()
        and not set(name) & set("/\\%?#")
        and name not in (".", "..")
        and unicodedata.is_normalized("NFC", name)
    )
    return "" if good else "expected 1 to 64 printable characters, none of them / \\ % ? #, no space at the ends"


def _user(name: str, value: dict[str, Any]) -> ConsoleUser:
    return ConsoleUser(name, float(value["created"]), float(value["changed"]), str(value["mark"]))
