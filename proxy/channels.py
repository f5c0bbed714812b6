"""Channels as gateways know them: who may play, which outputs are on."""

from __future__ import annotations

import json
from typing import Final

import structlog

from gateway.hub.channel import Channel
from gateway.hub.errors import NoSuchChannel, StoreAway
from gateway.hub.names import is_channel_id
from gateway.hub.ports import ChannelReader
from gateway.nodes.peers import Peers
from gateway.nodes.places import PeerAway, PeerRefused, Place, Whereabouts
from proxy.gateways import Gateways

log = structlog.get_logger(__name__)

_SECONDS: Final = 3.0  # for the answer of each
_MOST: Final = 256  # questions at once: ids are the viewers' to choose


class AskedChannels:
    """A ChannelReader; put CachedChannels in front. Gateways may have stores of their own: a channel does not exist
    where all of them say so, and while one cannot say, nobody is told that it is open."""

    def __init__(self, gateways: Gateways, where: Whereabouts, peers: Peers) -> None:
        self._gateways = gateways
        self._where = where
        self._peers = peers
        self._asking = 0

    async def get(self, id: str) -> Channel:
        """Its public fields. Raises NoSuchChannel, StoreAway."""
        if not is_channel_id(id):
            raise NoSuchChannel(id)
        if self._asking >= _MOST:
            raise StoreAway("too many channels are asked for", 1)
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
                return await _asked(self._peers, place, id)
            except PeerRefused as refused:
                unknown += refused.status == 404
                failure = str(refused)
            except PeerAway as away:
                self._gateways.failed(place)
                failure = str(away)
            except ValueError as error:
                failure = f"node {place.node} at {place.address}: {error}"
        if places and unknown == len(places):
            raise NoSuchChannel(id)
        raise StoreAway(failure)


class HeldFirst:
    """A ChannelReader over a store that all share: a live stream's channel is asked of its holder, which knows it. So
    the store is not read by every edge for every stream. What the holder does not say, the store does."""

    def __init__(self, store: ChannelReader, where: Whereabouts, peers: Peers) -> None:
        self._store = store
        self._where = where
        self._peers = peers

    async def get(self, id: str) -> Channel:
        """Raises NoSuchChannel, StoreAway."""
        place = self._where.known(id) if is_channel_id(id) else None
        if place is not None:
            try:
                return await _asked(self._peers, place, id)
            except (PeerAway, PeerRefused, ValueError) as error:
                log.debug("a holder does not tell its channel", channel=id, reason=str(error))
        return await self._store.get(id)


async def _asked(peers: Peers, place: Place, id: str) -> Channel:
    """A channel's public fields as one node knows them. Raises PeerAway, PeerRefused, ValueError for nonsense."""
    said = json.loads(await peers.ask(place, "GET", f"/_node/.node/channel/{id}", seconds=_SECONDS))
    if not isinstance(said, dict) or said.get("id") != id:
        raise ValueError("another channel in its answer")
    return Channel(said)
