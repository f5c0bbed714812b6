"""Verifies tokens of an OpenID Connect provider, and checks whether their users may sign in."""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.api.login_sessions import ApiUser
from gateway.ports.users import ADMINISTRATOR, MAX_CHANNELS, Rights, UserRole
from gateway.settings.models import OidcSettings

if TYPE_CHECKING:
    from jwt import PyJWK

_RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {  # RFC 7518 §3.4, RFC 8037 §3.1. Logto signs with ES384, Rauthy with EdDSA.
    ("EC", "P-256"): "ES256",
    ("EC", "P-384"): "ES384",
    ("EC", "P-521"): "ES512",
    ("OKP", "Ed25519"): "EdDSA",
}
ALGORITHMS: Final = (*_RSA_ALGORITHMS, *_CURVES.values())  # asymmetric only: no shared secrets
_SHARED_SECRET: Final = ("HS256", "HS384", "HS512")
MAX_LENGTH: Final = 65_536  # Entra ID puts up to 200 groups into a token of 11,000 characters
_LEEWAY: Final = 30.0  # seconds by which clocks may differ
_MAX_KEYS: Final = 64
_NAME_CLAIMS: Final = ("preferred_username", "cognito:username", "email", "username", "name", "sub")


class TokenRefused(Exception):
    """The token is invalid, or its user may not sign in. The message is one line without any part of the token."""


class WrongSignature(TokenRefused):
    """The token has no signature of the given key."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """The rules for tokens.

    Without the claim `oidc.channels_claim`, a broadcaster has an own channel if users may sign up.
    """

    oidc: OidcSettings

    def own_channel(self, subject: str) -> str:
        """Returns the id of the channel of a user who signed up, whether or not it exists."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.oidc.issuer}#{subject}"))

    def user(self, claims: Mapping[str, Any]) -> ApiUser:
        """Returns the user of a verified token. Raises TokenRefused if the user may not sign in."""
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= 255:
            raise TokenRefused("the token has no usable subject")
        rights = ADMINISTRATOR
        if not self._matches(claims, self.oidc.allow):
            channels = _listed(claims.get(self.oidc.channels_claim))
            if self._matches(claims, self.oidc.broadcasters):
                if self.oidc.sign_up and not channels:
                    channels = (self.own_channel(subject),)
                rights = Rights(UserRole.BROADCASTER, channels)
            elif self._matches(claims, self.oidc.observers):
                if (
                    not channels and claims.get(self.oidc.channels_claim) is not None
                ):  # an empty list is not all of them
                    raise TokenRefused(f"the claim {self.oidc.channels_claim} lists no channel for the observer")
                rights = Rights(UserRole.OBSERVER, channels)
            else:
                if self.oidc.claim == "email" and claims.get("email") and not _is_email_verified(claims):
                    raise TokenRefused("the provider does not confirm the user's e-mail address (email_verified)")
                options = "oidc.allow, oidc.broadcasters, oidc.observers"
                raise TokenRefused(f"no value of {self.oidc.claim} is allowed ({options})")
        names = (claims.get(name) for name in _NAME_CLAIMS)
        name = next(n for n in names if isinstance(n, str) and n)
        return ApiUser("oidc", "".join(c for c in name if c.isprintable())[:64] or "?", subject, rights)

    def lacks_claims(self, claims: Mapping[str, Any]) -> bool:
        """Whether an ID token lacks a claim that decides. Authelia and Zitadel have them only in their UserInfo."""
        wanted = {self.oidc.claim, *(("email_verified",) if self.oidc.claim == "email" else ())}
        if self.oidc.broadcasters or self.oidc.observers:
            wanted.add(self.oidc.channels_claim)
        return not wanted <= claims.keys()

    def _matches(self, claims: Mapping[str, Any], accepted: Sequence[str]) -> bool:
        """Whether the claim has one of the accepted values."""
        if "*" in accepted:
            return True
        value = claims.get(self.oidc.claim)
        values = {v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str)}
        if self.oidc.claim != "email":
            return bool(values & set(accepted))
        # With an unverified address a user could pretend to be somebody else.
        return _is_email_verified(claims) and bool({v.casefold() for v in values} & {a.casefold() for a in accepted})

    def has_our_audience(self, claims: Mapping[str, Any]) -> bool:
        """Whether the token's audience is this gateway.

        Access tokens of Cognito have no audience. They have `client_id` instead.
        """
        value = claims.get("aud")
        if value is None:
            return claims.get("client_id") == self.oidc.client_id
        accepted = {self.oidc.client_id, self.oidc.audience} - {""}
        return any(isinstance(v, str) and v in accepted for v in (value if isinstance(value, list) else [value]))

    def is_sign_in(self, claims: Mapping[str, Any], nonce: str) -> bool:
        """Whether these are claims of the ID token for the sign-in with `nonce`. OpenID Connect Core 1.0 §3.1.3.7."""
        audience = claims.get("aud")
        single_audience = audience in (self.oidc.client_id, [self.oidc.client_id])
        authorized_party = (
            isinstance(audience, list) and self.oidc.client_id in audience and claims.get("azp") == self.oidc.client_id
        )
        value = claims.get("nonce")
        same_nonce = isinstance(value, str) and bool(nonce) and hmac.compare_digest(_bytes(value), _bytes(nonce))
        return same_nonce and (single_audience or authorized_party)


