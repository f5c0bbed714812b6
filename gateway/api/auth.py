"""Who may use the admin listener: whoever holds the token.

Every request passes `Auth.admit`; another way in (a console session) is another question asked there, before the
token's. A login that a browser sends on its own has to demand the same origin on everything but GET; the token, which
only scripts send, need not.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.api.answers import answer
from gateway.api.context import CONTEXT
from gateway.lib.refusals import Refusals

_WORDS = "a token is needed, in the Authorization header: Bearer <admin token>"


class Auth:
    """Admits requests; an address that guesses too often is refused unread for a while.

    Once refused so, a right token is refused as well: telling it apart would let the guessing go on.
    """

    def __init__(self, verify: Callable[[str], bool], refusals_per_minute: int, clock: Callable[[], float]) -> None:
        self._verify = verify
        self._refusals = Refusals(refusals_per_minute)
        self._clock = clock

    def admit(self, request: web.Request) -> tuple[web.Response, str] | None:
        """None, or the refusal with its reason for the metric."""
        address = request.remote or ""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not scheme:
            return _unauthorized(_WORDS), "missing"
        now = self._clock()
        if seconds := self._refusals.wait(address, now):
            words = {"error": "too many wrong tokens from this address"}
            return answer(words, 429, {"Retry-After": str(seconds)}), "limited"
        if scheme.lower() == "bearer" and self._verify(token.strip()):
            return None
        self._refusals.add(address, now)
        return _unauthorized("the token is wrong" if scheme.lower() == "bearer" else _WORDS), "wrong"


def _unauthorized(words: str) -> web.Response:
    return answer({"error": words}, 401, {"WWW-Authenticate": 'Bearer realm="millrace"'})


def authenticating(
    verify: Callable[[str], bool],
    refusals_per_minute: int,
    public: frozenset[str],
    clock: Callable[[], float] = time.monotonic,
) -> Middleware:
    """The middleware that admits requests to all routes but those whose path pattern is `public`."""
    auth = Auth(verify, refusals_per_minute, clock)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource is not None and resource.canonical in public:
            return await handler(request)
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return _preflight()
        refused = auth.admit(request)
        if refused is not None:
            response, reason = refused
            request.app[CONTEXT].metrics.refused.add("api", reason)
            return response
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
