"""The gateways to which broadcasters push, in the order in which broadcasters try them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import structlog
from aiohttp import web

from gateway.api import schemas
from gateway.api.answers import answer, refusal
from gateway.api.context import CONTEXT, Context, host_of, is_host
from gateway.api.route import operation
from gateway.api.sessions import unanswered_nodes_header
from gateway.channels.addresses import OpenPorts
from gateway.ports.cluster_queries import ClusterQueries
from gateway.ports.errors import StoreUnavailable
from gateway.ports.nodes import Node, NodeRole

log = structlog.get_logger(__name__)

MAX_SERVERS: Final = 100  # broadcasters never try more
_MAX_TIME: Final = 10**12  # seconds since 1970
_ROLES: Final = ("primary", "secondary")  # all others are "standby"
NO_SERVERS = "You need to deploy the backend container before loading this page"  # the old system's text


@operation(list[schemas.Server])
async def servers(request: web.Request) -> web.Response:
    """The live gateways, the preferred one first.

    A broadcaster tries them in this order.
    """
    context = request.app[CONTEXT]
    # This request to all nodes detects a dead node before its missing heartbeats do.
    reported = await context.cluster.ask_all("node")
    listed = await live_servers(context.cluster, context.address_defaults.ports(), host_of(request))
    return answer(listed, headers=unanswered_nodes_header(reported.silent))


async def live_servers(cluster: ClusterQueries, ports: OpenPorts, host: str) -> list[dict[str, Any]]:
    """Returns the answer of `servers`. ports, host: of this node, as the client knows it."""
    local = {"address": host, "ports": ports.as_json()}
    entries = [local if node is None else server_of(node) for node in await _hosts(cluster)]
    usable = [server for server in entries if server is not None][:MAX_SERVERS]
    return [{"role": _role(position), **server} for position, server in enumerate(usable)]


@operation(schemas.BroadcastServers, statuses=(503,))
async def broadcast_servers(request: web.Request) -> web.Response:
    """The two broadcast servers for the old system's browser client.

    Returns a DynamoDB scan, the primary first. The client pushes to the first and uses the second if the first fails.
    `Items` have `role`, `dns`, `replaced` and `eventid`.
    """
    list_servers = request.app[CONTEXT].broadcast_servers
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
    return _role((await _hosts(context.cluster)).index(None))


def _role(position: int) -> str:
    return _ROLES[position] if position < len(_ROLES) else "standby"


async def _hosts(cluster: ClusterQueries) -> list[Node | None]:
    """Returns one gateway of each host in the order of `gateways`; None for this host.

    Processes of a host share its ports.
    """
    local_host = cluster.node.partition(".")[0]
    by_host: dict[str, Node | None] = {}
    for node in gateways(await cluster.nodes()):
        by_host.setdefault(node.host, None if node.host == local_host else node)
    return list(by_host.values()) if None in by_host.values() else [None, *by_host.values()]


def gateways(nodes: Iterable[Node]) -> list[Node]:
    """Returns the nodes that accept pushes, oldest first. Every node returns the same order."""
    return sorted((node for node in nodes if node.role == NodeRole.GATEWAY), key=age_order)


def age_order(node: Node) -> tuple[float, str]:
    """Returns a sort key: older nodes first, and unique for each node."""
    since = node.shown.get("since")
    if isinstance(since, bool) or not isinstance(since, int | float) or not 0 <= since < _MAX_TIME:
        since = math.inf
    return float(since), node.id


def server_of(node: Node) -> dict[str, Any] | None:
    """Returns `{"address", "ports"}` from a node's registry entry; None if the entry is unusable."""
    address, ports = node.shown.get("address"), node.shown.get("ports")
    if not isinstance(address, str) or not is_host(address) or not isinstance(ports, Mapping):
        return None
    return {"address": address, "ports": {name: _port(ports.get(name)) for name in OpenPorts()}}


def _port(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 1 <= value < 65536 else None


async def push_origins(context: Context, limit: int) -> Sequence[str]:
    """Returns `ws://host:port` and `wss://host:port` of at most `limit` other gateways, to which pages may push."""
    origins = []
    others = [
        server for node in await _hosts(context.cluster) if node is not None and (server := server_of(node)) is not None
    ]
    for server in others[:limit]:
        host = f"[{server['address']}]" if ":" in server["address"] else server["address"]
        origins += [f"{scheme}://{host}:{port}" for scheme in ("ws", "wss") if (port := server["ports"][scheme])]
    return origins