def _is_email_verified(claims: Mapping[str, Any]) -> bool:
    # OpenID Connect Core 1.0 §5.1 defines a JSON boolean. Apple documents "either a String ("true") or a Boolean
    # (true)", and sends both. No other value is accepted.
    return claims.get("email_verified") is True or claims.get("email_verified") == "true"


def _listed(claim: Any) -> tuple[str, ...]:
    """Returns the first 100 values of a claim: a list, or a text with spaces or commas between the values."""
    values = claim.replace(",", " ").split() if isinstance(claim, str) else claim
    return tuple(v for v in values if isinstance(v, str))[:MAX_CHANNELS] if isinstance(values, list) else ()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def key_id(token: str) -> str:
    """Returns the key id in the header of a token, "" for none. Raises TokenRefused if it is malformed or unsigned."""
    import jwt

    if len(token) > MAX_LENGTH:
        raise TokenRefused("the token is too long")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise TokenRefused("the token is not from the provider") from None
    kid, algorithm = header.get("kid", ""), header.get("alg")
    if algorithm in _SHARED_SECRET:  # Authentik and Auth0 do this for a client without a signing key
        raise TokenRefused(
            f"the token is signed with {algorithm}: choose a signing key for this client at the provider"
        )
    if algorithm not in ALGORITHMS or not isinstance(kid, str):
        raise TokenRefused("the token is not signed by a key of the provider")
    return kid


def parse_jwks(document: Mapping[str, Any]) -> dict[str, PyJWK]:
    """Returns the signing keys of a JSON Web Key Set by their id, without unsupported and weak keys.

    The only key has the id "" too: OpenID Connect Core 1.0 §10.1 asks for an id only where there are several.
    """
    import jwt

    found: list[tuple[str, PyJWK]] = []
    entries = document.get("keys")
    for entry in entries[:_MAX_KEYS] if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or not isinstance(kid := entry.get("kid", ""), str):
            continue
        if entry.get("use", "sig") != "sig" or (algorithm := _algorithm(entry)) is None:
            continue
        try:
            key = jwt.PyJWK(entry, algorithm)
        except (jwt.PyJWTError, ValueError, TypeError):  # malformed
            continue
        if algorithm not in _RSA_ALGORITHMS or key.key.key_size >= 2048:
            found.append((kid, key))
    keys = {kid: key for kid, key in found if kid}
    return keys | {"": found[0][1]} if len(found) == 1 else keys


def _algorithm(entry: Mapping[str, Any]) -> str | None:
    """Returns the only algorithm that a JSON Web Key may be used with, or None. An RSA key without one is for RS256."""
    said = entry.get("alg")
    if entry.get("kty") == "RSA":
        return "RS256" if said is None else next((a for a in _RSA_ALGORITHMS if a == said), None)
    algorithm = _CURVES.get((str(entry.get("kty")), str(entry.get("crv"))))  # the library accepts any curve
    return algorithm if said in (None, algorithm) else None


def verified(token: str, key: PyJWK, rules: TokenRules, issuer: str = "") -> dict[str, Any]:
    """Returns the claims of a token, after checking its signature, issuer, times and audience.

    Raises WrongSignature, TokenRefused. issuer: as the provider writes it; "": as the settings do.
    """
    import jwt

    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[str(key.algorithm_name)],
            issuer=issuer or rules.oidc.issuer,
            leeway=_LEEWAY,
            options={"require": ["exp", "iss", "sub"], "verify_aud": False},
        )
    except jwt.PyJWTError as error:
        is_other_key = isinstance(error, jwt.InvalidSignatureError | jwt.InvalidAlgorithmError | jwt.InvalidKeyError)
        refused = WrongSignature if is_other_key else TokenRefused
        raise refused(f"the token is not valid: {type(error).__name__}") from None
    if not rules.has_our_audience(claims):
        raise TokenRefused("the token is for another client")
    if "events" in claims:
        raise TokenRefused("this is an event token, which cannot be used to sign in")
    return dict(claims)
