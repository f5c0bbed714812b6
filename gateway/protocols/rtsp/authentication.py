"""The Authorization header of a client's RTSP requests: Basic and Digest (RFC 2617, RFC 7616)."""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

_PARAMETER: Final = re.compile(r'([a-zA-Z0-9-]{1,32})\s*=\s*("(?:[^"\\]|\\.){0,1024}"|[^\s,"]{0,1024})')
_HASHES: Final = {"": "md5", "md5": "md5", "sha-256": "sha256"}


@dataclass(slots=True)
class Credentials:
    """A user name and a password, and the last challenge of the server.

    allows_basic: whether the password may be sent in clear.
    """

    user: str
    password: str
    allows_basic: bool = True
    # Parameters of Digest; {}: Basic; None: no challenge yet.
    _challenge: dict[str, str] | None = field(default=None, init=False)
    _count: int = field(default=0, init=False)  # answers to this challenge (nc)

    def take_challenge(self, header: str) -> bool:
        """Takes the value of WWW-Authenticate. Returns whether an answer is possible; Digest is preferred."""
        basic = False
        for line in header.split("\n"):
            scheme, _, rest = line.strip().partition(" ")
            if scheme.lower() == "basic":
                basic = self.allows_basic
            elif scheme.lower() == "digest":
                values = digest_parameters(rest)
                if values.get("algorithm", "").lower() in _HASHES and "nonce" in values:
                    self._challenge, self._count = values, 0
                    return True
        if basic:
            self._challenge = {}
        return basic

    def make_header(self, method: str, url: str, random: str) -> str | None:
        """Returns the value of Authorization; None before a challenge. random: a new random text."""
        challenge = self._challenge
        if challenge is None:
            return None
        if not challenge:
            return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        realm, nonce = challenge.get("realm", ""), challenge["nonce"]
        name = _HASHES[challenge.get("algorithm", "").lower()]

        def digest(text: str) -> str:
            return hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()

        first, second = digest(f"{self.user}:{realm}:{self.password}"), digest(f"{method}:{url}")
        values = {"username": self.user, "realm": realm, "nonce": nonce, "uri": url}
        plain = ""  # parameters without quotes
        if "auth" in challenge.get("qop", "").replace(",", " ").split():
            self._count += 1
            count = f"{self._count:08x}"
            values["response"] = digest(f"{first}:{nonce}:{count}:{random}:auth:{second}")
            values["cnonce"] = random
            plain = f", qop=auth, nc={count}"
        else:
            values["response"] = digest(f"{first}:{nonce}:{second}")
        if "opaque" in challenge:
            values["opaque"] = challenge["opaque"]
        if challenge.get("algorithm"):
            plain += f", algorithm={challenge['algorithm']}"
        quoted = ", ".join(f'{key}="{_escaped(value)}"' for key, value in values.items())
        return f"Digest {quoted}{plain}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def digest_parameters(text: str) -> dict[str, str]:
    """Returns the parameters of a challenge of Digest, or of its answer, by name in lower case."""
    return {found[1].lower(): found[2].strip('"') for found in _PARAMETER.finditer(text[:8_192])}
