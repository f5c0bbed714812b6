"""Servers: the gateways that live, in the order in which broadcasters try them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from gateway.api.answers import answer
from gateway.api.context import CONTEXT, Context, host_of, is_host
from gateway.api.sessions import silence
from gateway.hub.addresses import Ports
from gateway.hub.nodes import Node, Role

MOST_SERVERS: Final = 100  # beyond them nobody tries
_ROLES: Final = ("primary", "secondary")  # all others stand by


async def servers(request: web.Request) -> web.Response:
    """The live gateways, the preferred one first; a broadcaster goes down the list."""
    context = request.app[CONTEXT]
    heard = await context.cluster.everywhere("node")  # who refuses connections is dead before its beat stands still
    own = {"address": host_of(request), "ports": context.shown.ports().as_json()}
    found = [own if node is None else server_of(node) for node in await _hosts(context)]
    usable = [server for server in found if server is not None][:MOST_SERVERS]
    listed = [{"role": _role(context, place), **server} for place, server in enumerate(usable)]
    return answer(listed, headers=silence(heard.silent))


async def role(context: Context) -> str:
    """This node's, as `servers` has it."""
    return _role(context, (await _hosts(context)).index(None))


def _role(context: Context, place: int) -> str:
    if not context.cluster.node:
        return context.role
    return _ROLES[place] if place < len(_ROLES) else "standby"


async def _hosts(context: Context) -> list[Node | None]:
    """A gateway of each host, whose processes share its ports, in the order of `gateways`; None for this host."""
    here = context.cluster.node.partition(".")[0]
    found: dict[str, Node | None] = {}
    for node in gateways(await context.cluster.nodes()):
        found.setdefault(node.host, None if node.host == here else node)
    return list(found.values()) if None in found.values() else [None, *found.values()]


def gateways(nodes: Iterable[Node]) -> list[Node]:
    """Those that take pushes, the oldest first: every node gives them in the same order."""
    return sorted((node for node in nodes if node.role == Role.GATEWAY), key=age)


def age(node: Node) -> tuple[float, str]:
    """Less for those that are older; never the same for two."""
    since = node.shown.get("since")
    if isinstance(since, bool) or not isinstance(since, int | float) or not math.isfinite(since):
        since = math.inf
    return float(since), node.id


def shown(host: str, ports: Ports, since: float) -> dict[str, Any]:
    """What a gateway tells of itself in the registry (`Node.shown`). host: under which publishers and pages reach it;
    since: when it started, seconds since the epoch."""
    return {"address": host, "ports": ports.as_json(), "since": round(since, 3)}


def server_of(node: Node) -> dict[str, Any] | None:
    """`{"address", "ports"}` of what a node has in the registry; None where that cannot be used."""
    address, ports = node.shown.get("address"), node.shown.get("ports")
    if not isinstance(address, str) or not is_host(address) or not isinstance(ports, Mapping):
        return None
    return {"address": address, "ports": {name: _port(ports.get(name)) for name in Ports().as_json()}}


def _port(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 1 <= value < 65536 else None


async def push_origins(context: Context, most: int) -> Sequence[str]:
    """Where other gateways take pushes from pages: `ws://host:port` and `wss://host:port`, of at most so many."""
    found = []
    others = [server for node in await _hosts(context) if node is not None and (server := server_of(node)) is not None]
    for server in others[:most]:
        host = f"[{server['address']}]" if ":" in server["address"] else server["address"]
        found += [f"{scheme}://{host}:{port}" for scheme in ("ws", "wss") if (port := server["ports"][scheme])]
    return found
