"""The events log: what happened to streams, channels, outputs and jobs on all nodes."""

import re
from dataclasses import replace
from typing import Final

from aiohttp import web

from gateway.api import session_schemas
from gateway.api.answers import BadRequest, answer
from gateway.api.authenticators import USER
from gateway.api.moments import page_limit, read_moment
from gateway.api.route import operation
from gateway.api.schema_base import to_answer
from gateway.channels.names import is_channel_id
from gateway.diagnosis.event_log import EventLog, first_id
from gateway.lib.rfc3339 import rfc3339
from gateway.ports.events import EventType
from gateway.ports.stores import EventQuery
from gateway.ports.users import UserRole

EVENT_LOG: Final = web.AppKey("event log", EventLog)

QUERY: Final = (
    ("channel", "the id of a channel: only its events"),
    ("type", "only events of this type"),
    ("since", "seconds since 1970, or RFC 3339: only events of this time or later"),
    ("before", "the id of an event, or a time like since: only older ones"),
    ("limit", "the number of events, 1 to 1000 (default 100)"),
)
_MAX_LIMIT: Final = 1000
_ID: Final = re.compile(r"[0-9a-f]{24}", re.ASCII)


@operation(list[session_schemas.LoggedEvent], statuses=(503,), query=QUERY)
async def index(request: web.Request) -> web.Response:
    """What happened, the newest first.

    For the next page, `before` is the last id of the current page.
    """
    events = await request.app[EVENT_LOG].newest(_read_query(request))
    if request[USER].rights.role is not UserRole.ADMINISTRATOR:  # the addresses of administrators are not shown
        events = [
            replace(e, data={k: v for k, v in e.data.items() if k != "peer" or "by" not in e.data}) for e in events
        ]
    return answer([to_answer(session_schemas.LoggedEvent, event, time=rfc3339(event.time)) for event in events])


def _read_query(request: web.Request) -> EventQuery:
    """Returns the checked query. Raises BadRequest."""
    query = request.query
    channel, type = query.get("channel", ""), query.get("type", "")
    if channel and not is_channel_id(channel):
        raise BadRequest("expected the id of a channel", field="channel")
    if type and type not in set(EventType):
        raise BadRequest(f"expected one of {', '.join(EventType)}", field="type")
    limit = page_limit(query.get("limit", "100"), _MAX_LIMIT)
    before = query.get("before", "")
    if not _ID.fullmatch(before):
        before = _first_id(before, "before", "the id of an event, ")
    return EventQuery(limit, channel, type, _first_id(query.get("since", ""), "since"), before)


def _first_id(text: str, field: str, other: str = "") -> str:
    """Returns the smallest event id of a time; "" for "". other: see `read_moment`. Raises BadRequest."""
    return first_id(read_moment(text, field, other)) if text else ""
