"""Tokens for scripts: each has a name, rights and perhaps an end. Only their hashes are stored."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from gateway.ports.errors import InvalidField, NoSuchToken, NotPossible, StoreUnavailable
from gateway.ports.stored_rows import read_row, read_rows
from gateway.ports.stores import ConsoleStore
from gateway.ports.users import Rights, name_problem, stored_rights, stored_value

PREFIX: Final = "mlr_"  # so that people and scanners for secrets recognize a token
_KIND: Final = "apitoken"
_MAX_TOKENS: Final = 500
_ID_LENGTH: Final = 16
_LIST_SECONDS: Final = 3.0  # between two reads of the list, in which unknown tokens cause no reads
_USED_SECONDS: Final = 60.0  # between two updates of the last use


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token without its secret. created, expires (0: never), used (0: never): seconds since 1970."""

    id: str
    name: str
    rights: Rights
    created: float
    expires: float = 0.0
    used: float = 0.0


class ApiTokens:
    """The tokens in a store that nodes share. Methods may raise StoreUnavailable. clock: seconds since 1970.

    A revoked token ends with the next request at every node, because a known token is read again for each request. An
    unknown one is only looked for in a list, so that wrong tokens cause few reads; a new token may take 3 s.
    """

    def __init__(self, store: ConsoleStore, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._known: frozenset[str] = frozenset()
        self._listed = float("-inf")  # monotonic time of the list
        self._problem = ""  # why it could not be read then
        self._listing = asyncio.Lock()

    async def list(self) -> list[ApiToken]:
        """Returns all tokens, also those that have expired, by name."""
        stored = await self._store.list(_KIND)
        tokens = read_rows("token", _token, ((row[0], row) for row in stored.items()))
        return sorted(tokens, key=lambda token: (token.name, token.id))

    async def add(self, name: str, rights: Rights, expires: float) -> tuple[str, ApiToken]:
        """Returns a new token and its secret. expires: seconds since 1970; 0: never.

        Raises InvalidField, NotPossible.
        """
        if problem := name_problem(name):
            raise InvalidField("name", problem)
        now = self._clock()
        if expires and expires <= now:
            raise InvalidField("expires", "expected a time in the future")
        if len(await self._store.list(_KIND)) >= _MAX_TOKENS:
            raise NotPossible(f"there are {_MAX_TOKENS} tokens already")
        secret = PREFIX + secrets.token_urlsafe(32)
        key = _hash(secret)
        token = ApiToken(key[:_ID_LENGTH], name, rights, now, expires)
        await self._store.put(_KIND, key, _value(token))
        async with self._listing:  # a list that is being read may lack the token
            self._listed = float("-inf")
        return secret, token

    async def revoke(self, id: str) -> str:
        """Deletes a token, also one that cannot be used, and returns its name. Raises NoSuchToken."""
        for key, value in (await self._store.list(_KIND)).items():
            if key[:_ID_LENGTH] == id and await self._store.delete(_KIND, key):
                return str(value.get("name", ""))
        raise NoSuchToken(id[:64])

    async def find(self, secret: str) -> ApiToken | None:
        """Returns the token with this secret; None if there is none, or it has expired or was revoked."""
        if not secret.startswith(PREFIX):
            return None
        key = _hash(secret)
        if key not in self._known:
            await self._look_for(key)
        value = await self._store.get(_KIND, key) if key in self._known else None
        token = read_row("token", key[:_ID_LENGTH], _token, (key, value)) if value is not None else None
        now = self._clock()
        if token is None or 0 < token.expires <= now:
            return None
        if now - token.used >= _USED_SECONDS:
            with suppress(StoreUnavailable):  # a later request writes it
                await self._store.replace(_KIND, key, _value(token) | {"used": now})
        return token

    async def _look_for(self, key: str) -> None:
        """Reads the list, if it is old. Requests at the same time share its result.

        Raises StoreUnavailable for an unknown token also while it does not read again after a failure.
        """
        async with self._listing:
            if key not in self._known and time.monotonic() - self._listed >= _LIST_SECONDS:
                try:
                    self._known, self._problem = frozenset(await self._store.list(_KIND)), ""
                except StoreUnavailable as error:
                    self._problem = str(error)
                self._listed = time.monotonic()
            if self._problem and key not in self._known:
                raise StoreUnavailable(self._problem)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _token(row: tuple[str, dict[str, Any]]) -> ApiToken:
    key, value = row
    times = float(value["created"]), float(value["expires"]), float(value["used"])
    return ApiToken(key[:_ID_LENGTH], str(value["name"]), stored_rights(value), *times)


def _value(token: ApiToken) -> dict[str, Any]:
    times = {"created": token.created, "expires": token.expires, "used": token.used}
    return {"name": token.name, **times, **stored_value(token.rights)}
