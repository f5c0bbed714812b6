"""Shows start-up times, stalls, delay and quality of the viewers of a channel."""

from __future__ import annotations

from aiohttp import web

from gateway.api import session_schemas
from gateway.api.answers import answer
from gateway.api.channels import stored_channel
from gateway.api.context import CONTEXT
from gateway.api.route import operation
from gateway.api.sessions import live
from gateway.diagnosis.experience import summary


@operation(session_schemas.Experience)
async def show(request: web.Request) -> web.Response:
    """What the viewers of a channel experience.

    Reports start-up time, stalls, delay and quality of the last 30 to 60 minutes, of viewers on all nodes.
    """
    context = request.app[CONTEXT]
    id = request.match_info["id"]
    if live(request, id) is None:
        await stored_channel(request)
    return answer(summary(context.experience.of(id)))
