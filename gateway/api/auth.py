"""Admits requests with the admin token, a token of the sign-in provider, or a console's cookie.

Scripts send a token on purpose, but a browser sends a cookie by itself. So a request with a cookie has to come from the
gateway's own pages (Origin). It also has to carry a secret that only they can read (X-CSRF-Token). GET and HEAD change
nothing and need neither.
"""

from __future__ import annotations

import re
import secrets
from typing import Final
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.api.answers import answer
from gateway.api.authenticators import ADMIN, LOGIN, PERSON
from gateway.api.context import CONTEXT, Context
from gateway.api.login_sessions import LoginSession, Person
from gateway.api.tokens import TokenRefused

log = structlog.get_logger(__name__)

COOKIE: Final = "millrace_session"
_WORDS: Final = "a token is needed, in the Authorization header: Bearer <admin token>"
_SAFE: Final = ("GET", "HEAD")


class AccessRefused(Exception):
    """The request is not admitted. response: the answer; reason: for the metric."""

    def __init__(self, response: web.Response, reason: str) -> None:
        super().__init__(reason)
        self.response, self.reason = response, reason


class Auth:
    """Admits requests. Only wrong tokens count against an address, so a correct one works wherever others guess.

    Wrong tokens sent by pages of other sites do not count: their visitors did not write them.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._people = context.people

    async def admit(self, request: web.Request) -> tuple[Person, LoginSession | None]:
        """Returns the person, and the login where a cookie authorized the request.

        Raises AccessRefused, StoreUnavailable.
        """
        if "Authorization" in request.headers:
            return await self._bearer(request), None
        login = await login_of(request)
        if login is None:
            words = "the session has ended: sign in again" if COOKIE in request.cookies else _WORDS
            raise AccessRefused(_unauthorized(words), "missing")
        if request.method not in _SAFE:
            self._check_own_page(request, login)
        return login.person, login

    async def _bearer(self, request: web.Request) -> Person:
        scheme, _, token = request.headers["Authorization"].partition(" ")
        reason = ""
        if scheme.lower() == "bearer":
            token = token.strip()
            if self._people.verify_token(token):
                return ADMIN
            if self._people.provider is not None and token.count(".") == 2:
                try:
                    return await self._people.provider.bearer(token)
                except TokenRefused as refused:
                    reason = str(refused)
        if not from_own_page(request):
            raise AccessRefused(
                answer({"error": "the token is wrong, and comes from a page of another origin"}, 403), "origin"
            )
        if seconds := self._people.wrong(self._context.client(request)):
            error = {"error": "too many wrong tokens from this address"}
            raise AccessRefused(answer(error, 429, {"Retry-After": str(seconds)}), "limited")
        if reason:
            log.info("bearer token refused", reason=reason, peer=self._context.client(request))
        words = "the token is wrong" if scheme.lower() == "bearer" else _WORDS
        raise AccessRefused(_unauthorized(words), "wrong")

    def _check_own_page(self, request: web.Request, login: LoginSession) -> None:
        if not from_own_page(request):
            raise AccessRefused(answer({"error": "this comes from a page of another origin"}, 403), "origin")
        given = request.headers.get("X-CSRF-Token", "")
        if not secrets.compare_digest(given.encode("utf-8", "replace"), login.csrf.encode()):
            raise AccessRefused(answer({"error": "the header X-CSRF-Token is missing or wrong"}, 403), "csrf")


async def login_of(request: web.Request) -> LoginSession | None:
    """Returns the login of the request's cookie; None without a valid one. Raises StoreUnavailable."""
    cookie = request.cookies.get(COOKIE)
    people = request.app[CONTEXT].people
    return await people.logins.find(cookie, people.clock()) if cookie else None


def from_own_page(request: web.Request) -> bool:
    """Whether the request comes from a page of this origin, or from a script that sends no such headers."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"{request.app[CONTEXT].scheme(request)}://{request.host}")
        if theirs.scheme not in ("http", "https") or not theirs.hostname or theirs.hostname != ours.hostname:
            return False
        # A proxy may end TLS without telling: then the page has https where this node sees http. The opposite cannot
        # happen.
        if theirs.scheme != ours.scheme and ours.scheme == "https":
            return False
        default = 443 if theirs.scheme == "https" else 80
        return (theirs.port or default) == (ours.port or default)
    except ValueError:
        return False


def _named(method: str) -> str:
    """Returns the method as in the route table, where GET includes HEAD."""
    return "GET" if method == "HEAD" else method


def _unauthorized(words: str) -> web.Response:
    return answer({"error": words}, 401, {"WWW-Authenticate": 'Bearer realm="millrace"'})


def auth_middleware(context: Context, public: frozenset[tuple[str, str]]) -> Middleware:
    """Returns the middleware that admits requests, except for `public` routes given as (method, path pattern)."""
    auth = Auth(context)
    patterns = frozenset((method, re.sub(r"{(\w+):[^}]*}", r"{\1}", path)) for method, path in public)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource, method = request.match_info.route.resource, request.method
        if resource is not None and (_named(method), resource.canonical) in patterns:
            return await handler(request)
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return _preflight()
        try:
            person, login = await auth.admit(request)
        except AccessRefused as refused:
            context.metrics.refused.add("api", refused.reason)
            return refused.response
        request[PERSON] = person
        if login is not None:
            request[LOGIN] = login
        return await handler(request)

    return middleware


def _preflight() -> web.Response:
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
            "Access-Control-Allow-Headers": "Authorization, Content-Type",
            "Access-Control-Max-Age": "600",
        },
    )
