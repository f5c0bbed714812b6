"""The users of the console who sign in with a name and a password."""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, TypeVar

from gateway.lib import passwords
from gateway.lib.attempt_limiter import Attempt, AttemptLimiter, TooManyAttempts
from gateway.ports.errors import AtCapacity, InvalidField, NoSuchUser, NotPossible, TooManyRefusals, UserExists
from gateway.ports.stored_rows import read_row, read_rows
from gateway.ports.stores import ConsoleStore

T = TypeVar("T")

PROFILE: Final = "profile"  # kind of the entries with a user's settings; keys: profile_key
SECOND_FACTOR: Final = "factor"  # kind of the entries of second factors, by name of the user
_KIND: Final = "user"
_MAX_USERS: Final = 1_000
MAX_CHANNELS: Final = 100  # channels of one broadcaster
_MAX_ID: Final = 128  # characters of a channel's id
_OBSERVED: Final = "observed"  # the member of a stored observer with the ids of the channels
_UNLIMITED: Final = Attempt(failures=-1)  # -1: a new password is hashed before those of all waiting sign-ins


class UserRole(StrEnum):
    """The rights of a user. A broadcaster may only use some channels: see them, push to them, end their sessions.

    An observer reads all channels or some, without keys and push addresses, and changes nothing.
    """

    ADMINISTRATOR = "administrator"
    BROADCASTER = "broadcaster"
    OBSERVER = "observer"


@dataclass(frozen=True, slots=True)
class Rights:
    """A role and the ids of the channels: of a broadcaster, or of an observer of some channels."""

    role: UserRole = UserRole.ADMINISTRATOR
    channels: tuple[str, ...] = ()

    @classmethod
    def checked(cls, role: str, channels: Sequence[str]) -> Rights:
        """Returns the rights of a role's name. Raises InvalidField."""
        if role not in tuple(UserRole):
            raise InvalidField("role", f"expected {', '.join(list(UserRole)[:-1])} or {list(UserRole)[-1]}")
        if channels and role == UserRole.ADMINISTRATOR:
            raise InvalidField("channels", "expected none, because an administrator may use all channels")
        if len(channels) > MAX_CHANNELS or any(not 0 < len(id) <= _MAX_ID for id in channels):
            raise InvalidField("channels", f"expected the ids of at most {MAX_CHANNELS} channels")
        return cls(UserRole(role), tuple(dict.fromkeys(channels)))

    @property
    def all_channels(self) -> bool:
        """Whether the rights are for all channels: those of an administrator, and of an observer without a list."""
        return self.role is UserRole.ADMINISTRATOR or (self.role is UserRole.OBSERVER and not self.channels)

    def may_use(self, channel_id: str) -> bool:
        """Whether the channel may be seen and, except by an observer, pushed to."""
        return self.all_channels or channel_id in self.channels


ADMINISTRATOR: Final = Rights()


