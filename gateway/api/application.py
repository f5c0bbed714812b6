"""The applications of the API: for clients, at the admin listener, and for other nodes."""

import asyncio
from collections.abc import Sequence
from typing import Final, Self

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.api import console, document_route, oidc
from gateway.api.answers import answer_middleware, error_middleware, limit_refusal_lines
from gateway.api.auth import auth_middleware
from gateway.api.body import check_expectation
from gateway.api.context import CONTEXT, Context, client_middleware
from gateway.api.forwarding import forwarded, mark_answer, sender_middleware
from gateway.api.route import Route
from gateway.api.routes import ROUTES
from gateway.http.forwarded import Forwarded
from gateway.lib.assets import Assets

_SHUTDOWN_SECONDS: Final = 2.0  # maximum wait for the running answers


def make_app(context: Context, proxies: Forwarded, routes: Sequence[Route] = ROUTES) -> web.Application:
    """Returns the admin application. Serve it with `access_log=None`, because it logs refusals itself.

    proxies: see `client_middleware`.
    """
    middlewares = [client_middleware(proxies), answer_middleware, auth_middleware(context, routes)]
    app = web.Application(middlewares=middlewares, client_max_size=context.limits.body)
    app[CONTEXT] = context
    app[console.ASSETS] = Assets()
    context.provide(app)
    oidc.set_up(app, context)
    app[document_route.DOCUMENT] = document_route.CachedDocument(routes)
    limit_refusal_lines(app)
    for route in routes:
        _add(app, route, forwarded(route) if route.held else route.operation.handler)
    return app


def make_node_app(context: Context, table: Sequence[Route] = ROUTES) -> web.Application:
    """Returns the application that answers other nodes: the routes of streams that this node holds.

    It trusts the sender of a request. So only ForwardedRequests of `gateway.cluster.calls` may pass requests to it.
    """
    app = web.Application(middlewares=[error_middleware, sender_middleware], client_max_size=context.limits.body)
    app[CONTEXT] = context
    context.provide(app)
    app.on_response_prepare.append(mark_answer)
    for route in table:
        if route.held:
            _add(app, route, route.operation.handler)
    return app


def _add(app: web.Application, route: Route, handler: Handler) -> None:
    if route.method == "GET":
        app.router.add_get(route.path, handler, expect_handler=check_expectation)  # add_get also answers HEAD
    else:
        app.router.add_route(route.method, route.path, handler, expect_handler=check_expectation)


class NodeServer:
    """Answers requests that other nodes forward. Use as `async with`."""

    def __init__(self, context: Context, table: Sequence[Route] = ROUTES) -> None:
        app = make_node_app(context, table)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    def connection(self) -> asyncio.Protocol:
        """Returns the protocol of a new connection."""
        server = self._runner.server
        assert server is not None, "it is set up"
        return server()
