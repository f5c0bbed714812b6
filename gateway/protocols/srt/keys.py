"""The keys of a connection: those of the peer, and ours with their renewal (§6.1.6)."""

import os
from dataclasses import dataclass, field
from typing import Final

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.srt.crypto import (
    ANNOUNCE_PACKETS,
    EVEN,
    ODD,
    REFRESH_PACKETS,
    PayloadCipher,
    WrongPassphrase,
    decode_key_material,
    encode_key_material,
)

_RENEWALS_SECONDS: Final = 1.0  # between two new keys of a peer: each costs a millisecond


@dataclass(slots=True, eq=False)
class ReceiveKeys:
    """The keys with which the peer encrypts."""

    passphrase: str
    cipher: PayloadCipher
    _renewed_at: float = field(default=float("-inf"), init=False)

    def renew(self, message: bytes, now: float) -> bool:
        """Takes new key material, at most once a second. Returns whether to confirm it to the peer."""
        if now - self._renewed_at < _RENEWALS_SECONDS:
            return False
        self._renewed_at = now
        try:
            salt, keys = decode_key_material(self.passphrase, message)
        except (WrongPassphrase, RemoteProtocolError):
            return False
        if salt == self.cipher.salt:
            self.cipher.add(keys)
        else:
            self.cipher = PayloadCipher(salt, keys)
        return True


@dataclass(slots=True, eq=False)
class SendKeys:
    """The key with which we encrypt. A new one is announced before the old one was used too often.

    kind: of the current key, EVEN or ODD. refresh: packets with one key. announcement: key material that the peer has
    not confirmed; empty: none.
    """

    passphrase: str
    salt: bytes
    kind: int
    key: bytes
    refresh: int = REFRESH_PACKETS
    announcement: bytes = field(default=b"", init=False)
    _cipher: PayloadCipher = field(init=False)
    _used: int = field(default=0, init=False)
    _following: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        self._cipher = PayloadCipher(self.salt, {self.kind: self.key})

    @property
    def material(self) -> bytes:
        """The key material message of the current key."""
        return encode_key_material(self.passphrase, self.salt, {self.kind: self.key})

    def encrypt(self, sequence: int, payload: bytes) -> tuple[int, bytes]:
        """Returns the kind of the key, and the encrypted payload. sequence: 31 bits. Hot path."""
        self._used += 1
        if self._used > self.refresh - ANNOUNCE_PACKETS:
            self._renew()
        encrypted = self._cipher.apply(self.kind, sequence, payload)
        assert encrypted is not None  # the current key is known
        return self.kind, encrypted

    def confirmed(self, message: bytes) -> None:
        """The peer has confirmed new key material."""
        if message == self.announcement:
            self.announcement = b""

    def _renew(self) -> None:
        """Announces the next key, or changes to it. Both have the same salt, like libsrt's."""
        other = ODD if self.kind == EVEN else EVEN
        if not self._following:
            self._following = os.urandom(len(self.key))
            keys = {self.kind: self.key, other: self._following}
            self.announcement = encode_key_material(self.passphrase, self.salt, keys)
            self._cipher.add({other: self._following})
        elif self._used > self.refresh:
            self.kind, self.key = other, self._following
            self._following, self._used = b"", 0


def keys_of_caller(passphrase: str, message: bytes) -> tuple[ReceiveKeys, SendKeys]:
    """Reads the key material of a handshake: both directions use it. It takes a millisecond.

    Raises WrongPassphrase, RemoteProtocolError.
    """
    salt, keys = decode_key_material(passphrase, message)
    kind = min(keys)
    return ReceiveKeys(passphrase, PayloadCipher(salt, keys)), SendKeys(passphrase, salt, kind, keys[kind])
