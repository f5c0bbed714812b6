"""A small OpenID Connect provider on a free port. It signs users in at once and is as strict as real ones."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.settings.models import OidcSettings

CLIENT, SECRET = "millrace-console", "a secret with: signs & spaces"


def settings(issuer: str, **options: Any) -> OidcSettings:
    """The section `oidc` for a provider whose user is allowed by e-mail address."""
    values: dict[str, Any] = {"client_id": CLIENT, "client_secret": SECRET, "audience": "", "name": "Cognito",
                              "claim": "email", "allow": ["eva@example.com"], "broadcasters": [], "observers": [],
                              "channels_claim": "channels", "sign_up": 0}  # fmt: skip
    return OidcSettings(issuer=issuer, **values | options)


def rsa_key() -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


_shared_key = functools.cache(rsa_key)


def ec_key() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


def public(kid: str, key: Any, **members: Any) -> dict[str, Any]:
    """A public key as a JSON Web Key."""
    kinds = {rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm, ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm}
    algorithm: Any = next((a for kind, a in kinds.items() if isinstance(key, kind)), jwt.algorithms.ECAlgorithm)
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", **members}


@dataclass
class Provider:
    """The state of the provider. claims: of the user; keys: by kid, "" for none; asked: requested paths, in order.

    broken: error status by path. drop: members missing in its configuration. told: the claims that only its UserInfo
    endpoint has; None: it has no such endpoint.
    """

    issuer: str = ""
    secret: str = SECRET
    claims: dict[str, Any] = field(
        default_factory=lambda: {"sub": "subject-1", "email": "eva@example.com", "email_verified": True}
    )
    keys: dict[str, Any] = field(default_factory=lambda: {"first": _shared_key()})
    asked: list[str] = field(default_factory=list)
    broken: dict[str, int] = field(default_factory=dict)
    configuration: dict[str, Any] = field(default_factory=dict)
    nonce: str | None = None  # replaces the nonce of the request
    told: dict[str, Any] | None = None
    access_tokens: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def token(self, *, kid: str | None = "first", key: Any = None, algorithm: str | None = None, **claims: Any) -> str:
        """Signs a token. Claims of None are omitted, and a key id of None."""
        key = key if key is not None else self.keys[kid or ""]
        algorithm = algorithm or ("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
        now = int(time.time())
        said = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 600, **self.claims, **claims}
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, key, algorithm=algorithm, headers={} if kid is None else {"kid": kid})

    # ---- answers ----

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if (status := self.broken.get(request.path)) is not None:
            return web.Response(status=status, text="{}", content_type="application/json")
        answer = {
            "/.well-known/openid-configuration": self._configuration,
            "/keys": self._keys,
            "/authorize": self._authorize,
            "/token": self._token,
            "/userinfo": self._user_info,
        }.get(request.path)
        return await answer(request) if answer is not None else web.Response(status=404)

    async def _configuration(self, request: web.Request) -> web.StreamResponse:
        told = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            **({} if self.told is None else {"userinfo_endpoint": f"{self.issuer}/userinfo"}),
            **self.configuration,
        }
        return web.json_response(told)

    async def _keys(self, request: web.Request) -> web.StreamResponse:
        keys = [public(kid, key) for kid, key in self.keys.items()]
        return web.json_response({"keys": [{k: v for k, v in key.items() if v != ""} for key in keys]})

    async def _user_info(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") not in {f"Bearer {token}" for token in self.access_tokens}:
            return web.json_response({"error": "invalid_token"}, status=401)
        return web.json_response({"sub": self.claims["sub"], **(self.told or {})})

    async def _authorize(self, request: web.Request) -> web.StreamResponse:
        """Redirects back at once, because every user is already signed in."""
        asked = dict(request.query)
        assert asked["response_type"] == "code" and asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256" and "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        raise web.HTTPFound(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")

    async def _token(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        asked = self.codes.pop(str(form.get("code")), None)
        digest = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        if not self._is_client(request, form):
            said = {"error": "invalid_client", "error_description": "E7000215: this is the id\nof the secret"}
            return web.json_response(said, status=401)
        if (
            asked is None
            or form.get("grant_type") != "authorization_code"
            or form.get("redirect_uri") != asked["redirect_uri"]
            or base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        nonce = self.nonce if self.nonce is not None else asked["nonce"]
        token = self.token(nonce=nonce)
        self.access_tokens.append(self.token())
        return web.json_response({"access_token": self.access_tokens[-1], "id_token": token, "token_type": "Bearer"})

    def _is_client(self, request: web.Request, form: Any) -> bool:
        methods = self.configuration.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if not self.secret:
            return form.get("client_id") == CLIENT and "Authorization" not in request.headers
        if "client_secret_basic" not in methods:
            return (form.get("client_id"), form.get("client_secret")) == (CLIENT, self.secret)
        kind, _, text = request.headers.get("Authorization", "").partition(" ")
        name, _, secret = base64.b64decode(text).decode().partition(":")
        return (kind, unquote(name), unquote(secret)) == ("Basic", CLIENT, self.secret)


@contextlib.asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """Runs the provider during the block. Its issuer is http://127.0.0.1:<port>."""
    running = Provider()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", running.handle)
    async with TestServer(app, host="127.0.0.1") as server:
        running.issuer = str(server.make_url("")).rstrip("/")
        yield running
