"""The traffic of channels by UTC day."""

from aiohttp import web

from gateway.api import session_schemas
from gateway.api.answers import answer
from gateway.api.channels import stored_channel
from gateway.api.context import CONTEXT
from gateway.api.route import operation


@operation(session_schemas.TrafficByDay, statuses=(503,))
async def show(request: web.Request) -> web.Response:
    """The bytes of a channel on each of the last 31 days.

    On all nodes; those of other processes are up to two minutes old.
    """
    return await _answer(request, (await stored_channel(request)).id)


@operation(session_schemas.TrafficByDay, statuses=(503,))
async def index(request: web.Request) -> web.Response:
    """The bytes of all channels on each of the last 31 days.

    Deleted channels are included.
    """
    return await _answer(request, "")


async def _answer(request: web.Request, channel: str) -> web.Response:
    days = await request.app[CONTEXT].traffic.by_day(channel)
    return answer({"days": [{"day": day, "in": received, "out": sent} for day, received, sent in days]})
