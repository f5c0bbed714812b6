"""The gateways to which broadcasters push, in the order in which broadcasters try them, and the public domains."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from aiohttp import web

from gateway.api import schemas
from gateway.api.answers import answer, refusal
from gateway.api.body import json_object
from gateway.api.context import CONTEXT, Context, host_of
from gateway.api.route import operation
from gateway.api.sessions import unanswered_nodes_header
from gateway.api.settings_events import record_change
from gateway.channels.addresses import PublicDomains
from gateway.ports.errors import StoreUnavailable
from gateway.reports.push_servers import KeyServers, hosts, live_servers, role_at, server_of

log = structlog.get_logger(__name__)

KEY_SERVERS: Final = web.AppKey("servers", KeyServers)
# Only with the table of broadcast servers.
BROADCAST_SERVERS: Final[web.AppKey[Callable[[], Awaitable[list[dict[str, str]]]]]] = web.AppKey("broadcast servers")
NO_SERVERS = "You need to deploy the backend container before loading this page"  # the old system's text


@operation(list[schemas.Server])
async def servers(request: web.Request) -> web.Response:
    """The live gateways, the preferred one first. With a push domain, that domain alone.

    A broadcaster tries them in this order.
    """
    context = request.app[CONTEXT]
    # This request to all nodes detects a dead node before its missing heartbeats do.
    reported = await context.cluster.ask_all("node")
    ports, domains = context.address_defaults.ports(), await context.domains.get_domains()
    listed = await live_servers(context.cluster, domains, ports, host_of(request))
    return answer(listed, headers=unanswered_nodes_header(reported.silent))


@operation(
    list[schemas.Server], statuses=(403, 503), query=(("sign", "the stream key of the channel, <expiry>-<hash>"),)
)
async def servers_for_key(request: web.Request) -> web.Response:
    """The live gateways, for a publisher that has only a stream key."""
    id, key = request.match_info["id"], request.query.get("sign", "")
    return answer(await request.app[KEY_SERVERS].list(id, key, host_of(request)))


@operation(schemas.BroadcastServers, statuses=(503,))
async def broadcast_servers(request: web.Request) -> web.Response:
    """The two broadcast servers for the old system's browser client.

    Returns a DynamoDB scan, the primary first. The client pushes to the first and uses the second if the first fails.
    `Items` have `role`, `dns`, `replaced` and `eventid`.
    """
    list_servers = request.app.get(BROADCAST_SERVERS)
    try:
        rows = await list_servers() if list_servers is not None else []
    except StoreUnavailable as error:
        log.warning("the table of broadcast servers cannot be read", reason=str(error))
        return refusal(503, "the table of servers does not answer now", retry_after=error.retry_after)
    if not rows:
        return refusal(503, NO_SERVERS)
    return answer({"Items": rows, "Count": len(rows), "ScannedCount": len(rows)})


async def role(context: Context) -> str:
    """Returns this node's role, as in `servers`."""
    return role_at((await hosts(context.cluster)).index(None))


async def push_origins(context: Context, limit: int) -> Sequence[str]:
    """Returns `ws://host:port` and `wss://host:port` of at most `limit` other gateways, to which pages may push."""
    origins = []
    others = [
        server for node in await hosts(context.cluster) if node is not None and (server := server_of(node)) is not None
    ]
    for server in others[:limit]:
        host = f"[{server['address']}]" if ":" in server["address"] else server["address"]
        origins += [f"{scheme}://{host}:{port}" for scheme in ("ws", "wss") if (port := server["ports"][scheme])]
    return origins


@operation(schemas.Domains)
async def domains(request: web.Request) -> web.Response:
    """The push and pull domains."""
    return answer((await request.app[CONTEXT].domains.get_domains()).as_json())


@operation(schemas.Domains, body=schemas.DomainChanges)
async def set_domains(request: web.Request) -> web.Response:
    """Set the push and pull domains.

    All addresses shown later use them. An empty domain means this node's own address.
    """
    context = request.app[CONTEXT]
    body = await json_object(request)
    domains = PublicDomains.from_json(body, await context.domains.get_domains())
    await context.domains.set_domains(domains)
    log.info("domains changed", push=domains.push, pull=domains.pull)
    await record_change(request, "domains", "changed", fields=[name for name in ("pushDNS", "pullDNS") if name in body])
    return answer(domains.as_json())
