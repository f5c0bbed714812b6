"""Who may use the admin listener: whoever holds the token, a token of the sign-in provider, or a console's cookie.

A token is sent by scripts on purpose. A cookie is sent by the browser on its own: what it opens has to come from our
own pages (Origin) and to carry the secret that only they can read (X-CSRF-Token), but for GET and HEAD, which change
nothing.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.api.answers import answer
from gateway.api.context import CONTEXT, Context
from gateway.api.logins import Login, Person
from gateway.api.people import ADMIN, LOGIN, PERSON

COOKIE: Final = "millrace_session"
_WORDS: Final = "a token is needed, in the Authorization header: Bearer <admin token>"
_SAFE: Final = ("GET", "HEAD")


class Refused(Exception):
    """The request is not let in; reason: for the metric."""

    def __init__(self, response: web.Response, reason: str) -> None:
        super().__init__(reason)
        self.response, self.reason = response, reason


class Auth:
    """Admits requests; an address that guesses too often is refused unread for a while.

    Once refused so, a right token is refused as well: telling it apart would let the guessing go on.
    """

    def __init__(self, context: Context, clock: Callable[[], float] = time.monotonic) -> None:
        self._context = context
        self._people = context.people
        self._clock = clock

    async def admit(self, request: web.Request) -> tuple[Person, Login | None]:
        """Who asks, and by which login where a cookie says so. Raises Refused, StoreAway."""
        if "Authorization" in request.headers:
            return await self._bearer(request), None
        login = await login_of(request)
        if login is None:
            words = "the session has ended: sign in again" if COOKIE in request.cookies else _WORDS
            raise Refused(_unauthorized(words), "missing")
        if request.method not in _SAFE:
            self._check_own_page(request, login)
        return login.person, login

    async def _bearer(self, request: web.Request) -> Person:
        address, now = self._context.client(request), self._clock()
        if seconds := self._people.addresses.wait(address, now):
            error = {"error": "too many wrong tokens from this address"}
            raise Refused(answer(error, 429, {"Retry-After": str(seconds)}), "limited")
        scheme, _, token = request.headers["Authorization"].partition(" ")
        if scheme.lower() == "bearer":
            token = token.strip()
            if self._people.verify_token(token):
                return ADMIN
            if self._people.provider is not None and token.count(".") == 2:
                person = await self._people.provider.bearer(token)
                if person is not None:
                    return person
        self._people.addresses.add(address, now)
        words = "the token is wrong" if scheme.lower() == "bearer" else _WORDS
        raise Refused(_unauthorized(words), "wrong")

    def _check_own_page(self, request: web.Request, login: Login) -> None:
        if not from_own_page(request):
            raise Refused(answer({"error": "this comes from a page of another origin"}, 403), "origin")
        given = request.headers.get("X-CSRF-Token", "")
        if not secrets.compare_digest(given.encode("utf-8", "replace"), login.csrf.encode()):
            raise Refused(answer({"error": "the header X-CSRF-Token is missing or wrong"}, 403), "csrf")


async def login_of(request: web.Request) -> Login | None:
    """The login that the request's cookie names. Raises StoreAway."""
    cookie = request.cookies.get(COOKIE)
    people = request.app[CONTEXT].people
    return await people.logins.find(cookie, people.clock()) if cookie else None


def from_own_page(request: web.Request) -> bool:
    """Whether the browser says that a page of this very origin sends the request, or says nothing, as scripts do."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"{request.app[CONTEXT].scheme(request)}://{request.host}")
        if theirs.scheme not in ("http", "https") or not theirs.hostname or theirs.hostname != ours.hostname:
            return False
        # TLS may end before us without a word: then the page says https where we see http. Never the other way.
        if theirs.scheme != ours.scheme and ours.scheme == "https":
            return False
        default = 443 if theirs.scheme == "https" else 80
        return (theirs.port or default) == (ours.port or default)
    except ValueError:
        return False


def _named(method: str) -> str:
    """The method as the route table names it: a route that is read may be asked for its head."""
    return "GET" if method == "HEAD" else method


def _unauthorized(words: str) -> web.Response:
    return answer({"error": words}, 401, {"WWW-Authenticate": 'Bearer realm="millrace"'})


def authenticating(
    context: Context, public: frozenset[tuple[str, str]], clock: Callable[[], float] = time.monotonic
) -> Middleware:
    """The middleware that admits requests to all routes but those whose method and path pattern are `public`."""
    auth = Auth(context, clock)
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
        except Refused as refused:
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
