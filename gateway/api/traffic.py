"""The traffic of channels by UTC day."""

import asyncio
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from gateway.api import session_schemas
from gateway.api.answers import BadRequest, answer
from gateway.api.channels import stored_channel
from gateway.api.context import CONTEXT, Context
from gateway.api.route import operation
from gateway.diagnosis.daily_traffic import DAYS, Bytes
from gateway.ports.errors import StoreUnavailable

_TODAY_SECONDS: Final = 1.0  # the longest wait of a session for its traffic
QUERY: Final = (("day", f"a UTC day such as 2026-11-26, one of the last {DAYS} (default: today)"),)


@operation(session_schemas.ChannelTraffic, statuses=(503,))
async def show(request: web.Request) -> web.Response:
    """The bytes of a channel on each of the last 31 days.

    `in` is media payload from the publisher, `out` was sent to viewers on all nodes.
    """
    channel = await stored_channel(request)
    days = await request.app[CONTEXT].traffic.days_of(channel.id)
    return answer({"days": [{"day": day, **_shown(sums)} for day, sums in days]})


@operation(session_schemas.TrafficOfAll, statuses=(503,), query=QUERY)
async def index(request: web.Request) -> web.Response:
    """The bytes of all channels on one day.

    Deleted channels are included.
    """
    traffic = request.app[CONTEXT].traffic
    day = request.query.get("day", traffic.days[0])
    if day not in traffic.days:
        raise BadRequest(f"expected one of the last {DAYS} days, such as {traffic.days[0]}", field="day")
    sums = await traffic.of_day(day)
    total = sum(received for received, _ in sums.values()), sum(sent for _, sent in sums.values())
    most = sorted(sums.items(), key=lambda item: item[1][1], reverse=True)
    return answer({"day": day, **_shown(total), "channels": [{"id": id, **_shown(of)} for id, of in most]})


async def today(context: Context, channel: str) -> Mapping[str, int] | None:
    """Returns the bytes of a channel on this day; None if the store does not answer at once."""
    try:
        async with asyncio.timeout(_TODAY_SECONDS):
            return _shown(await context.traffic.of_channel(channel, context.traffic.days[0]))
    except (StoreUnavailable, TimeoutError):
        return None


def _shown(sums: Bytes) -> dict[str, int]:
    return {"in": sums[0], "out": sums[1]}
