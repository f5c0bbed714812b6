"""Sign-ins that wait for their return from the provider. A cookie binds each to a browser, for one return."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from gateway.channels.stream_key import SigningSecrets

LIFETIME_SECONDS: Final = 600  # for the user to finish at the provider's pages
_MAX_USED: Final = 10_000
_COOKIE: Final = re.compile(
    r"([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})\.([0-9]{1,12})\.([0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class SignIn:
    """One sign-in; state, nonce and verifier have 256 random bits each.

    verifier: PKCE, RFC 7636. ends: seconds since the epoch.
    """

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    ends: int

    @property
    def values(self) -> str:
        return f"{self.state}.{self.nonce}.{self.verifier}.{self.ends}"


class PendingSignIns:
    """Makes and accepts cookies signed by this gateway, so that nobody can make one up.

    Nothing is stored when a sign-in starts: anybody may start many, and the return may reach another node. Used ones
    are remembered until they end, the last 10,000 of them, so that none works twice.
    """

    def __init__(self, signing: SigningSecrets) -> None:
        """Derives the cookies' keys from `signing`, so that nodes with the same secret accept each other's cookies."""
        self._signing = signing
        self._used: OrderedDict[str, int] = OrderedDict()  # end of a used sign-in, by its cookie's signature

    def begin(self, now: float) -> tuple[SignIn, str]:
        """Returns a new sign-in, and the cookie for its browser."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        one = SignIn(state, nonce, verifier, int(now) + LIFETIME_SECONDS)
        return one, f"{one.values}.{_signature(one.values, self._signing.current)}"

    def take(self, cookie: str, state: str, now: float) -> SignIn | None:
        """Returns the sign-in of a browser that returns with this `state`, once; None for anything else."""
        form = _COOKIE.fullmatch(cookie)
        if form is None or not state:
            return None
        one, given = SignIn(form[1], form[2], form[3], int(form[4])), form[5]
        keys = (self._signing.current, self._signing.previous)
        genuine = [hmac.compare_digest(_signature(one.values, key), given) for key in keys if key]
        if not any(genuine) or not hmac.compare_digest(one.state.encode(), state.encode("utf-8", "surrogatepass")):
            return None
        if one.ends < now or given in self._used:
            return None
        self._used[given] = one.ends
        while self._used and (len(self._used) > _MAX_USED or next(iter(self._used.values())) < now):
            self._used.popitem(last=False)
        return one


def _signature(values: str, secret: str) -> str:
    """Returns the signature. Its prefix differs from those of stream keys and upload addresses."""
    return hmac.new(
        secret.encode("utf-8", "surrogatepass"), f"oidc sign-in {values}".encode(), hashlib.sha256
    ).hexdigest()
