"""Shows the list of channels by pages, with search and order."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from gateway.api import schemas
from gateway.api.answers import BadRequest, answer
from gateway.api.authenticators import USER
from gateway.api.context import CONTEXT
from gateway.api.moments import page_limit
from gateway.api.route import operation
from gateway.api.sessions import online_sessions, unanswered_nodes_header
from gateway.channels.channel_list import ChannelOrder, ChannelQuery, search_words
from gateway.lib.numbers import read_integer

_MAX_LIMIT: Final = 500
_DEFAULT_LIMIT: Final = 50
_MAX_OFFSET: Final = 1_000_000_000
_MAX_SEARCH: Final = 200  # characters
_STATES: Final = ("live", "idle", "expired")
_ORDERS: Final = tuple(ChannelOrder)
QUERY: Final = (
    ("search", "words that the name, the description or the id must contain, in upper or lower case"),
    ("state", f"only channels in this state: {', '.join(_STATES)}"),
    ("sort", f"{', '.join(_ORDERS)} (default name); with - before it descending"),
    ("limit", f"the number of channels, 1 to {_MAX_LIMIT} (default {_DEFAULT_LIMIT})"),
    ("offset", "the number of channels before the page (default 0)"),
)


@operation(schemas.ChannelPage, query=QUERY)
async def page(request: web.Request) -> web.Response:
    """List, search and order the channels by pages."""
    context, rights, asked = request.app[CONTEXT], request[USER].rights, request.query
    sort, state = asked.get("sort", ChannelOrder.NAME), asked.get("state", "")
    offset = read_integer(asked.get("offset", "0"), _MAX_OFFSET)
    if sort.removeprefix("-") not in _ORDERS:
        raise BadRequest(f"expected one of {', '.join(_ORDERS)}, or - and one of them", field="sort")
    if state and state not in _STATES:
        raise BadRequest(f"expected one of {', '.join(_STATES)}", field="state")
    if offset is None:
        raise BadRequest(f"expected a number up to {_MAX_OFFSET}", field="offset")
    if len(asked.get("search", "")) > _MAX_SEARCH:
        raise BadRequest(f"expected a text of at most {_MAX_SEARCH} characters", field="search")
    limit, order = page_limit(asked.get("limit", str(_DEFAULT_LIMIT)), _MAX_LIMIT), ChannelOrder(sort.removeprefix("-"))
    sessions, silent = await online_sessions(request)
    now = context.clock()
    query = ChannelQuery(
        int(now),
        {str(one["id"]): _rank(one, order) for one in sessions},
        None if rights.all_channels else rights.channels,
        search_words(asked.get("search", "")),
        [_STATES.index(state)] if state else range(len(_STATES)),
        order,
        sort.startswith("-"),
        limit,
        offset,
    )
    found = await context.channels.find(query)
    presenter = await context.presenter(request)
    channels = [presenter.present(channel, now) for channel in found.channels]
    states = {name: found.states.get(number, 0) for number, name in enumerate(_STATES)}
    shown = {"channels": channels, "found": found.found, "states": states}
    return answer(shown, headers=unanswered_nodes_header(silent))


def _rank(session: Mapping[str, Any], order: ChannelOrder) -> float:
    """Returns the viewers, or the place of the state: live, live with a slate, lingering, paused."""
    if order is ChannelOrder.VIEWERS:
        return float(sum(session.get("viewers", {}).values()))
    if session.get("state") != "live":
        return 3 if session.get("paused") else 2
    return 1 if session.get("inputKind") == "slate" else 0
