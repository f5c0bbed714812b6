"""Parts of an edge over nodes that say what a test tells them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from gateway.nodes.origin import Origin
from gateway.nodes.peers import Peers
from gateway.nodes.places import Whereabouts
from gateway.nodes.vigil import Vigil
from proxy.gateways import Gateways, Store


@contextlib.asynccontextmanager
async def storing(gateways: Gateways, where: Whereabouts, peers: Peers) -> AsyncIterator[Store]:
    """What asks gateways for files."""
    async with Vigil(peers) as vigil:
        yield Store(gateways, Origin(where, peers, vigil), where)
