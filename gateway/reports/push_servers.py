"""The gateways to which publishers push, in the order in which they try them, and the answer for a stream key."""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.channels.addresses import OpenPorts, PublicDomains, push_server
from gateway.channels.names import is_channel_id
from gateway.channels.stores import ChannelReader, DomainStore, find_channel
from gateway.channels.stream_key import SigningSecrets, Verdict
from gateway.http.origin_policy import hostname, is_host
from gateway.http.request import Request
from gateway.http.response import JSON, Answer, Response, not_allowed, service_unavailable, text
from gateway.ports.cluster_queries import ClusterQueries
from gateway.ports.errors import NotAuthorized, StoreUnavailable
from gateway.ports.nodes import Node, NodeRole

MAX_SERVERS: Final = 100  # broadcasters never try more
_MAX_TIME: Final = 10**12  # seconds since 1970
_ROLES: Final = ("primary", "secondary")  # all others are "standby"
_REFUSED: Final = "a valid stream key of this channel is needed: ?sign=<expiry>-<hash>"  # also for unknown channels


@dataclass(frozen=True, slots=True)
class KeyServers:
    """Lists the push servers for a valid push key.

    channels: may be a cache. Then a client with a newly revoked key can still list the servers, but cannot push.
    A wrong signature causes no read of the store. ports: returns the open ports. clock: seconds since 1970.
    """

    secrets: SigningSecrets = field(repr=False)
    channels: ChannelReader
    domains: DomainStore
    cluster: ClusterQueries
    ports: Callable[[], OpenPorts]
    clock: Callable[[], float] = time.time

    async def list(self, id: str, key: str, host: str) -> list[dict[str, Any]]:
        """Returns the servers as `GET /servers`. host: of this node, as the client knows it.

        Raises NotAuthorized, StoreUnavailable.
        """
        now = self.clock()
        if not is_channel_id(id) or self.secrets.verify(id, key, now) is not Verdict.VALID:
            raise NotAuthorized(_REFUSED)
        channel = await find_channel(self.channels, id)
        if self.secrets.verify_push(id, channel.key if channel is not None else None, key, now) is not Verdict.VALID:
            raise NotAuthorized(_REFUSED)
        return await live_servers(self.cluster, await self.domains.get_domains(), self.ports(), host)

    async def respond(self, request: Request, id: str) -> Answer:
        """Answers on the playback listener. id: the rest of the path."""
        if request.method not in ("GET", "HEAD"):
            return not_allowed("GET, HEAD")
        try:
            listed = await self.list(id, request.query.get("sign", ""), hostname(request.host))
        except NotAuthorized as error:
            return text(403, str(error))
        except StoreUnavailable as error:
            return service_unavailable("the servers cannot be listed now", error.retry_after)
        return Response(200, json.dumps(listed).encode(), JSON)


async def live_servers(
    cluster: ClusterQueries, domains: PublicDomains, ports: OpenPorts, host: str
) -> list[dict[str, Any]]:
    """Returns the answer of `GET /servers`. ports, host: of this node, as the client knows it.

    With a push domain it has only that: clients may not reach the nodes, whose addresses are those of their network.
    """
    if domains.push:
        return [{"role": role_at(0), **push_server(domains, ports)}]
    local = {"address": host, "ports": ports.as_json()}
    entries = [local if node is None else server_of(node) for node in await hosts(cluster)]
    usable = [server for server in entries if server is not None][:MAX_SERVERS]
    return [{"role": role_at(position), **server} for position, server in enumerate(usable)]


def role_at(position: int) -> str:
    """Returns the role of a gateway in the list, by its position."""
    return _ROLES[position] if position < len(_ROLES) else "standby"


async def hosts(cluster: ClusterQueries) -> list[Node | None]:
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
