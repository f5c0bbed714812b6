"""Requests to the operations of other nodes: their addresses, and whether a node holds a stream."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from gateway.cluster.members.node_address import NodeAddress
from gateway.cluster.members.peers import Peers

NOT_THIS_NODE: Final = 421  # RFC 9110 §15.5.20: the request is for another node, or the stream is no longer here
HELD: Final = "held"  # the operation that `check_held` asks for
_HELD_SECONDS: Final = 5.0  # for the answer of `check_held`


def operation_target(node: NodeAddress, path: str, query: Mapping[str, str] = {}) -> str:
    """Returns the target of a request to a node: path and query.

    `to` names one of the processes that share an address. A node from the settings has only an address.
    """
    to = {"to": node.id} if node.id not in ("", node.address) else {}
    return f"/_node/.node/{path}?{urlencode({**query, **to})}"


async def check_held(peers: Peers, node: NodeAddress, channel: str) -> None:
    """Asks whether `node` holds a channel's stream. Raises PeerUnavailable; PeerRefused (421) if it does not."""
    await peers.ask(node, "GET", operation_target(node, f"{HELD}/{channel}"), seconds=_HELD_SECONDS)
