"""Passwords: how they are stored and compared, so that a stolen store tells none of them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

LEAST: Final = 8  # characters; NIST SP 800-63B §3.1.1.2
MOST: Final = 256
# 32 MB and about a third of a second: OWASP's recommendation for scrypt of N=2^15.
_N, _R, _P = 1 << 15, 8, 3
_MEMORY: Final = 64 << 20


def problem(password: str) -> str:
    """What is wrong with a new password, as the end of "expected …"; nothing where it can be used."""
    if not LEAST <= len(password) <= MOST or not password.isprintable():
        return f"expected {LEAST} to {MOST} printable characters"
    return ""


def stored(password: str) -> dict[str, Any]:
    """What is kept of a password. Takes a third of a second of a core: not on an event loop."""
    salt = secrets.token_bytes(16)
    return {
        "kind": "scrypt",
        "n": _N,
        "r": _R,
        "p": _P,
        "salt": salt.hex(),
        "hash": _hash(password, salt, _N, _R, _P).hex(),
    }


def matches(password: str, kept: Mapping[str, Any] | None) -> bool:
    """Whether it is the password that `stored` made this of; None: nobody's, which takes as long. As slow as that."""
    if kept is None or len(password) > MOST:
        hmac.compare_digest(_hash(password[:MOST], bytes(16), _N, _R, _P), bytes(32))
        return False
    found = _hash(password, bytes.fromhex(kept["salt"]), int(kept["n"]), int(kept["r"]), int(kept["p"]))
    return hmac.compare_digest(found, bytes.fromhex(kept["hash"]))


def _hash(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    # NFC: keyboards of different systems spell the same letter differently.
    text = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=n, r=r, p=p, maxmem=_MEMORY, dklen=32)
