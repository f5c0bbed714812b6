"""Tokens that an OpenID Connect provider signed: which are believed, and whom they let in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.api.logins import Person

if TYPE_CHECKING:
    from jwt import PyJWK

ALGORITHMS: Final = ("RS256", "ES256")  # signed by a key that the provider alone has; no shared secrets
LONGEST: Final = 8_192
_LEEWAY: Final = 30.0  # seconds that clocks may differ
_MOST_KEYS: Final = 64
_NAMES: Final = ("preferred_username", "cognito:username", "email", "username", "name", "sub")


class TokenRefused(Exception):
    """The token is not believed, or does not let anybody in; one line, which tells nothing of the token."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What tokens have to say. audience: of access tokens, where it is not client_id. claim, allow: who may in."""

    issuer: str
    client_id: str
    audience: str
    claim: str
    allow: Sequence[str]

    def person(self, claims: Mapping[str, Any]) -> Person:
        """Whom the claims of a believed token are about. Raises TokenRefused for somebody who may not in."""
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= 255:
            raise TokenRefused("the token names nobody")
        if not self._admits(claims):
            raise TokenRefused(f"nothing in {self.claim} is allowed in (oidc.allow)")
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
        # Whoever may write any address into a profile would otherwise be anybody.
        verified = claims.get("email_verified") in (True, "true")
        return verified and bool({v.casefold() for v in values} & {a.casefold() for a in self.allow})

    def is_for_us(self, claims: Mapping[str, Any]) -> bool:
        """By its audience; Cognito's access tokens have none, and name the client."""
        said = claims.get("aud")
        if said is None:
            return claims.get("client_id") == self.client_id
        ours = {self.client_id, self.audience} - {""}
        return any(isinstance(one, str) and one in ours for one in (said if isinstance(said, list) else [said]))

    def is_sign_in(self, claims: Mapping[str, Any], nonce: str) -> bool:
        """Whether it is the ID token of the sign-in that `nonce` began. OpenID Connect Core 1.0 §3.1.3.7."""
        audience = claims.get("aud")
        alone = audience in (self.client_id, [self.client_id])
        shared = isinstance(audience, list) and self.client_id in audience and claims.get("azp") == self.client_id
        return claims.get("nonce") == nonce and (alone or shared)


def key_id(token: str) -> str:
    """Which key a token says it was signed with. Raises TokenRefused for what is no such token."""
    import jwt

    if len(token) > LONGEST:
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
    """The signing keys of a JSON Web Key Set by their id; those that we would not believe are left out."""
    import jwt

    found: dict[str, PyJWK] = {}
    entries = document.get("keys")
    for entry in entries[:_MOST_KEYS] if isinstance(entries, list) else ():
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


def verified(token: str, key: PyJWK, rules: Rules) -> dict[str, Any]:
    """The claims of a token that this key signed, that is for us and still good. Raises TokenRefused."""
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
        raise TokenRefused(f"the token is not good: {type(error).__name__}") from None
    if not rules.is_for_us(claims):
        raise TokenRefused("the token is for somebody else")
    if "events" in claims:
        raise TokenRefused("this token tells of something, it lets nobody in")
    return dict(claims)
