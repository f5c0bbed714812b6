"""Answers `GET /openapi.json`."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from gateway.api.answers import answer_text, json_text
from gateway.api.context import CONTEXT
from gateway.api.route import Route, operation


@dataclass(slots=True)
class CachedDocument:
    routes: Sequence[Route]
    text: str = ""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


DOCUMENT: Final = web.AppKey("openapi", CachedDocument)


@operation(dict[str, Any])
async def openapi(request: web.Request) -> web.Response:
    """This description.

    It is built once, in a thread.
    """
    cached = request.app[DOCUMENT]
    async with cached.lock:
        if not cached.text:
            cached.text = await asyncio.to_thread(_describe, cached.routes, request.app[CONTEXT].metrics.version)
    return answer_text(cached.text)


def _describe(routes: Sequence[Route], version: str) -> str:
    from gateway.api.openapi import document  # imported here, because only this route needs it

    return json_text(document(routes, version))
