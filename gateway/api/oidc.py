"""Signing in through the OpenID Connect provider: to it, and back with a code. RFC 6749 with PKCE, state and nonce."""

from __future__ import annotations

import html
import re
from typing import Any, Final

import structlog
from aiohttp import web

from gateway.api.answers import Missing
from gateway.api.context import CONTEXT
from gateway.api.login import begin
from gateway.api.openid_provider import OpenIdProvider
from gateway.api.pending_sign_ins import LIFETIME_SECONDS, PendingSignIns
from gateway.api.tokens import TokenRefused
from gateway.lib.attempt_limiter import AttemptLimiter, TooManyAttempts
from gateway.ports.errors import StoreUnavailable

log = structlog.get_logger(__name__)

PENDING: Final = web.AppKey("pending sign-ins", PendingSignIns)
RETURNS: Final = web.AppKey("returns from the provider", AttemptLimiter)

_COOKIE: Final = "millrace_oidc"
MAX_CONCURRENT: Final = 4  # codes that are being checked at the provider
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HOST: Final = re.compile(r"[A-Za-z0-9._\-\[\]:]{1,260}", re.ASCII)


async def start(request: web.Request) -> web.StreamResponse:
    """Redirects to the provider. A cookie in the browser keeps the values that have to return unchanged."""
    provider = _provider(request)
    begun, cookie = request.app[PENDING].begin(request.app[CONTEXT].clock())
    try:
        where = await provider.start(_back(request), begun.state, begun.nonce, begun.verifier)
    except StoreUnavailable as away:
        return _said(503, str(away))
    response = web.Response(status=302, headers={"Location": where})
    # Lax, because the browser returns from the provider's page. Only the callback receives it.
    response.set_cookie(
        _COOKIE,
        cookie,
        max_age=LIFETIME_SECONDS,
        path="/oidc",
        secure=request.app[CONTEXT].scheme(request) == "https",
        httponly=True,
        samesite="Lax",
    )
    return response


async def callback(request: web.Request) -> web.StreamResponse:
    """Handles the return from the provider: opens a session, or shows why not."""
    context = request.app[CONTEXT]
    provider = _provider(request)
    response: web.StreamResponse
    try:
        response = await _finished(request, provider)
    except TokenRefused as refused:
        response = _wrong(request, str(refused))
    except TooManyAttempts:
        context.metrics.refused.add("login", "limited")
        response = _said(429, "too many sign-ins are under way: try again", 1)
    except StoreUnavailable as away:
        response = _said(503, str(away))
    response.del_cookie(_COOKIE, path="/oidc")
    return response


async def _finished(request: web.Request, provider: OpenIdProvider) -> web.StreamResponse:
    context = request.app[CONTEXT]
    state, code, error = (request.query.get(name, "") for name in ("state", "code", "error"))
    begun = request.app[PENDING].take(request.cookies.get(_COOKIE, ""), state, context.clock())
    if begun is None:
        raise TokenRefused("this sign-in was not begun here, or took too long: try again")
    if error or not code:
        raise TokenRefused("the provider let nobody in" + (f" ({_plain(error)})" if error else ""))
    # Only the provider can check a code. A few are checked at a time, those from addresses with wrong tries last.
    async with request.app[RETURNS].turn(context.people.trying(context.client(request))):
        person = await provider.finish(_back(request), code[:4096], begun.nonce, begun.verifier)
    return await begin(request, person, provider.mark, _home)


def _wrong(request: web.Request, words: str) -> web.Response:
    """Returns the page for a refused sign-in. Over the limit of the address it is 429 and not logged."""
    context = request.app[CONTEXT]
    address = context.client(request)
    if seconds := context.people.wrong(address):
        context.metrics.refused.add("login", "limited")
        return _said(429, "too many wrong tries: wait a while", seconds)
    context.metrics.refused.add("login", "oidc")
    log.info("sign-in refused", reason=words, peer=address)
    return _said(403, words)


def _home(state: dict[str, Any]) -> web.Response:
    return web.Response(status=303, headers={"Location": "/"})


def _provider(request: web.Request) -> OpenIdProvider:
    provider = request.app[CONTEXT].people.provider
    if provider is None:
        raise Missing("no sign-in provider is configured (oidc.issuer)")
    return provider


def _back(request: web.Request) -> str:
    """Returns the address to which the provider sends the browser. It has to be registered there."""
    host = request.host if _HOST.fullmatch(request.host) else "localhost"
    return f"{request.app[CONTEXT].scheme(request)}://{host}/oidc/callback"


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isalnum() or c in "_- ")[:60]


def _said(status: int, words: str, retry_after: int = 0) -> web.Response:
    """Returns a page for a person who followed a link and did not use the console's script."""
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<title>Millrace</title><link rel="icon" href="/console/players/icon.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="/console/players/tokens.css">'
        '<link rel="stylesheet" href="/console/app/style.css"><main>'
        f"<h1>Signing in did not work</h1><p>{html.escape(words)}.</p>"
        '<p><a href="/">Back to the console</a></p></main></html>\n'
    )
    headers = {"Content-Security-Policy": _POLICY}
    if retry_after:
        headers["Retry-After"] = str(retry_after)
    return web.Response(status=status, text=page, content_type="text/html", headers=headers)
