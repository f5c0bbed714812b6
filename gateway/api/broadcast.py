"""The original's list of servers for its browser client, which pushes to the first and falls back to the second."""

from __future__ import annotations

import structlog
from aiohttp import web

from gateway.api.answers import answer, refusal
from gateway.api.context import CONTEXT
from gateway.hub.errors import StoreAway

log = structlog.get_logger(__name__)

NONE = "You need to deploy the backend container before loading this page"  # the original's words


async def servers(request: web.Request) -> web.Response:
    """As DynamoDB's scan gives them: `Items` of `role`, `dns`, `replaced`, `eventid`, the primary first."""
    ask = request.app[CONTEXT].broadcast_servers
    try:
        found = await ask() if ask is not None else []
    except StoreAway as away:
        log.warning("the servers of broadcasters cannot be read", reason=str(away))
        return refusal(503, "the table of servers does not answer now", retry_after=away.retry_after)
    if not found:
        return refusal(503, NONE)
    return answer({"Items": found, "Count": len(found), "ScannedCount": len(found)})
