"""A page of another origin than the gateway, which has the gateway's players in it."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from tests.support.served_app import served_app


@contextlib.asynccontextmanager
async def foreign_page(html: str, script: str = "", policy: str | None = None) -> AsyncIterator[str]:
    """Yields its address. script: its /page.js. policy: its content security policy."""
    headers = {"Content-Security-Policy": policy} if policy is not None else None

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/page.js":
            return web.Response(text=script, content_type="text/javascript")
        return web.Response(text=f"<!doctype html>{html}", content_type="text/html", headers=headers)

    app = web.Application()
    app.router.add_get("/{file:.*}", answer)
    async with served_app(app) as port:
        yield f"http://localhost:{port}/"
