"""The client of an OpenID Connect provider (Amazon Cognito, Keycloak, …): its configuration, its keys, and sign-in."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import structlog

from gateway.api.login_sessions import ApiUser
from gateway.api.tokens import TokenRefused, TokenRules, WrongSignature, key_id, parse_jwks, verified
from gateway.lib.egress import Egress
from gateway.lib.network import is_loopback
from gateway.ports.errors import StoreUnavailable
from gateway.ports.users import Rights, UserRole
from gateway.settings.models import OidcSettings

if TYPE_CHECKING:
    from jwt import PyJWK

log = structlog.get_logger(__name__)

_TIMEOUT: Final = 5.0  # seconds for one request to the provider
_MAX_BYTES: Final = 256_000
_CACHE_SECONDS: Final = 3_600.0  # seconds for which configuration and keys are cached
_UNKNOWN_KEY_SECONDS: Final = 60.0  # seconds between fetches for unknown keys: anybody can send a token with one
_RETRY_SECONDS: Final = 5.0  # after a failure


class OpenIdProvider:
    """The client of the provider. It sends requests only for sign-ins and tokens, limited by the constants above.

    reachable: hosts that may be requested without TLS, in addition to this machine (the entries of `egress.allow`).
    Methods raise StoreUnavailable if the provider does not answer.
    """

    def __init__(
        self,
        oidc: OidcSettings,
        *,
        reachable: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = oidc.name
        self.admits = bool(oidc.allow or oidc.broadcasters or oidc.observers)  # whether anybody may sign in
        self._rules = TokenRules(oidc)
        self._oidc = oidc
        self.sign_up = oidc.sign_up  # maximum number of channels of users who sign up; 0: nobody can sign up
        self._secret = oidc.client_secret.get_secret_value()
        self._egress = Egress(reachable)
        self._tls = tls
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._lock = asyncio.Lock()
        self._document: dict[str, Any] = {}
        self._document_expires = 0.0
        self._keys: dict[str, PyJWK] = {}
        self._keys_at = -_CACHE_SECONDS
        self._failed_at = -_RETRY_SECONDS

    @property
    def credential_mark(self) -> str:
        """The hash of the rules of sign-in. A login with another hash has to sign in again."""
        oidc = self._oidc
        text = json.dumps([oidc.issuer, oidc.client_id, oidc.claim, sorted(oidc.allow)])
        if oidc.broadcasters:
            text += json.dumps([sorted(oidc.broadcasters), oidc.channels_claim])
        if oidc.observers:
            text += json.dumps([sorted(oidc.observers), oidc.channels_claim, "observers"])
        if oidc.sign_up:
            text += "own channels"
        return hashlib.sha256(text.encode()).hexdigest()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def own_channel(self, user: ApiUser) -> str:
        """Returns the id of the channel that a user got at sign-up; "" for other users."""
        own = self._rules.own_channel(user.id) if self.sign_up else ""
        return own if user.rights == Rights(UserRole.BROADCASTER, (own,)) else ""

    async def verify_bearer(self, token: str) -> ApiUser:
        """Returns the user of an access or ID token. Raises TokenRefused, StoreUnavailable."""
        return self._rules.user(await self._verified(token))

    async def start(self, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Returns the provider's URL for the browser, which later returns to `redirect_uri`. Raises StoreUnavailable.

        verifier: the PKCE code verifier of RFC 7636.
        """
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        document = await self._configuration()
        query = {
            "response_type": "code",
            "client_id": self._oidc.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(("openid", "email", "profile", *self._own_scopes(document))),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = document["authorization_endpoint"]
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def finish(self, redirect_uri: str, code: str, nonce: str, verifier: str) -> ApiUser:
        """Returns the user of the sign-in with this code. Raises TokenRefused, StoreUnavailable."""
        document = await self._configuration()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "client_id": self._oidc.client_id,
            "code_verifier": verifier,
        }
        headers = {}
        if self._secret and _accepts_basic(document):
            # RFC 6749 §2.3.1: the client id and the secret are form-encoded first.
            pair = f"{quote(self._oidc.client_id, safe='')}:{quote(self._secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        elif self._secret:
            form["client_secret"] = self._secret
        status, answer = await self._request("POST", document["token_endpoint"], data=form, headers=headers)
        token = answer.get("id_token")
        if status != 200 or not isinstance(token, str):
            log.warning("the sign-in provider refuses the code", status=status, reason=said(answer) or "no ID token")
            raise TokenRefused("the provider does not confirm this sign-in")
        claims = await self._verified(token)
        if not self._rules.is_sign_in(claims, nonce):
            raise TokenRefused("the provider's answer is for another sign-in")
        if self._rules.lacks_claims(claims) and (endpoint := document.get("userinfo_endpoint")):
            claims = await self._with_user_info(claims, endpoint, str(answer.get("access_token")))
        return self._rules.user(claims)

    def _own_scopes(self, document: Mapping[str, Any]) -> list[str]:
        """Returns the scopes with the names of our claims. Authelia, Dex and Pocket ID need one for groups."""
        supported = document.get("scopes_supported")
        wanted = {self._oidc.claim, self._oidc.channels_claim} - {"openid", "email", "profile"}
        return sorted(scope for scope in wanted if isinstance(supported, list) and scope in supported)

    async def _with_user_info(self, claims: dict[str, Any], endpoint: Any, token: str) -> dict[str, Any]:
        """Returns the claims of an ID token and of the UserInfo endpoint. OpenID Connect Core 1.0 §5.3.

        Raises TokenRefused, StoreUnavailable: an observer without a list of channels would see all of them.
        """
        status, found = await self._request("GET", endpoint, headers={"Authorization": f"Bearer {token}"})
        if status != 200:
            log.warning("the sign-in provider does not describe a user", status=status)
            raise _unavailable("the sign-in provider does not describe this user")
        if found.get("sub") != claims["sub"]:  # §5.3.2: then its values "MUST NOT be used"
            raise TokenRefused("the provider describes another user")
        if "email" in claims and found.get("email") != claims["email"]:
            found.pop("email_verified", None)  # it is about the other address
        return {**found, **claims}

    # ---- keys and configuration ----

    async def _verified(self, token: str) -> dict[str, Any]:
        kid = key_id(token)
        age = self._clock() - self._keys_at
        may_be_new = age >= _UNKNOWN_KEY_SECONDS
        if age >= _CACHE_SECONDS or (kid not in self._keys and may_be_new):
            await self._fetch_keys()
            may_be_new = False
        try:
            return verified(token, self._key(kid), self._rules, self._document["issuer"])
        except WrongSignature:
            if not may_be_new:
                raise
        await self._fetch_keys()  # a new key may have the id of an old one
        return verified(token, self._key(kid), self._rules, self._document["issuer"])

    def _key(self, kid: str) -> PyJWK:
        if (key := self._keys.get(kid)) is None:
            raise TokenRefused("the token is signed by a key that the provider does not publish")
        return key

    async def _fetch_keys(self) -> None:
        """Fetches the keys. While the provider does not answer, the known ones stay for another minute each time."""
        started = self._clock()
        try:
            document = await self._configuration()
            async with self._lock:
                if self._keys_at >= started:
                    return  # another request fetched them meanwhile
                status, answer = await self._get(document["jwks_uri"])
                if status == 200:
                    self._keys = parse_jwks(answer)
                else:
                    log.warning("the sign-in provider returns no keys", status=status)
                self._keys_at = self._clock()
        except StoreUnavailable:
            if not self._keys:
                raise
            self._keys_at = self._clock() - _CACHE_SECONDS + _UNKNOWN_KEY_SECONDS

    async def _configuration(self) -> dict[str, Any]:
        """Returns the configuration of OpenID Connect Discovery 1.0, checked as in its §4.3."""
        if self._clock() < self._document_expires:
            return self._document
        async with self._lock:
            if self._clock() < self._document_expires:
                return self._document
            issuer = self._oidc.issuer
            status, document = await self._get(issuer.rstrip("/") + "/.well-known/openid-configuration")
            if reason := self._problem(status, document):
                self._failed_at = self._clock()
                log.warning("the sign-in provider's configuration is not usable", issuer=issuer, reason=reason)
                raise _unavailable("the sign-in provider's configuration is not usable")
            self._document, self._document_expires = document, self._clock() + _CACHE_SECONDS
            return document

    def _problem(self, status: int, document: Mapping[str, Any]) -> str:
        """Returns why a configuration cannot be used; "" if it can.

        A slash at the end of the issuer may differ. That of Authentik and Auth0 is easily left out of the settings.
        """
        if status != 200:
            return f"status {status}"
        issuer = document.get("issuer")
        if not isinstance(issuer, str) or issuer.rstrip("/") != self._oidc.issuer.rstrip("/"):
            return f"its issuer is {str(issuer)[:200]}"
        endpoints = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        wrong = [name for name in endpoints if not self._is_allowed(document.get(name))]
        return f"{', '.join(wrong)}: missing, or without TLS" if wrong else ""

    async def _get(self, url: str) -> tuple[int, dict[str, Any]]:
        if self._clock() - self._failed_at < _RETRY_SECONDS:
            raise _unavailable("the sign-in provider did not answer just now")
        try:
            return await self._request("GET", url)
        except StoreUnavailable:
            self._failed_at = self._clock()
            raise

    async def _request(self, method: str, url: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """Returns the status and the JSON object of an answer. Follows no redirects. Raises StoreUnavailable."""
        if not self._is_allowed(url):
            raise _unavailable("the sign-in provider may be requested over TLS only (egress.allow)")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True, limit=4),
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT),
                headers={"Accept": "application/json"},
            )
        try:
            async with self._session.request(method, url, allow_redirects=False, **options) as reply:
                body = bytearray()
                async for chunk in reply.content.iter_any():
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        raise _unavailable("the sign-in provider's answer is too large")
                value = json.loads(body) if body else {}
                return reply.status, value if isinstance(value, dict) else {}
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("the sign-in provider does not answer", url=url, reason=str(error) or type(error).__name__)
            raise _unavailable("the sign-in provider does not answer") from None
        except (ValueError, RecursionError):
            raise _unavailable("the sign-in provider's answer is not JSON") from None

    def _is_allowed(self, url: Any) -> bool:
        """Whether a URL may be requested. Without TLS, only this machine and hosts of `egress.allow` are allowed."""
        if not isinstance(url, str):
            return False
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError:
            return False
        if parts.scheme == "https":
            return bool(host)
        return parts.scheme == "http" and (is_loopback(host) or self._egress.lists(url))


def _accepts_basic(document: Mapping[str, Any]) -> bool:
    """Whether the provider accepts `client_secret_basic`, the default of RFC 8414 §2."""
    methods = document.get("token_endpoint_auth_methods_supported")
    return not isinstance(methods, list) or "client_secret_basic" in methods


def said(answer: Mapping[str, Any]) -> str:
    """Returns the error of a provider's answer for the log, RFC 6749 §4.1.2.1 and §5.2; "" without one."""
    parts = (str(answer.get(name) or "") for name in ("error", "error_description"))
    return " ".join(": ".join(filter(None, parts)).split())[:300]


def _unavailable(text: str) -> StoreUnavailable:
    """Returns the error of the provider, whose text is for the person who signs in."""
    return StoreUnavailable(text, public=text)
