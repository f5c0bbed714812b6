"""The second factors of users: codes of an authenticator app, and recovery codes. A code is valid once on all nodes."""

import hashlib
import secrets
import time
import unicodedata
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from gateway.lib import totp
from gateway.lib.bounded_dict import BoundedDict
from gateway.ports.errors import TooManyRefusals
from gateway.ports.stored_rows import read_row
from gateway.ports.stores import ConsoleStore
from gateway.ports.users import SECOND_FACTOR as _KIND

_USED: Final = "usedcode"  # kind of the entries of codes that were used
_RECOVERY_CODES: Final = 10
_RECOVERY_LENGTH: Final = 10  # characters without the hyphen
_USED_SECONDS: Final = 86_400.0  # for which a used code is kept; its entry is needed for less
# With a known password, this many codes can be tried: one in 300 is right after a day.
_MAX_WRONG: Final = 10
_WRONG_SECONDS: Final = 900.0
_MAX_NAMES: Final = 10_000


class SecondFactors:
    """The factors in a store that other processes may share. Methods may raise StoreUnavailable. clock: since 1970.

    A factor counts when its first code was entered. Only hashes of recovery codes are stored. After ten wrong codes for
    a name within 15 minutes, further ones are refused with TooManyRefusals; each process counts them for itself.
    """

    def __init__(self, store: ConsoleStore, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._wrong: BoundedDict[str, deque[float]] = BoundedDict(_MAX_NAMES)

    async def remaining(self, name: str) -> int | None:
        """Returns the number of unused recovery codes; None if the user has no second factor."""
        factor = await self._factor(name)
        return None if factor is None else len(factor["recovery"])

    async def names(self) -> set[str]:
        """Returns the users with a second factor."""
        return {name for name, factor in (await self._store.list(_KIND)).items() if factor.get("confirmed", True)}

    async def begin(self, name: str) -> str:
        """Returns a new secret, which counts after `confirm`. A factor that counts already stays until then."""
        factor = await self._store.get(_KIND, name) or {"secret": "", "recovery": [], "confirmed": False}
        secret = totp.new_secret()
        await self._store.put(_KIND, name, {**factor, "next": secret})
        return secret

    async def confirm(self, name: str, code: str) -> list[str] | None:
        """Makes the new secret count, if this is its code. Returns new recovery codes; None for a wrong code."""
        factor = await self._store.get(_KIND, name)
        secret = factor.get("next", "") if factor is not None else ""
        if not secret or not await self._uses_code(name, secret, _plain(code)):
            return None
        codes = [_plain(secrets.token_hex(_RECOVERY_LENGTH // 2)) for _ in range(_RECOVERY_CODES)]
        hashes = [_hash(name, code) for code in codes]
        await self._store.put(_KIND, name, {"secret": secret, "recovery": hashes, "confirmed": True})
        return codes

    async def check(self, name: str, code: str) -> bool:
        """Whether the code is right and was not used before. Raises TooManyRefusals."""
        factor = await self._factor(name)
        if factor is None:
            return False
        code = _plain(code)
        if await self._uses_code(name, factor["secret"], code):
            return True
        hashed = _hash(name, code)
        if hashed not in factor["recovery"] or not await self._use(f"{name}/{hashed}"):
            self._wrong.setdefault(name, deque(maxlen=_MAX_WRONG)).append(self._clock())
            return False
        left = [other for other in factor["recovery"] if other != hashed]
        await self._store.replace(_KIND, name, {**factor, "recovery": left})
        return True

    async def remove(self, name: str) -> bool:
        """Removes the factor. Returns whether the user had one."""
        self._wrong.pop(name, None)
        return await self._store.delete(_KIND, name)

    async def _factor(self, name: str) -> dict[str, Any] | None:
        factor = await self._store.get(_KIND, name)
        return read_row(_KIND, name, _confirmed, factor) if factor is not None else None

    async def _uses_code(self, name: str, secret: str, code: str) -> bool:
        """Whether the app shows this code now, and nobody has used it. Raises TooManyRefusals."""
        now, wrong = self._clock(), self._wrong.get(name, ())
        if sum(now - at < _WRONG_SECONDS for at in wrong) >= _MAX_WRONG:
            raise TooManyRefusals("too many wrong codes: wait a quarter of an hour")
        step = totp.matching_step(secret, code, now)
        return step is not None and await self._use(f"{name}/{secret[:8]}/{step}")

    async def _use(self, key: str) -> bool:
        """Marks a code as used. Returns False if another sign-in has used it, on any node."""
        key = hashlib.sha256(key.encode()).hexdigest()
        return await self._store.add(_USED, key, {}, self._clock() + _USED_SECONDS)


def _confirmed(factor: dict[str, Any]) -> dict[str, Any] | None:
    """Returns a stored factor; None if it does not count yet. Raises ValueError, KeyError."""
    if not isinstance(factor["secret"], str) or not isinstance(factor["recovery"], list):
        raise ValueError("its secret or its recovery codes are missing")
    return factor if factor["confirmed"] else None


def _plain(code: str) -> str:
    """Returns a code without its spaces and hyphens, as apps show it. A recovery code has one hyphen, in the middle."""
    text = "".join(c for c in unicodedata.normalize("NFKC", code) if c.isalnum()).lower()
    return f"{text[:5]}-{text[5:]}" if len(text) == _RECOVERY_LENGTH else text


def _hash(name: str, code: str) -> str:
    # A plain hash suffices for 40 random bits that only sign-ins with the password can try, and slowly.
    return hashlib.sha256(f"{name}/{code}".encode("utf-8", "replace")).hexdigest()
