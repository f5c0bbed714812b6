"""Encryption of SRT: the exchange of key material, and AES-CTR over the payloads (§6)."""

from __future__ import annotations

import hashlib
import importlib
import os
import struct
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from gateway.protocols.errors import RemoteProtocolError

if TYPE_CHECKING:  # 7 MB, imported for the first connection with a passphrase
    from cryptography.hazmat.primitives.ciphers import CipherContext
    from cryptography.hazmat.primitives.ciphers.algorithms import AES

EVEN: Final = 1
ODD: Final = 2
REFRESH_PACKETS: Final = 1 << 25  # packets with one key, §6.1.6
ANNOUNCE_PACKETS: Final = 4_000  # before the change; the old key stays for as many after it
KEY_SIZES: Final = (16, 24, 32)  # bytes: AES-128, AES-192, AES-256
PASSPHRASE: Final = (10, 79)  # bytes, at least and at most; libsrt accepts no others
_ITERATIONS: Final = 2048
_SALT: Final = 16
# Version and type, signature, flags, index, cipher, authentication, encapsulation, reserved, lengths. §3.2.2
_KEY_MATERIAL: Final = struct.Struct(">BHBIBBBBHBB")
_FIRST_BYTE: Final = 0x12
_SIGNATURE: Final = 0x2029
_CTR, _GCM = 2, 4
_MPEG_TS: Final = 2
_KEYWRAP: Final = "cryptography.hazmat.primitives.keywrap"
NO_SECRET: Final = (3).to_bytes(4, "big")  # §3.2.1.2: the answer of a side without a passphrase
BAD_SECRET: Final = (4).to_bytes(4, "big")


class WrongPassphrase(Exception):
    """The key material was made with another passphrase."""


class PayloadCipher:
    """Encrypts and decrypts payloads: the keys of one direction, even and odd.

    salt: 16 bytes. keys: by EVEN and ODD.
    """

    __slots__ = ("_begin", "_keys", "_number", "_prefix", "salt")

    def __init__(self, salt: bytes, keys: Mapping[int, bytes]) -> None:
        self.salt = salt
        # §6.1.2: the counter is the salt's first 112 bits XOR the packet number, then the number of the block.
        self._prefix = salt[:10]
        self._number = int.from_bytes(salt[10:14], "big")
        self._begin = _aes_ctr()
        self._keys: dict[int, AES] = {}
        self.add(keys)

    def add(self, keys: Mapping[int, bytes]) -> None:
        """Adds keys, which replace others of their kind."""
        from cryptography.hazmat.primitives.ciphers.algorithms import AES

        self._keys |= {kind: AES(key) for kind, key in keys.items()}

    def apply(self, key: int, sequence: int, payload: bytes) -> bytes | None:
        """Encrypts or decrypts a payload, which is the same. None: the key is unknown. Hot path.

        key: EVEN or ODD. sequence: the packet's number, 31 bits.
        """
        cipher = self._keys.get(key)
        if cipher is None:
            return None
        counter = self._prefix + (self._number ^ sequence).to_bytes(4, "big") + b"\0\0"
        return self._begin(cipher, counter).update(payload)


def ciphers_are_loaded() -> bool:
    return _KEYWRAP in sys.modules


def load_ciphers() -> None:
    """Loads what keys need. It takes tens of milliseconds, so a thread calls it before the first key."""
    _aes_ctr()
    importlib.import_module(_KEYWRAP)  # last: `ciphers_are_loaded` looks for it


def _aes_ctr() -> Callable[[AES, bytes], CipherContext]:
    """Returns a function that begins an encryption with a key and a counter."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.modes import CTR

    return lambda key, counter: Cipher(key, CTR(counter)).encryptor()


def make_keys(size: int) -> tuple[bytes, bytes]:
    """Returns a new salt and a key of `size` bytes."""
    return os.urandom(_SALT), os.urandom(size)


def encode_key_material(passphrase: str, salt: bytes, keys: dict[int, bytes]) -> bytes:
    """Returns a key material message. keys: the even key, the odd key, or both; of equal length."""
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap

    which = sum(keys)
    size = len(next(iter(keys.values())))
    head = _KEY_MATERIAL.pack(_FIRST_BYTE, _SIGNATURE, which, 0, _CTR, 0, _MPEG_TS, 0, 0, _SALT // 4, size // 4)
    wrapped = aes_key_wrap(_key_encrypting_key(passphrase, salt, size), b"".join(keys[kind] for kind in sorted(keys)))
    return head + salt + wrapped


def decode_key_material(passphrase: str, message: bytes) -> tuple[bytes, dict[int, bytes]]:
    """Returns the salt, and the keys in a message. Raises WrongPassphrase, RemoteProtocolError.

    It takes about one millisecond. So call it only for clients that have shown another key, or seldom.
    """
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

    if len(message) < _KEY_MATERIAL.size + _SALT:
        raise RemoteProtocolError("SRT: key material that is cut short")
    first, signature, which, _, cipher, authentication, _, _, _, salt_words, key_words = _KEY_MATERIAL.unpack_from(
        message
    )
    if cipher == _GCM:
        raise RemoteProtocolError("The encoder encrypts SRT with AES-GCM: set AES-CTR.")
    size, kinds = 4 * key_words, [kind for kind in (EVEN, ODD) if which & kind]
    if first != _FIRST_BYTE or signature != _SIGNATURE or cipher != _CTR or authentication or 4 * salt_words != _SALT:
        raise RemoteProtocolError("SRT: key material of an unknown kind")
    at = _KEY_MATERIAL.size
    salt, wrapped = message[at : at + _SALT], message[at + _SALT :]
    if size not in KEY_SIZES or not kinds or len(wrapped) != 8 + size * len(kinds):
        raise RemoteProtocolError("SRT: key material with wrong lengths")
    try:
        data = aes_key_unwrap(_key_encrypting_key(passphrase, salt, size), wrapped)
    except InvalidUnwrap:
        raise WrongPassphrase from None
    return salt, {kind: data[n * size : (n + 1) * size] for n, kind in enumerate(kinds)}


def _key_encrypting_key(passphrase: str, salt: bytes, size: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha1", passphrase.encode(), salt[-8:], _ITERATIONS, size)
