"""Reads channels from gateways: the rules for players, and the enabled outputs."""

from typing import Final

import structlog

from gateway.channels.channel import Channel
from gateway.channels.names import is_channel_id
from gateway.channels.stores import ChannelReader
from gateway.cluster.members.node_address import NodeAddress, PeerRefused, PeerUnavailable, StreamLocator
from gateway.cluster.members.peers import Peers
from gateway.lib import bounded_json
from gateway.ports.errors import NoSuchChannel, StoreUnavailable
from proxy.edge.gateways import Gateways

log = structlog.get_logger(__name__)

_TIMEOUT_SECONDS: Final = 3.0  # for the answer of one gateway
_MAX_CONCURRENT: Final = 256  # requests; limited, because viewers can request any id


class RemoteChannels:
    """Reads channels from the gateways, which may have separate stores. A ChannelReader; use it behind CachedChannels.

    A channel counts as missing only if all gateways answer this. If one gateway sends no answer, StoreUnavailable is
    raised, because anyone may play a missing channel.

    operation: "channel", or "deleted" for the remaining data of deleted channels.
    """

    def __init__(self, gateways: Gateways, locator: StreamLocator, peers: Peers, operation: str = "channel") -> None:
        self._gateways, self._locator, self._peers, self._operation = gateways, locator, peers, operation
        self._running = 0

    async def get(self, id: str) -> Channel:
        """Returns the channel with its public fields. Raises NoSuchChannel, StoreUnavailable."""
        if not is_channel_id(id):
            raise NoSuchChannel(id)
        if self._running >= _MAX_CONCURRENT:
            raise StoreUnavailable("too many channels are requested", 1)
        self._running += 1
        try:
            return await self._ask(id)
        finally:
            self._running -= 1

    async def _ask(self, id: str) -> Channel:
        failure = "no gateway is available"
        gateways = await self._gateways.in_order(self._locator.known(id))
        unknown = 0
        for gateway in gateways:
            try:
                return await _read(self._peers, gateway, id, self._operation)
            except PeerRefused as refused:
                unknown += refused.status == 404
                failure = str(refused)
            except PeerUnavailable as error:
                self._gateways.mark_failed(gateway)
                failure = str(error)
            except ValueError as error:
                failure = f"node {gateway.id} at {gateway.address}: {error}"
        if gateways and unknown == len(gateways):
            raise NoSuchChannel(id)
        raise StoreUnavailable(failure)


class HolderFirstChannels:
    """Reads the channel of a live stream from the node that holds the stream, else from the shared store.

    A ChannelReader. It avoids that every edge reads the store for every stream.
    """

    def __init__(self, store: ChannelReader, locator: StreamLocator, peers: Peers) -> None:
        self._store, self._locator, self._peers = store, locator, peers

    async def get(self, id: str) -> Channel:
        """Returns the channel. Raises NoSuchChannel, StoreUnavailable."""
        node = self._locator.known(id) if is_channel_id(id) else None
        if node is not None:
            try:
                return await _read(self._peers, node, id)
            except (PeerUnavailable, PeerRefused, ValueError) as error:
                log.debug("the channel cannot be read from the node with its stream", channel=id, reason=str(error))
        return await self._store.get(id)


async def _read(peers: Peers, node: NodeAddress, id: str, operation: str = "channel") -> Channel:
    """Returns a channel's public fields from one node.

    Raises PeerUnavailable, PeerRefused, and ValueError for an invalid answer.
    """
    item = bounded_json.loads(await peers.ask(node, "GET", f"/_node/.node/{operation}/{id}", seconds=_TIMEOUT_SECONDS))
    if not isinstance(item, dict) or item.get("id") != id:
        raise ValueError("the answer has another channel")
    return Channel(item)
