"""The log level. It can change at run time and is reset at the next start."""

from __future__ import annotations

import structlog
from aiohttp import web

from gateway.api import console_schemas
from gateway.api.answers import BadRequest, answer
from gateway.api.body import json_object
from gateway.api.route import operation
from gateway.lib.log import LEVELS, levels

log = structlog.get_logger(__name__)


@operation(console_schemas.LogLevel)
async def show(request: web.Request) -> web.Response:
    """The log level."""
    return answer({"level": levels.name})


@operation(console_schemas.LogLevel, body=console_schemas.LogLevel)
async def update(request: web.Request) -> web.Response:
    """Change the log level until the next start.

    Channels with their own logLevel keep it.
    """
    body = await json_object(request)
    level = body.get("level")
    if not isinstance(level, str) or level not in LEVELS:
        raise BadRequest(f"expected {', '.join(LEVELS)}", field="level")
    before = levels.name
    if level != before:
        # Logged before the change, because the new level may suppress it.
        log.warning("log level changed", before=before, level=level)
        levels.general(level)
    return answer({"level": level})
