"""The certificate of a fleet in its console store, encrypted: certificate, account, attempts, pending challenges.

The key comes from `cluster.secret`, which all nodes know and the store does not. Nodes with equal names, authority and
secret share. After a change of the secret, they use other entries.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.adapters.acme.renewal import Order
from gateway.ports.errors import StoreUnavailable
from gateway.ports.stores import ConsoleStore

log = structlog.get_logger(__name__)

# The kinds of entries. A trigger of PostgreSQL tells changes of the first one.
CERTIFICATE, STATE, CHALLENGES, _TURN = "acme-certificate", "acme-state", "acme-challenges", "acme-turn"
_TURN_SECONDS: Final = 300.0  # an order ends before; a crashed node blocks the others so long
_PENDING_SECONDS: Final = 600.0
_READ_SECONDS: Final = 1.0  # between two reads for strangers
_NONCE: Final = 12  # bytes


class SharedEntries:
    """The entries of one order. Methods raise StoreUnavailable.

    changed: is set when another node may have stored a certificate; set at first. clock: seconds since 1970.
    """

    def __init__(self, store: ConsoleStore, secret: str, order: Order, clock: Callable[[], float] = time.time) -> None:
        # A person may have chosen the secret, so guesses must be slow.
        keys = hashlib.scrypt(secret.encode(), salt=b"millrace/acme", n=2**14, r=8, p=1, dklen=64)
        about = json.dumps([order.directory, sorted(order.names)])
        self.id = hmac.digest(keys[32:], about.encode(), "sha256").hex()
        self.clock = clock
        self.changed = asyncio.Event()
        self.changed.set()
        self._store, self._box = store, AESGCM(keys[:32])

    async def load(self, kind: str) -> Any:
        """Returns the stored JSON value; None if there is none that this fleet has stored."""
        entry = await self._store.get(kind, self.id)
        if entry is None:
            return None
        try:
            sealed = base64.b64decode(entry["box"])
            return json.loads(self._box.decrypt(sealed[:_NONCE], sealed[_NONCE:], self._bound(kind)))
        except (InvalidTag, KeyError, TypeError, ValueError):
            log.error("an entry of the certificate was changed in the database: it is not used", kind=kind)
            return None

    async def save(self, kind: str, value: Any, expires: float = 0.0) -> None:
        """Stores a JSON value. expires: seconds since 1970; 0: never."""
        nonce = secrets.token_bytes(_NONCE)
        sealed = nonce + self._box.encrypt(nonce, json.dumps(value).encode(), self._bound(kind))
        await self._store.put(kind, self.id, {"box": base64.b64encode(sealed).decode()}, expires)

    async def publish(self, challenges: Mapping[str, str]) -> None:
        """Stores the answers to the challenges of the present order: all nodes can then give them."""
        await self.save(CHALLENGES, challenges, self.clock() + _PENDING_SECONDS)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Yields whether this node alone may ask the authority now, for at most five minutes."""
        ends = self.clock() + _TURN_SECONDS
        is_mine = await self._store.add(_TURN, self.id, {}, ends)
        try:
            yield is_mine
        finally:
            if is_mine and self.clock() < ends:
                await self._store.delete(_TURN, self.id)

    def _bound(self, kind: str) -> bytes:
        """Returns the name of the entry: its text is valid nowhere else."""
        return f"{kind}/{self.id}".encode()


class PendingChallenges:
    """Reads the fleet's pending challenges at most once a second. All who wait get the result of the next read.

    A limit of reads for each client would let strangers keep the authority from its answer.
    """

    def __init__(self, entries: SharedEntries) -> None:
        self._entries = entries
        self._reading = asyncio.Lock()
        self._started = self._finished = 0  # numbers of reads
        self._not_before = 0.0
        self._found: Mapping[str, str] | None = None

    async def read(self) -> Mapping[str, str] | None:
        """Returns answers by token, and certificates by `<name>.pem`, as stored after this call.

        Returns None if the store does not answer.
        """
        asked = self._started
        async with self._reading:
            if self._finished <= asked:
                await asyncio.sleep(self._not_before - time.monotonic())
                self._started, self._not_before = self._started + 1, time.monotonic() + _READ_SECONDS
                self._found = await self._load()
                self._finished = self._started
        return self._found

    async def _load(self) -> Mapping[str, str] | None:
        try:
            return await self._entries.load(CHALLENGES) or {}
        except StoreUnavailable as error:
            log.warning("pending challenges of the fleet cannot be read", reason=str(error))
            return None
