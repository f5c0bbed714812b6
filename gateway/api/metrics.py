"""The metrics, for Prometheus."""

from __future__ import annotations

from aiohttp import web

from gateway.api.context import CONTEXT
from gateway.lib.metrics import CONTENT_TYPE


async def show(request: web.Request) -> web.Response:
    """Returns the metrics, summed over all processes that share the ports."""
    context = request.app[CONTEXT]
    return web.Response(body=(await context.measured()).render(), headers={"Content-Type": CONTENT_TYPE})
