"""Key material of SRT peers, of a handshake and later: taken, or refused without a trace."""

from __future__ import annotations

from contextlib import suppress

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.srt.crypto import EVEN, KEY_SIZES, ODD, WrongPassphrase, decode_key_material, encode_key_material
from gateway.protocols.srt.keys import keys_of_caller

_PASSPHRASE = "a passphrase"
_SALT = bytes(range(16))
SEEDS = [
    encode_key_material(_PASSPHRASE, _SALT, keys)
    for size in KEY_SIZES
    for keys in ({EVEN: bytes(size)}, {ODD: b"o" * size}, {EVEN: b"e" * size, ODD: b"o" * size})
]
_GOOD = SEEDS[0]


def fuzz(data: bytes) -> None:
    """Oracle: only the documented errors; a refused renewal changes no key; renewals are rare."""
    with suppress(WrongPassphrase, RemoteProtocolError):
        salt, keys = decode_key_material(_PASSPHRASE, data)
        assert len(salt) == 16
        assert keys.keys() <= {EVEN, ODD}
        assert {len(key) for key in keys.values()} <= set(KEY_SIZES)
    keys_of_peer, _ = keys_of_caller(_PASSPHRASE, _GOOD)
    before = keys_of_peer.cipher.apply(EVEN, 1, b"payload")
    if not keys_of_peer.renew(data, 1.0):
        assert keys_of_peer.cipher.apply(EVEN, 1, b"payload") == before
    assert not keys_of_peer.renew(_GOOD, 1.5)
    assert keys_of_peer.renew(_GOOD, 2.5)
    assert keys_of_peer.cipher.apply(EVEN, 1, b"payload") == before
