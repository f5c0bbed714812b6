"""Checks tokens signed by an OpenID Connect provider, and decides who may sign in with them."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.api.login_sessions import Person

if TYPE_CHECKING:
    from jwt import PyJWK

ALGORITHMS: Final = ("RS256", "ES256")  # asymmetric only: no shared secrets
MAX_LENGTH: Final = 8_192
_LEEWAY: Final = 30.0  # seconds by which clocks may differ
_MAX_KEYS: Final = 64
_NAMES: Final = ("preferred_username", "cognito:username", "email", "username", "name", "sub")


class TokenRefused(Exception):
    """The token is invalid, or its owner may not sign in. The message is one line and reveals nothing of the token."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """The rules for tokens.

    audience: of access tokens, where it is not client_id. claim, allow: the claim to check, and its accepted values.
    """

    issuer: str
    client_id: str
    audience: str
    claim: str
    allow: Sequence[str]

    def person(self, claims: Mapping[str, Any]) -> Person:
        """Returns the person of a verified token. Raises TokenRefused for somebody who may not sign in."""
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= 255:
            raise TokenRefused("the token has no usable subject")
        if not self._admits(claims):
            raise TokenRefused(f"no value of {self.claim} is allowed (oidc.allow)")
        names = (claims.get(name) for name in _NAMES)
        name = next(n for n in names if isinstance(n, str) and n)
        return Person("oidc", "".join(c for c in name if c.isprintable())[:64] or "?", subject)

    def _admits(self, claims: Mapping[str, Any]) -> bool:
        if "*" in self.allow:
            return True
        said = claims.get(self.claim)
        values = {v for v in (said if isinstance(said, list) else [said]) if isinstance(v, str)}
        if self.claim != "email":
            return bool(values & set(self.allow))
        # An unverified address would let a user pretend to be anybody. OpenID Connect Core 1.0 §5.1 defines a JSON
        # boolean. Apple documents "either a String ("true") or a Boolean (true)", and sends both. No other value is
        # accepted.
        said_verified = claims.get("email_verified")
        verified = said_verified is True or said_verified == "true"
        return verified and bool({v.casefold() for v in values} & {a.casefold() for a in self.allow})

    def is_for_us(self, claims: Mapping[str, Any]) -> bool:
        """Whether the token's audience is this gateway.

        Cognito's access tokens have none and name the client instead.
        """
        said = claims.get("aud")
        if said is None:
            return claims.get("client_id") == self.client_id
        ours = {self.client_id, self.audience} - {""}
        return any(isinstance(one, str) and one in ours for one in (said if isinstance(said, list) else [said]))

    def is_sign_in(self, claims: Mapping[str, Any], nonce: str) -> bool:
        """Whether it is the ID token of the sign-in with this `nonce`. OpenID Connect Core 1.0 §3.1.3.7."""
        audience = claims.get("aud")
        alone = audience in (self.client_id, [self.client_id])
        shared = isinstance(audience, list) and self.client_id in audience and claims.get("azp") == self.client_id
        said = claims.get("nonce")
        same = isinstance(said, str) and bool(nonce) and hmac.compare_digest(_bytes(said), _bytes(nonce))
        return same and (alone or shared)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def key_id(token: str) -> str:
    """Returns the id of the key that a token names. Raises TokenRefused where it is not such a token."""
    import jwt

    if len(token) > MAX_LENGTH:
        raise TokenRefused("the token is too long")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise TokenRefused("this is no token of the provider") from None
    kid = header.get("kid")
    if header.get("alg") not in ALGORITHMS or not isinstance(kid, str):
        raise TokenRefused("the token is not signed by a key of the provider")
    return kid


def keys_of(document: Mapping[str, Any]) -> dict[str, PyJWK]:
    """Returns the signing keys of a JSON Web Key Set by their id. Unsupported and weak keys are left out."""
    import jwt

    found: dict[str, PyJWK] = {}
    entries = document.get("keys")
    for entry in entries[:_MAX_KEYS] if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or not isinstance(kid := entry.get("kid"), str):
            continue
        algorithm = {"RSA": "RS256", "EC": "ES256"}.get(str(entry.get("kty")))
        if algorithm is None or entry.get("use", "sig") != "sig" or entry.get("alg", algorithm) != algorithm:
            continue
        if algorithm == "ES256" and entry.get("crv") != "P-256":  # RFC 7518 §3.4; the library takes any curve
            continue
        try:
            key = jwt.PyJWK(entry, algorithm)
        except (jwt.PyJWTError, ValueError, TypeError):  # malformed
            continue
        if algorithm == "ES256" or key.key.key_size >= 2048:
            found[kid] = key
    return found


def verified(token: str, key: PyJWK, rules: TokenRules) -> dict[str, Any]:
    """Returns the claims of a token, after checking its signature, issuer, times and audience. Raises TokenRefused."""
    import jwt

    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[str(key.algorithm_name)],
            issuer=rules.issuer,
            leeway=_LEEWAY,
            options={"require": ["exp", "iss", "sub"], "verify_aud": False},
        )
    except jwt.PyJWTError as error:
        raise TokenRefused(f"the token is not valid: {type(error).__name__}") from None
    if not rules.is_for_us(claims):
        raise TokenRefused("the token is for another client")
    if "events" in claims:
        raise TokenRefused("this is an event token, which cannot be used to sign in")
    return dict(claims)
