"""Authenticates requests by the admin token, a token of the sign-in provider, or a cookie of the console.

A browser sends a cookie automatically, also for pages of other sites. So a request with a cookie must come from the
gateway's own pages (Origin). It must also have a secret that only they can read (X-CSRF-Token). GET and HEAD change
nothing and need neither.
"""

import re
import secrets
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.api.answers import answer, refusal
from gateway.api.authenticators import ADMIN, LOGIN, USER
from gateway.api.context import CLIENT, CONTEXT, Context
from gateway.api.login_sessions import ApiUser, LoginSession
from gateway.api.route import Route
from gateway.api.tokens import TokenRefused
from gateway.ports.users import UserRole

log = structlog.get_logger(__name__)

COOKIE: Final = "millrace_session"
_UNAUTHORIZED: Final = "a token is required: send the header Authorization: Bearer <admin token>"
_SAFE_METHODS: Final = ("GET", "HEAD")
_PORT: Final = re.compile(r":([0-9]{1,5})\Z")


class AccessRefused(Exception):
    """The request is not authorized. response: the answer. reason: label of the metric."""

    def __init__(self, response: web.Response, reason: str) -> None:
        super().__init__(reason)
        self.response, self.reason = response, reason


async def _authenticate(request: web.Request) -> tuple[ApiUser, LoginSession | None]:
    """Returns the user, and the login if a cookie authorized the request.

    Only wrong tokens are counted per address; a correct token always works. A wrong token from a page of another site
    does not count: the visitor did not enter it. Raises AccessRefused, StoreUnavailable.
    """
    if "Authorization" in request.headers:
        return await _bearer(request), None
    login = await login_of(request)
    if login is None:
        message = "the session has ended: sign in again" if session_cookie(request) else _UNAUTHORIZED
        raise AccessRefused(_unauthorized(message), "missing")
    if request.method not in _SAFE_METHODS:
        _check_own_page(request, login)
    return login.user, login


async def _bearer(request: web.Request) -> ApiUser:
    context = request.app[CONTEXT]
    authenticators = context.authenticators
    scheme, _, token = request.headers["Authorization"].partition(" ")
    reason = ""
    if scheme.lower() == "bearer":
        token = token.strip()
        if authenticators.verify_token(token):
            return ADMIN
        if (script := await authenticators.tokens.find(token)) is not None:
            return ApiUser("api", script.name, script.id, script.rights)
        if authenticators.provider is not None and token.count(".") == 2:
            try:
                return await authenticators.provider.verify_bearer(token)
            except TokenRefused as refused:
                reason = str(refused)
    if other := foreign_page(request):
        raise AccessRefused(refusal(403, f"the token is wrong, and {other}"), "origin")
    if seconds := authenticators.record_failure(request[CLIENT].address):
        message = "too many wrong tokens from this address"
        raise AccessRefused(refusal(429, message, retry_after=seconds), "limited")
    if reason:
        log.info("bearer token refused", reason=reason, peer=request[CLIENT].address)
    message = "the token is wrong" if scheme.lower() == "bearer" else _UNAUTHORIZED
    raise AccessRefused(_unauthorized(message), "wrong")


def _check_own_page(request: web.Request, login: LoginSession) -> None:
    if other := foreign_page(request):
        raise AccessRefused(refusal(403, other), "origin")
    csrf = request.headers.get("X-CSRF-Token", "")
    if not secrets.compare_digest(csrf.encode("utf-8", "replace"), login.csrf.encode()):
        raise AccessRefused(refusal(403, "the header X-CSRF-Token is missing or wrong"), "csrf")


async def login_of(request: web.Request) -> LoginSession | None:
    """Returns the login of the request's cookie; None if it has no valid cookie. Raises StoreUnavailable."""
    cookie = session_cookie(request)
    authenticators = request.app[CONTEXT].authenticators
    return await authenticators.logins.get(cookie, authenticators.clock()) if cookie else None


