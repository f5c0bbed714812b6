"""Hashes and verifies passwords, so that a stolen store does not reveal them."""

import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

MIN_LENGTH: Final = 8  # characters; NIST SP 800-63B §3.1.1.2
MAX_LENGTH: Final = 256
# 32 MB and about a third of a second: OWASP's recommendation for scrypt of N=2^15.
_N, _R, _P = 1 << 15, 8, 3
_MEMORY: Final = 64 << 20


def problem(password: str) -> str:
    """Returns the problem of a new password as "expected …"; "" if it can be used."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH or not password.isprintable():
        return f"expected {MIN_LENGTH} to {MAX_LENGTH} printable characters"
    return ""


def hash_password(password: str) -> dict[str, Any]:
    """Returns the stored form of a password. Needs a third of a second of CPU: do not call it on an event loop."""
    salt = secrets.token_bytes(16)
    form = {"kind": "scrypt", "n": _N, "r": _R, "p": _P}
    return {**form, "salt": salt.hex(), "hash": _hash(password, salt, _N, _R, _P).hex()}


def verify_password(password: str, stored: Mapping[str, Any] | None) -> bool:
    """Whether `stored` is the stored form of this password. It is as slow as `hash_password`.

    stored: None for an unknown user. Then the result is False after the same time.
    """
    if stored is None or len(password) > MAX_LENGTH:
        hmac.compare_digest(_hash(password[:MAX_LENGTH], bytes(16), _N, _R, _P), bytes(32))
        return False
    found = _hash(password, bytes.fromhex(stored["salt"]), int(stored["n"]), int(stored["r"]), int(stored["p"]))
    return hmac.compare_digest(found, bytes.fromhex(stored["hash"]))


def _hash(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    # NFC: different keyboards encode the same letter differently.
    text = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=n, r=r, p=p, maxmem=_MEMORY, dklen=32)