@dataclass(frozen=True, slots=True)
class ConsoleUser:
    """A user of the console.

    created: seconds since 1970. changed: time of the last password change, seconds since 1970.
    mark: random text, new with every password and every change of the rights.
    """

    name: str
    created: float
    changed: float
    mark: str
    rights: Rights = ADMINISTRATOR


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
        stored = sorted((await self._store.list(_KIND)).items())
        return read_rows(_KIND, _user, ((row[0], row) for row in stored))

    async def find(self, name: str) -> ConsoleUser | None:
        """Returns the user with this name, in any Unicode form; None if there is none."""
        name = _composed(name)
        value = await self._store.get(_KIND, name) if not name_problem(name) else None
        return None if value is None else read_row(_KIND, name, _user, (name, value))

    async def add(self, name: str, password: str, now: float, rights: Rights = ADMINISTRATOR) -> ConsoleUser:
        """Adds a user. Raises InvalidField, UserExists, NotPossible, AtCapacity."""
        name = _composed(name)
        if problem := name_problem(name):
            raise InvalidField("name", problem)
        if problem := passwords.problem(password):
            raise InvalidField("password", problem)
        if len(await self._store.list(_KIND)) >= _MAX_USERS:
            raise NotPossible(f"there are {_MAX_USERS} users already")
        user = ConsoleUser(name, now, now, secrets.token_hex(16), rights)
        if not await self._store.add(_KIND, name, _value(user, await self._hash(password))):
            raise UserExists(name)
        return user

    async def change(self, name: str, password: str | None, now: float, rights: Rights | None = None) -> ConsoleUser:
        """Sets a new password, new rights, or both; None: unchanged. Earlier sessions of the user end.

        Raises InvalidField, NoSuchUser, AtCapacity.
        """
        if password is not None and (problem := passwords.problem(password)):
            raise InvalidField("password", problem)
        name = _composed(name)
        # First the hash, which takes long: rights that change before it is there must stay.
        new_hash = None if password is None else await self._hash(password)
        stored = await self._store.get(_KIND, name) if not name_problem(name) else None
        if stored is None:
            raise NoSuchUser(name[:64])
        user = replace(read_row(_KIND, name, _user, (name, stored)), mark=secrets.token_hex(16))
        if rights is not None:
            user = replace(user, rights=rights)
        if new_hash is not None:
            user = replace(user, changed=now)
        if not await self._store.replace(_KIND, name, _value(user, new_hash or stored["password"])):
            raise NoSuchUser(name)
        return user

    async def delete(self, name: str) -> str:
        """Deletes the user, the profile and the second factor. The user's sessions end then.

        Returns the name as it was stored. Raises NoSuchUser.
        """
        name = _composed(name)
        if name_problem(name) or not await self._store.delete(_KIND, name):
            raise NoSuchUser(name[:64])
        await self._store.delete(PROFILE, profile_key("user", name))
        await self._store.delete(SECOND_FACTOR, name)
        return name

    async def check(self, name: str, password: str, attempt: Attempt) -> ConsoleUser | None:
        """Returns the user with this name and password, else None. An unknown name takes the same time.

        Raises AtCapacity, TooManyRefusals.
        """
        name = _composed(name)
        value = await self._store.get(_KIND, name) if not name_problem(name) else None
        stored_hash = None if value is None else value.get("password")
        matches = await self._hash_in_turn(attempt, lambda: passwords.verify_password(password, stored_hash))
        return read_row(_KIND, name, _user, (name, value)) if matches and value is not None else None

    def waits_for(self, address: str) -> bool:
        """Whether an attempt from this address waits."""
        return self._limiter.waits_for(address)

    async def _hash(self, password: str) -> dict[str, Any]:
        return await self._hash_in_turn(_UNLIMITED, lambda: passwords.hash_password(password))

    async def _hash_in_turn(self, attempt: Attempt, work: Callable[[], T]) -> T:
        try:
            async with self._limiter.turn(attempt):
                return await asyncio.to_thread(work)
        except TooManyAttempts as error:
            message = "too many people are signing in at once"
            raise (TooManyRefusals if error.own_limit else AtCapacity)(message) from None


def profile_key(kind: str, id: str) -> str:
    """Returns the key of a profile. kind: the sign-in method, because two methods may have users of the same name."""
    return f"{kind}:{id}"


def _composed(name: str) -> str:
    """Returns the form in which names are stored: keyboards and file systems write accents in two ways."""
    return unicodedata.normalize("NFC", name)


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


def stored_rights(value: dict[str, Any]) -> Rights:
    """Returns the rights in a stored user, token or session. Raises ValueError for a role of a later version."""
    role = UserRole(value.get("role", UserRole.BROADCASTER))
    return Rights(role, tuple(value[_OBSERVED] if role is UserRole.OBSERVER else value.get("channels", ())))


def rights_value(rights: Rights) -> dict[str, Any]:
    """Returns the members of a shown user or token."""
    return {"role": str(rights.role), "channels": list(rights.channels)}


def stored_value(rights: Rights) -> dict[str, Any]:
    """Returns the members that `stored_rights` reads."""
    value = rights_value(rights)
    # Version 0.1 reads an unknown role as broadcaster. It skips a row without a list of channels, and names it.
    return {**value, "channels": None, _OBSERVED: value["channels"]} if rights.role is UserRole.OBSERVER else value


def _user(row: tuple[str, dict[str, Any]]) -> ConsoleUser:
    name, value = row
    created, changed = float(value["created"]), float(value["changed"])
    return ConsoleUser(name, created, changed, str(value["mark"]), stored_rights(value))


def _value(user: ConsoleUser, stored_hash: dict[str, Any]) -> dict[str, Any]:
    times = {"created": user.created, "changed": user.changed}
    return {"password": stored_hash, **times, "mark": user.mark, **stored_value(user.rights)}
