"""A page of another origin than the gateway, which has the gateway's players in it."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web


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
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://localhost:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()
