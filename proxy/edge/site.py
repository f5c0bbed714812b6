"""Reads from gateways what an edge needs besides streams: the readable names of channels, and the site."""

from collections.abc import Iterable
from typing import Final

import structlog

from gateway.channels.names import is_channel_id
from gateway.channels.site import Site
from gateway.channels.slugs import MAX_NAMES, SLUG, NamedChannel, is_slug
from gateway.cluster.members.node_address import PeerRefused, PeerUnavailable
from gateway.cluster.members.peers import Peers
from gateway.lib import bounded_json
from gateway.playback.slugs import NameTable
from gateway.ports.errors import StoreUnavailable
from proxy.edge.gateways import Gateways

log = structlog.get_logger(__name__)

_ASK_SECONDS: Final = 3.0  # for the answer of one gateway
_MAX_BYTES: Final = 400 * MAX_NAMES


class RemoteSite:
    """Reads the table of names and the site of the gateways. separate_stores: see RemotePublicChannels."""

    def __init__(self, gateways: Gateways, peers: Peers, *, separate_stores: bool) -> None:
        self._gateways, self._peers, self._separate_stores = gateways, peers, separate_stores

    async def table(self) -> NameTable:
        """Returns the table. Raises StoreUnavailable if no gateway has one."""
        table: dict[str, NamedChannel] = {}
        answered = False
        for gateway in await self._gateways.in_order():
            try:
                body = await self._peers.ask(
                    gateway, "GET", "/_node/.node/slugs", seconds=_ASK_SECONDS, max_bytes=_MAX_BYTES
                )
                entries = dict(_entries(body.splitlines()))
            except (PeerUnavailable, PeerRefused, ValueError) as error:
                if isinstance(error, PeerUnavailable):
                    self._gateways.mark_failed(gateway)
                log.debug("a gateway does not list its slugs", node=gateway.id, reason=str(error))
                continue
            answered = True
            table = {**entries, **table}
            if not self._separate_stores:
                break
        if not answered:
            raise StoreUnavailable("no gateway lists its slugs")
        return table

    async def site(self) -> Site:
        """Returns the site of the first gateway that has one. Raises StoreUnavailable."""
        answered = False
        for gateway in await self._gateways.in_order():
            try:
                body = await self._peers.ask(gateway, "GET", "/_node/.node/site", seconds=_ASK_SECONDS)
                found = bounded_json.loads(body)
            except (PeerUnavailable, PeerRefused, ValueError) as error:
                log.debug("a gateway does not tell its site", node=gateway.id, reason=str(error))
                continue
            answered = True
            site = Site.from_json(found) if isinstance(found, dict) else Site()
            if site != Site():
                return site
        if not answered:
            raise StoreUnavailable("no gateway tells its site")
        return Site()


def _entries(lines: Iterable[bytes]) -> Iterable[tuple[str, NamedChannel]]:
    """Yields the valid entries of a gateway's answer. Raises ValueError."""
    for line, _ in zip(lines, range(MAX_NAMES), strict=False):
        entry = bounded_json.loads(line)
        slug, id, name = (entry.get(key) if isinstance(entry, dict) else None for key in (SLUG, "id", "name"))
        if not isinstance(slug, str) or not isinstance(id, str) or not isinstance(name, str):
            continue
        if is_slug(slug) and is_channel_id(id) and is_channel_id(name):
            yield slug, NamedChannel(id, name)
