"""Signing in through the OpenID Connect provider: to it, and back with a code. RFC 6749 with PKCE, state and nonce."""

from __future__ import annotations

import html
import re
import secrets
from typing import Any, Final

import structlog
from aiohttp import web

from gateway.api.answers import Missing
from gateway.api.context import CONTEXT
from gateway.api.login import begin
from gateway.api.provider import OpenIdProvider, new_secret
from gateway.api.tokens import TokenRefused
from gateway.hub.errors import StoreAway

log = structlog.get_logger(__name__)

_COOKIE: Final = "millrace_oidc"
_SECONDS: Final = 600  # that somebody may take at the provider's pages
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HOST: Final = re.compile(r"[A-Za-z0-9._\-\[\]:]{1,260}", re.ASCII)


async def start(request: web.Request) -> web.StreamResponse:
    """To the provider. What has to come back the same is kept in a cookie of the browser that asked."""
    provider = _provider(request)
    kept = [new_secret() for _ in range(3)]
    try:
        where = await provider.start(_back(request), *kept)
    except StoreAway as away:
        return _said(503, str(away))
    response = web.Response(status=302, headers={"Location": where})
    # Lax: the way back comes from the provider's page. Only the callback gets to see it.
    response.set_cookie(
        _COOKIE,
        ".".join(kept),
        max_age=_SECONDS,
        path="/oidc",
        secure=request.app[CONTEXT].scheme(request) == "https",
        httponly=True,
        samesite="Lax",
    )
    return response


async def callback(request: web.Request) -> web.StreamResponse:
    """Back from the provider: a session, or words why not."""
    context = request.app[CONTEXT]
    provider = _provider(request)
    response: web.StreamResponse
    try:
        response = await _finished(request, provider)
    except TokenRefused as refused:
        context.metrics.refused.add("login", "oidc")
        log.info("sign-in refused", reason=str(refused), peer=context.client(request))
        response = _said(403, str(refused))
    except StoreAway as away:
        response = _said(503, str(away))
    response.del_cookie(_COOKIE, path="/oidc")
    return response


async def _finished(request: web.Request, provider: OpenIdProvider) -> web.StreamResponse:
    kept = request.cookies.get(_COOKIE, "").split(".")
    state, code, error = (request.query.get(name, "") for name in ("state", "code", "error"))
    if len(kept) != 3 or not secrets.compare_digest(kept[0].encode(), state.encode("utf-8", "replace")):
        raise TokenRefused("this sign-in was not begun here, or took too long: try again")
    if error or not code:
        raise TokenRefused("the provider let nobody in" + (f" ({_plain(error)})" if error else ""))
    _, nonce, verifier = kept
    person = await provider.finish(_back(request), code[:4096], nonce, verifier)
    return await begin(request, person, provider.mark, _home)


def _home(state: dict[str, Any]) -> web.Response:
    return web.Response(status=303, headers={"Location": "/"})


def _provider(request: web.Request) -> OpenIdProvider:
    provider = request.app[CONTEXT].people.provider
    if not isinstance(provider, OpenIdProvider):
        raise Missing("no sign-in provider is configured (oidc.issuer)")
    return provider


def _back(request: web.Request) -> str:
    """Where the provider sends the browser; it takes only what was registered there."""
    host = request.host if _HOST.fullmatch(request.host) else "localhost"
    return f"{request.app[CONTEXT].scheme(request)}://{host}/oidc/callback"


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isalnum() or c in "_- ")[:60]


def _said(status: int, words: str) -> web.Response:
    """A page for a person, who came here by a link and not through the console's script."""
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<title>Millrace</title><link rel="icon" href="/console/players/icon.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="/console/app/style.css"><main>'
        f"<h1>Signing in did not work</h1><p>{html.escape(words)}.</p>"
        '<p><a href="/">Back to the console</a></p></main></html>\n'
    )
    headers = {"Content-Security-Policy": _POLICY}
    return web.Response(status=status, text=page, content_type="text/html", headers=headers)
