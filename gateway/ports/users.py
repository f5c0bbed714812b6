"""The users of the console who sign in with a name and a password."""

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

T = TypeVar("T")

PROFILE: Final = "profile"  # kind of the entries with a user's settings; keys: profile_key
_KIND: Final = "user"
_MAX_USERS: Final = 1_000
_ADMINISTRATOR: Final = Attempt(failures=-1)  # an administrator who adds a user comes before sign-ins


@dataclass(frozen=True, slots=True)
class ConsoleUser:
    """A user of the console.

    created: seconds since the epoch. changed: time of the last password change, seconds since the epoch.
    mark: random text, new with every password.
    """

    name: str
    created: float
    changed: float
    mark: str


class Users:
    """The users in a store that other processes may share. Every method may raise StoreUnavailable.

    Passwords are hashed one at a time, in a thread. So any number of sign-ins uses one core and 32 MB.
    `AttemptLimiter` selects the next attempt. If too many wait, an address at its own limit gets TooManyRefusals.
    Other addresses get AtCapacity.
    """

    def __init__(self, store: ConsoleStore) -> None:
        self._store = store
        self._limiter = AttemptLimiter()

    async def list(self) -> list[ConsoleUser]:
        """Returns all users, sorted by name."""
        return [_user(name, value) for name, value in sorted((await self._store.list(_KIND)).items())]

    async def find(self, name: str) -> ConsoleUser | None:
        value = await self._store.get(_KIND, name) if not name_problem(name) else None
        return None if value is None else _user(name, value)

    async def add(self, name: str, password: str, now: float) -> ConsoleUser:
        """Adds a user. Raises InvalidField, UserExists, AtCapacity."""
        name = unicodedata.normalize("NFC", name)
        if problem := name_problem(name):
            raise InvalidField("name", problem)
        if problem := passwords.problem(password):
            raise InvalidField("password", problem)
        if len(await self._store.list(_KIND)) >= _MAX_USERS:
            raise AtCapacity(f"there are {_MAX_USERS} users already")
        value = await self._value(password, now, now)
        if not await self._store.add(_KIND, name, value):
            raise UserExists(name)
        return _user(name, value)

    async def change(self, name: str, password: str, now: float) -> ConsoleUser:
        """Sets a new password. Sessions that began with the old one end.

        Raises InvalidField, NoSuchUser, AtCapacity.
        """
        if problem := passwords.problem(password):
            raise InvalidField("password", problem)
        user = await self.find(name)
        if user is None:
            raise NoSuchUser(name[:64])
        value = await self._value(password, user.created, now)
        if not await self._store.replace(_KIND, name, value):
            raise NoSuchUser(name)
        return _user(name, value)

    async def delete(self, name: str) -> None:
        """Deletes the user and the profile. The user's sessions end then. Raises NoSuchUser."""
        if name_problem(name) or not await self._store.delete(_KIND, name):
            raise NoSuchUser(name[:64])
        await self._store.delete(PROFILE, profile_key("user", name))

    async def check(self, name: str, password: str, attempt: Attempt) -> ConsoleUser | None:
        """Returns the user with this name and password, else None. An unknown name takes equally long.

        Raises AtCapacity, TooManyRefusals.
        """
        name = unicodedata.normalize("NFC", name)
        value = await self._store.get(_KIND, name) if not name_problem(name) else None
        stored_hash = None if value is None else value["password"]
        matches = await self._hash_in_turn(attempt, lambda: passwords.verify_password(password, stored_hash))
        return _user(name, value) if matches and value is not None else None

    def waits_for(self, address: str) -> bool:
        """Whether an attempt from this address waits."""
        return self._limiter.waits_for(address)

    async def _value(self, password: str, created: float, changed: float) -> dict[str, Any]:
        stored_hash = await self._hash_in_turn(_ADMINISTRATOR, lambda: passwords.hash_password(password))
        return {"password": stored_hash, "created": created, "changed": changed, "mark": secrets.token_hex(16)}

    async def _hash_in_turn(self, attempt: Attempt, work: Callable[[], T]) -> T:
        try:
            async with self._limiter.turn(attempt):
                return await asyncio.to_thread(work)
        except TooManyAttempts as error:
            message = "too many people are signing in at once"
            raise (TooManyRefusals if error.own_limit else AtCapacity)(message) from None


def profile_key(kind: str, id: str) -> str:
    """Returns the key of a profile. kind: the sign-in method, because two methods may have users of equal names."""
    return f"{kind}:{id}"


def name_problem(name: str) -> str:
    """Returns the problem of a user name as "expected …"; "" if it is valid."""
    valid = (
        0 < len(name) <= 64
        and name.isprintable()
        and name == name.strip()
        and not set(name) & set("/\\%?#")
        and name not in (".", "..")
        and unicodedata.is_normalized("NFC", name)
    )
    return "" if valid else "expected 1 to 64 printable characters, none of them / \\ % ? #, no space at the ends"


def _user(name: str, value: dict[str, Any]) -> ConsoleUser:
    return ConsoleUser(name, float(value["created"]), float(value["changed"]), str(value["mark"]))
