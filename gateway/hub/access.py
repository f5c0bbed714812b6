"""StreamKey: the signed credential `<expiry>-<hash>` with which somebody pushes to, or plays, one channel until a time.

Pure: the caller passes the time. Everything that is compared is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_FAR: Final = 2**63 - 1  # an expiry is a 64-bit number of seconds
# The canonical form only, which `sign` makes: "+1", "01", " 1", other scripts' digits would be second spellings.
_FORM = re.compile(r"(0|[1-9][0-9]{0,18})-([0-9a-f]{32}|[0-9a-f]{64})", re.ASCII)
_LONGEST = 19 + 1 + 64


class Use(StrEnum):
    """What a sign is for; its path is hashed, so that neither serves as the other."""

    PUSH = "push"
    PLAY = "play"


class Algorithm(StrEnum):
    """How a sign is made; both are always accepted, told apart by the length of the hash."""

    HMAC_SHA256 = "hmac-sha256"
    MD5 = "md5"  # the original system's


class Verdict(StrEnum):
    """What `verify` finds. Peers are told only whether it is VALID."""

    VALID = "valid"
    EXPIRED = "expired"
    WRONG = "wrong"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class StreamKey:
    """A well-formed key; whether it is genuine, only `Secrets.verify` knows. expires: seconds since the epoch."""

    expires: int
    digest: str

    @classmethod
    def parse(cls, text: str) -> StreamKey | None:
        """The parts of `<expiry>-<hash>`, or None where the text has another form (bounded whatever its length)."""
        if len(text) > _LONGEST or not (form := _FORM.fullmatch(text)):
            return None
        expires = int(form[1])
        return cls(expires, form[2]) if expires <= _FAR else None

    @property
    def algorithm(self) -> Algorithm:
        return Algorithm.MD5 if len(self.digest) == 32 else Algorithm.HMAC_SHA256

    def __str__(self) -> str:
        return f"{self.expires}-{self.digest}"


def _digest(id: str, expires: int, secret: str, algorithm: Algorithm, use: Use) -> str:
    path = f"/{'stream' if use is Use.PUSH else 'play'}/{id}-{expires}"
    if algorithm is Algorithm.MD5:
        return hashlib.md5(_bytes(f"{path}-{secret}"), usedforsecurity=False).hexdigest()
    return hmac.new(_bytes(secret), _bytes(path), hashlib.sha256).hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a hostile id may hold half a surrogate pair: that must not raise


def sign(id: str, expires: int, secret: str, algorithm: Algorithm = Algorithm.HMAC_SHA256, use: Use = Use.PUSH) -> str:
    """The key of channel `id` until `expires` (seconds since the epoch, 0 to 2^63-1), as `<expiry>-<hash>`.

    ValueError for an expiry out of range or an empty secret.
    """
    if not 0 <= expires <= _FAR:
        raise ValueError("an expiry is a number of seconds from 0 to 2^63-1")
    if not secret:
        raise ValueError("an empty secret protects nothing")
    return f"{expires}-{_digest(id, expires, secret, algorithm, use)}"


@dataclass(slots=True)
class Secrets:
    """The secret that signs, the one before it that is still accepted ("": none), and how new keys are made.

    Whoever reads the secret again when it was replaced may `rotate`; everybody else only reads.
    """

    current: str = field(repr=False)
    previous: str = field(default="", repr=False)
    algorithm: Algorithm = Algorithm.HMAC_SHA256

    def rotate(self, current: str, previous: str) -> None:
        """Keys are signed and accepted with these from now on."""
        self.current, self.previous = current, previous

    def sign(self, id: str, expires: int, use: Use = Use.PUSH) -> str:
        """As the module's `sign`, with the current secret and algorithm."""
        return sign(id, expires, self.current, self.algorithm, use)

    def verify(self, id: str, key: str | None, now: float, use: Use = Use.PUSH) -> Verdict:
        """Whether `key` was made with one of the secrets for this channel and use, and holds at `now` (epoch seconds).

        The last second counts: `exp == now` passes, in whole seconds.
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
        """Whether `key` opens channel `id` for a push: it has to be the channel's stored key, and genuine.

        stored: None where the channel does not exist; that verdict is WRONG, as for any other wrong key.
        A key that verifies but is no longer the stored one was revoked: WRONG too.
        """
        verdict = self.verify(id, key, now)
        same = hmac.compare_digest(_bytes(stored or ""), _bytes(key or ""))
        if verdict in (Verdict.VALID, Verdict.EXPIRED) and not (stored and same):
            return Verdict.WRONG
        return verdict

    def verify_play(self, id: str, key: str | None, now: float) -> Verdict:
        """Whether `key` is a play sign of channel `id`; a rendition's rights are its parent's: pass the parent's id."""
        return self.verify(id, key, now, Use.PLAY)
