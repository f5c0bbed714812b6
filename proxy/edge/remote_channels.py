"""Reads channels from gateways: who may play, which outputs are on."""

from __future__ import annotations

import json
from typing import Final

import structlog

from gateway.channels.channel import Channel
from gateway.channels.names import is_channel_id
from gateway.channels.stores import ChannelReader
from gateway.cluster.node_address import NodeAddress, PeerRefused, PeerUnavailable, StreamLocator
from gateway.cluster.peers import Peers
from gateway.ports.errors import NoSuchChannel, StoreUnavailable
from proxy.edge.gateways import Gateways

log = structlog.get_logger(__name__)

_SECONDS: Final = 3.0  # for the answer of one gateway
_MAX_CONCURRENT: Final = 256  # requests at the same time; limited, because viewers can request any id


class RemoteChannels:
    """Reads channels from the gateways, which may have separate stores. A ChannelReader; use it behind CachedChannels.

    A channel counts as missing only if all gateways say so. If one gives no answer, StoreUnavailable is raised, because
    a missing channel would be open for everybody.
    operation: "channel", or "deleted" for the remaining data of deleted channels.
    """

    def __init__(self, gateways: Gateways, where: StreamLocator, peers: Peers, operation: str = "channel") -> None:
        self._gateways = gateways
        self._where = where
        self._peers = peers
        self._operation = operation
        self._asking = 0

    async def get(self, id: str) -> Channel:
        """Returns the channel with its public fields. Raises NoSuchChannel, StoreUnavailable."""
        if not is_channel_id(id):
            raise NoSuchChannel(id)
        if self._asking >= _MAX_CONCURRENT:
            raise StoreUnavailable("too many channels are asked for", 1)
        self._asking += 1
        try:
            return await self._ask(id)
        finally:
            self._asking -= 1

    async def _ask(self, id: str) -> Channel:
        failure = "no gateway is there"
        places = await self._gateways.all(self._where.known(id))
        unknown = 0
        for place in places:
            try:
                return await _asked(self._peers, place, id, self._operation)
            except PeerRefused as refused:
                unknown += refused.status == 404
                failure = str(refused)
            except PeerUnavailable as away:
                self._gateways.failed(place)
                failure = str(away)
            except ValueError as error:
                failure = f"node {place.node} at {place.address}: {error}"
        if places and unknown == len(places):
            raise NoSuchChannel(id)
        raise StoreUnavailable(failure)


class HolderFirstChannels:
    """Reads the channel of a live stream from the stream's holder, else from the shared store. A ChannelReader.

    So not every edge reads the store for every stream.
    """

    def __init__(self, store: ChannelReader, where: StreamLocator, peers: Peers) -> None:
        self._store = store
        self._where = where
        self._peers = peers

    async def get(self, id: str) -> Channel:
        """Returns the channel. Raises NoSuchChannel, StoreUnavailable."""
        place = self._where.known(id) if is_channel_id(id) else None
        if place is not None:
            try:
                return await _asked(self._peers, place, id)
            except (PeerUnavailable, PeerRefused, ValueError) as error:
                log.debug("a holder does not tell its channel", channel=id, reason=str(error))
        return await self._store.get(id)


async def _asked(peers: Peers, place: NodeAddress, id: str, operation: str = "channel") -> Channel:
    """Returns a channel's public fields from one node.

    Raises PeerUnavailable, PeerRefused, ValueError for a bad answer.
    """
    said = json.loads(await peers.ask(place, "GET", f"/_node/.node/{operation}/{id}", seconds=_SECONDS))
    if not isinstance(said, dict) or said.get("id") != id:
        raise ValueError("another channel in its answer")
    return Channel(said)
