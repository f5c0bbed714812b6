"""Reads the list of public channels from gateways, for the home page of an edge."""

from collections.abc import Mapping
from typing import Any, Final

import structlog

from gateway.channels.names import is_channel_id
from gateway.cluster.members.node_address import NodeAddress, PeerRefused, PeerUnavailable
from gateway.cluster.members.peers import Peers
from gateway.lib import bounded_json
from gateway.playback.public_channels import MAX_CHANNELS, Entries, first_entries
from gateway.ports.errors import StoreUnavailable
from proxy.edge.gateways import Gateways

log = structlog.get_logger(__name__)

_ASK_SECONDS: Final = 3.0  # for the answer of one gateway
_TYPES: Final = {"id": str, "name": str, "description": str, "live": bool, "viewers": int}


class RemotePublicChannels:
    """Reads the entries of `channels.json` from gateways.

    separate_stores: whether the gateways may have separate stores. If so, all gateways are asked. Otherwise the first
    that answers is enough.
    """

    def __init__(self, gateways: Gateways, peers: Peers, *, separate_stores: bool) -> None:
        self._gateways, self._peers, self._separate_stores = gateways, peers, separate_stores

    async def entries(self) -> Entries:
        """Returns the list, live channels first. Raises StoreUnavailable if no gateway has one."""
        found: dict[str, Mapping[str, Any]] = {}
        answered = False
        for gateway in await self._gateways.in_order():
            try:
                entries = await self._read(gateway)
            except (PeerUnavailable, PeerRefused, ValueError) as error:
                if isinstance(error, PeerUnavailable):
                    self._gateways.mark_failed(gateway)
                log.debug("a gateway does not list its channels", node=gateway.id, reason=str(error))
                continue
            answered = True
            for entry in entries:
                if entry["id"] not in found or entry["live"]:
                    found[entry["id"]] = entry
            if not self._separate_stores:
                break
        if not answered:
            raise StoreUnavailable("no gateway lists its channels")
        return first_entries(found.values())

    async def _read(self, gateway: NodeAddress) -> list[Mapping[str, Any]]:
        """Returns the valid entries of one gateway. Raises PeerUnavailable, PeerRefused, and ValueError for no list."""
        answer = bounded_json.loads(await self._peers.ask(gateway, "GET", "/_node/.node/public", seconds=_ASK_SECONDS))
        entries = answer.get("channels") if isinstance(answer, dict) else None
        if not isinstance(entries, list):
            raise ValueError("the answer has no list")
        return [entry for entry in entries[:MAX_CHANNELS] if _is_valid(entry)]


def _is_valid(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(name), type) for name, type in _TYPES.items())
        and is_channel_id(entry["id"])
    )
