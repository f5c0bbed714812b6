"""Health and readiness, which are public."""

from __future__ import annotations

from aiohttp import web

from gateway.api.answers import answer
from gateway.api.context import CONTEXT


async def healthcheck(request: web.Request) -> web.Response:
    """Answers OK while the process runs, even if other things are wrong."""
    return web.Response(text="OK")


async def ready(request: web.Request) -> web.Response:
    """Answers 200, or 503 with the names of what is missing."""
    missing = await request.app[CONTEXT].readiness.missing()
    if missing:
        return answer({"ready": False, "missing": list(missing)}, 503, {"Retry-After": "5"})
    return answer({"ready": True, "missing": []})
