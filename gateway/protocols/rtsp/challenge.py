"""The server's side of authentication: a password from Basic, or a check of Digest (RFC 2617, RFC 7616) with MD5."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway.protocols.rtsp.authentication import digest_parameters

REALM: Final = "Millrace"
NONCE_SECONDS: Final = 60.0  # a client answers a challenge at once
_MAX_HEADER: Final = 4_096  # characters
_MAX_COUNT: Final = 0xFFFFFFFF
_COUNT: Final = re.compile("[0-9a-fA-F]{8}")


def basic_password(header: str) -> str | None:
    """Returns the password of an Authorization header of the scheme Basic; None for any other header."""
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() != "basic" or len(rest) > _MAX_HEADER:
        return None
    try:
        text = base64.b64decode(rest.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return text.partition(":")[2]


@dataclass(slots=True)
class DigestCheck:
    """The challenges of one connection. A nonce is of this connection, expires, and serves each count (nc) once.

    A client that counts nothing (without `qop`) may use a nonce once. So an answer that somebody has read on the way
    cannot be used again, neither here nor on another connection.
    """

    _nonce: str = field(default="", init=False)
    _issued: float = field(default=0.0, init=False)
    _count: int = field(default=0, init=False)  # the last one that was used

    def challenge(self, random: str, now: float) -> str:
        """Returns the value of WWW-Authenticate with a new nonce. random: a new random text. now: monotonic seconds."""
        stale = ", stale=TRUE" if self._nonce and (self._count or now - self._issued > NONCE_SECONDS) else ""
        self._nonce, self._issued, self._count = random, now, 0
        return f'Digest realm="{REALM}", nonce="{random}", algorithm=MD5, qop="auth"{stale}'

    def find(self, header: str, method: str, passwords: Iterable[str], now: float) -> str | None:
        """Returns the password that an Authorization header of the scheme Digest proves; None: it proves none of them.

        method: of the request. passwords: those that are allowed. The user may have any name.
        """
        scheme, _, rest = header.strip().partition(" ")
        if scheme.lower() != "digest" or not self._nonce or len(rest) > _MAX_HEADER:
            return None
        values = digest_parameters(rest)
        nonce, uri, user = self._nonce, values.get("uri", ""), values.get("username", "")
        if values.get("nonce") != nonce or values.get("realm") != REALM or now - self._issued > NONCE_SECONDS:
            return None
        count, middle = _MAX_COUNT, ""
        if values.get("qop"):
            written = values.get("nc", "")
            count = int(written, 16) if _COUNT.fullmatch(written) else 0
            middle = f"{written}:{values.get('cnonce', '')}:auth:"
        if count <= self._count:
            return None
        proof = values.get("response", "").encode()
        second = _md5(f"{method}:{uri}")
        for password in passwords:
            expected = _md5(f"{_md5(f'{user}:{REALM}:{password}')}:{nonce}:{middle}{second}")
            if hmac.compare_digest(expected.encode(), proof):
                self._count = count
                return password
        return None


def _md5(text: str) -> str:
    return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
