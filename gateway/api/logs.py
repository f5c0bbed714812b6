"""The log's level, changed while the gateway runs; it holds until the next start."""

from __future__ import annotations

import structlog
from aiohttp import web

from gateway.api.answers import BadRequest, answer
from gateway.api.body import json_object
from gateway.api.context import CONTEXT
from gateway.lib.log import LEVELS, levels

log = structlog.get_logger(__name__)


async def show(request: web.Request) -> web.Response:
    return answer({"level": levels.name})


async def update(request: web.Request) -> web.Response:
    """Of this node. Channels with a logLevel of their own keep it."""
    body = await json_object(request, request.app[CONTEXT].limits.request)
    level = body.get("level")
    if not isinstance(level, str) or level not in LEVELS:
        raise BadRequest(f"expected {', '.join(LEVELS)}", field="level")
    before = levels.name
    if level != before:
        log.warning("log level changed", before=before, level=level)  # while and as long as somebody can see it
        levels.general(level)
    return answer({"level": level})
