"""Stream keys: signed credentials `<expiry>-<hash>` to push to, or play, one channel until the expiry.

This module does no I/O; the caller passes the current time. All comparisons of secrets take constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_MAX_EXPIRY: Final = 2**63 - 1  # an expiry is a 64-bit number of seconds
# Only the canonical form that `sign` writes. "+1", "01", " 1" and digits of other scripts are rejected.
_KEY_PATTERN = re.compile(r"(0|[1-9][0-9]{0,18})-([0-9a-f]{32}|[0-9a-f]{64})", re.ASCII)
_MAX_LENGTH = 19 + 1 + 64


class SignatureUse(StrEnum):
    """The use of a signature. The hash covers it: a push key cannot play, a play signature cannot push."""

    PUSH = "push"
    PLAY = "play"
    REPORT = "report"  # shows the report of one show, see `report_name`


class Algorithm(StrEnum):
    """The hash algorithm of a signature. Both are always accepted; the length of the hash shows which one was used."""

    HMAC_SHA256 = "hmac-sha256"
    MD5 = "md5"  # of the old system


class Verdict(StrEnum):
    """The result of `verify`. EXPIRED and REVOKED: the signature itself is genuine."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    WRONG = "wrong"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class StreamKey:
    """A well-formed key. `SigningSecrets.verify` checks whether it is genuine.

    expires: seconds since 1970.
    """

    expires: int
    digest: str

    @classmethod
    def parse(cls, text: str) -> StreamKey | None:
        """Returns the parts of `<expiry>-<hash>`; None for any other text. Very long texts are rejected quickly."""
        if len(text) > _MAX_LENGTH or not (match := _KEY_PATTERN.fullmatch(text)):
            return None
        expires = int(match[1])
        return cls(expires, match[2]) if expires <= _MAX_EXPIRY else None

    @property
    def algorithm(self) -> Algorithm:
        return Algorithm.MD5 if len(self.digest) == 32 else Algorithm.HMAC_SHA256

    def __str__(self) -> str:
        return f"{self.expires}-{self.digest}"


def _digest(id: str, expires: int, secret: str, algorithm: Algorithm, use: SignatureUse) -> str:
    path = f"/{'stream' if use is SignatureUse.PUSH else use}/{id}-{expires}"
    if algorithm is Algorithm.MD5:
        return hashlib.md5(_bytes(f"{path}-{secret}"), usedforsecurity=False).hexdigest()
    return hmac.new(_bytes(secret), _bytes(path), hashlib.sha256).hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # an id may contain half a surrogate pair, which must not raise


def sign(
    id: str,
    expires: int,
    secret: str,
    algorithm: Algorithm = Algorithm.HMAC_SHA256,
    use: SignatureUse = SignatureUse.PUSH,
) -> str:
    """Returns the key `<expiry>-<hash>` of channel `id`.

    expires: seconds since 1970, 0 to 2^63-1. Raises ValueError if it is out of range or the secret is empty.
    """
    if not 0 <= expires <= _MAX_EXPIRY:
        raise ValueError("an expiry is a number of seconds from 0 to 2^63-1")
    if not secret:
        raise ValueError("an empty secret protects nothing")
    return f"{expires}-{_digest(id, expires, secret, algorithm, use)}"


def report_name(channel: str, key: str, show: str) -> str:
    """Returns the id that a signature of a report covers. It has the channel's key, so a new key revokes the link."""
    return f"{channel}/{show}/{key}"


@dataclass(slots=True)
class SigningSecrets:
    """The secrets for signatures, and the algorithm for new keys.

    current: signs and verifies.
    previous: only verifies; "" if it does not exist.

    Only the task that reads changed secrets calls `rotate`. All other code only reads.
    """

    current: str = field(repr=False)
    previous: str = field(default="", repr=False)
    algorithm: Algorithm = Algorithm.HMAC_SHA256
    rotations: int = 0  # counts secret changes; cached results from before the last one are invalid

    def rotate(self, current: str, previous: str) -> None:
        """Replaces both secrets."""
        if (current, previous) != (self.current, self.previous):
            self.current, self.previous = current, previous
            self.rotations += 1

    def sign(self, id: str, expires: int, use: SignatureUse = SignatureUse.PUSH) -> str:
        """Returns a key with the current secret and algorithm, see the function `sign`."""
        return sign(id, expires, self.current, self.algorithm, use)

    def verify(self, id: str, key: str | None, now: float, use: SignatureUse = SignatureUse.PUSH) -> Verdict:
        """Checks that `key` was signed with one of the secrets for this channel and use, and has not expired.

        now: seconds since 1970. A key is still valid in its last second, when `expires == int(now)`.
        """
        if not key:
            return Verdict.MISSING
        parsed = StreamKey.parse(key)
        if parsed is None:
            return Verdict.WRONG
        genuine = False
        for secret in (self.current, self.previous):
            if secret:
                expected = _digest(id, parsed.expires, secret, parsed.algorithm, use)
                genuine |= hmac.compare_digest(expected, parsed.digest)
        if not genuine:
            return Verdict.WRONG
        return Verdict.EXPIRED if parsed.expires < int(now) else Verdict.VALID

    def verify_push(self, id: str, stored: str | None, key: str | None, now: float) -> Verdict:
        """Checks that `key` allows a push to channel `id`: it must be genuine, and the stored key of the channel.

        stored: None if the channel does not exist. Then the result is WRONG, as for any wrong key. A genuine key
        that is not the stored one is REVOKED, because the channel has a newer key.
        """
        verdict = self.verify(id, key, now)
        if verdict is Verdict.VALID and not stored:
            return Verdict.WRONG
        if verdict is Verdict.VALID and not hmac.compare_digest(_bytes(stored or ""), _bytes(key or "")):
            return Verdict.REVOKED
        return verdict

    def verify_play(self, id: str, key: str | None, now: float) -> Verdict:
        """Checks that `key` is a play signature of channel `id`. For a rendition, pass the id of its channel."""
        return self.verify(id, key, now, SignatureUse.PLAY)