def foreign_page(request: web.Request) -> str:
    """Returns why the request does not come from a page of this origin; "" if it does, or has no origin headers."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return "the request comes from a page of another origin"
    origin, client = request.headers.get("Origin"), request[CLIENT]
    if origin is None or _is_origin(origin, client.scheme, client.host):
        return ""
    return (
        f"the page is at {origin[:80]}, but the request asks for {client.host[:80]}: let a proxy keep the Host header"
    )


def _is_origin(origin: str, scheme: str, host: str) -> bool:
    """Whether the pages of a host, which was asked over `scheme`, have this origin."""
    try:
        page, server = urlsplit(origin), urlsplit(f"{scheme}://{host}")
        if page.scheme not in ("http", "https") or not page.hostname or page.hostname != server.hostname:
            return False
        # A proxy may terminate TLS without a forwarded header. Then the page uses https and this node sees http. The
        # reverse is impossible.
        if page.scheme != server.scheme and server.scheme == "https":
            return False
        default = 443 if page.scheme == "https" else 80
        return (page.port or default) == (server.port or default)
    except ValueError:
        return False


def set_cookie(
    request: web.Request, response: web.StreamResponse, name: str, value: str, max_age: int, path: str, same_site: str
) -> None:
    """Sets a cookie that scripts cannot read, and that is sent over TLS only if the client uses it now."""
    secure = request[CLIENT].scheme == "https"
    response.set_cookie(name, value, max_age=max_age, path=path, secure=secure, httponly=True, samesite=same_site)


def cookie_name(request: web.Request) -> str:
    """Returns the name of the session's cookie in browsers, with the scheme and the port that the client uses.

    Browsers share cookies between the ports of a host, and a page without TLS cannot replace one of a page with TLS.
    """
    client = request[CLIENT]
    port = _PORT.search(client.host)
    return f"{client.scheme}{port[1] if port else ''}_{COOKIE}"


def session_cookie(request: web.Request) -> str:
    """Returns the session's cookie; "" without one. Scripts may leave out what browsers need in its name."""
    return request.cookies.get(cookie_name(request)) or request.cookies.get(COOKIE, "")


def _unauthorized(message: str) -> web.Response:
    return answer({"error": message}, 401, {"WWW-Authenticate": 'Bearer realm="millrace"'})


def _role_refusal(user: ApiUser, route: Route | None, request: web.Request, *, signed_in: bool) -> str:
    """Returns why the user's role forbids the request; "" if it is allowed. route: None if no route matches.

    signed_in: whether a cookie authorized the request. A token has no account that it could change.
    """
    rights = user.rights
    if rights.role is UserRole.ADMINISTRATOR or request.match_info.route.resource is None:
        return ""
    if rights.role is UserRole.OBSERVER:
        if route is None or not route.observer or not (signed_in or request.method in _SAFE_METHODS):
            return "an observer may not do this: it changes something, or shows where and with which key to push"
        if rights.all_channels:
            return ""
        if route.role is UserRole.ADMINISTRATOR:
            return "only an administrator, or an observer of all channels, may read this"
    elif route is None or route.role is UserRole.ADMINISTRATOR:
        return "only an administrator may do this: you are signed in as a broadcaster"
    id = request.query.get("channel", "") if route.by_query else request.match_info.get("id")
    # The answer is the same for a channel that does not exist, so that ids cannot be guessed.
    return "" if id is None or rights.may_use(id) else "this is not one of your channels"


def auth_middleware(context: Context, routes: Iterable[Route]) -> Middleware:
    """Returns the middleware that authenticates requests, and checks whether the user's role allows the route."""
    by_pattern = {(route.method, re.sub(r"{(\w+):[^}]*}", r"{\1}", route.path)): route for route in routes}

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource, method = request.match_info.route.resource, request.method
        # In the table of routes, GET includes HEAD.
        listed = "GET" if method == "HEAD" else method
        route = by_pattern.get((listed, resource.canonical)) if resource is not None else None
        if route is not None and route.public:
            return await handler(request)
        if method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return _preflight()
        try:
            user, login = await _authenticate(request)
        except AccessRefused as refused:
            context.metrics.refused.add("api", refused.reason)
            return refused.response
        if reason := _role_refusal(user, route, request, signed_in=login is not None):
            context.metrics.refused.add("api", "role")
            return refusal(403, reason)
        request[USER] = user
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
