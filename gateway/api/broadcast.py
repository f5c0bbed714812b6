"""The original's list of servers for its browser client, which pushes to the first and falls back to the second."""

from __future__ import annotations

import structlog
from aiohttp import web

from gateway.api.answers import answer, refusal
from gateway.api.context import CONTEXT
from gateway.ports.errors import StoreUnavailable

log = structlog.get_logger(__name__)

NO_SERVERS = "You need to deploy the backend container before loading this page"  # the original's text


async def servers(request: web.Request) -> web.Response:
    """Returns the servers in the form of a DynamoDB scan, the primary first.

    `Items` have `role`, `dns`, `replaced` and `eventid`.
    """
    ask = request.app[CONTEXT].broadcast_servers
    try:
        found = await ask() if ask is not None else []
    except StoreUnavailable as away:
        log.warning("the servers of broadcasters cannot be read", reason=str(away))
        return refusal(503, "the table of servers does not answer now", retry_after=away.retry_after)
    if not found:
        return refusal(503, NO_SERVERS)
    return answer({"Items": found, "Count": len(found), "ScannedCount": len(found)})
