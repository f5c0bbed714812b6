"""One-time codes of an authenticator app: RFC 6238 with SHA-1, six digits and 30 s, which all apps support."""

import base64
import hashlib
import hmac
import secrets
import struct
from typing import Final
from urllib.parse import quote, urlencode

STEP: Final = 30  # seconds
DRIFT: Final = 1  # steps by which the clock of a phone may differ


def new_secret() -> str:
    """Returns a new secret of 160 bits in base32, RFC 4226 §4."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def code_at(secret: str, step: int) -> str:
    """Returns the code of a step, RFC 4226 §5.3. step: seconds since 1970 divided by STEP."""
    digest = hmac.new(base64.b32decode(secret), struct.pack(">q", step), hashlib.sha1).digest()
    offset = digest[-1] & 0xF
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 1_000_000:06d}"


def matching_step(secret: str, code: str, now: float) -> int | None:
    """Returns the step whose code this is; None if it is none of now. now: seconds since 1970."""
    current = int(now) // STEP
    steps = [step for step in range(current - DRIFT, current + DRIFT + 1) if _equal(code_at(secret, step), code)]
    return steps[0] if steps else None


def key_uri(secret: str, name: str, issuer: str) -> str:
    """Returns the address that an app reads from a QR code."""
    return f"otpauth://totp/{quote(f'{issuer}:{name}')}?{urlencode({'secret': secret, 'issuer': issuer})}"


def _equal(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))
