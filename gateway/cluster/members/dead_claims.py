"""Releases the streams that dead nodes have claimed, so that nobody looks for them there."""

import asyncio
from typing import Final

import structlog

from gateway.cluster.members.node_address import NodeAddress
from gateway.cluster.members.registry_locator import RegistryLocator
from gateway.lib.bounded_dict import BoundedDict
from gateway.ports.errors import StoreUnavailable
from gateway.ports.nodes import ALIVE_SECONDS
from gateway.ports.stores import Registry

log = structlog.get_logger(__name__)

_CHECK_SECONDS: Final = 3 * ALIVE_SECONDS  # a node is dead if it is not in the registry or had no heartbeat meanwhile
_MAX_SUSPECTS: Final = 1000


class DeadClaims:
    """Checks the nodes that did not answer for a stream. `run` must be running.

    A claim that is released is one that its node has left: the next node continues its numbers. If the node lives after
    all, it restores its claim.
    """

    def __init__(self, registry: Registry, locator: RegistryLocator) -> None:
        self._registry = registry
        self._locator = locator
        self._suspects: BoundedDict[str, tuple[str, str]] = BoundedDict(_MAX_SUSPECTS)  # by claim: channel, node
        self._beats: dict[str, int] = {}  # by node: as the last check read them
        locator.on_failed = self._suspect

    def _suspect(self, channel: str, node: NodeAddress) -> None:
        self._suspects[node.claim] = channel, node.id

    async def run(self) -> None:
        """Checks the nodes every _CHECK_SECONDS, until it is cancelled."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            try:
                await self.check()
            except StoreUnavailable as error:
                log.debug("the claims of nodes that do not answer cannot be checked", reason=str(error))

    async def check(self) -> None:
        """Releases the claims of dead nodes. Raises StoreUnavailable. Then the next check repeats it."""
        suspects = list(self._suspects.items())
        nodes = {id: await self._registry.node(id) for id in {id for _, (_, id) in suspects}}
        for claim, (channel, id) in suspects:
            node = nodes[id]
            if node is None or node.beat == self._beats.get(id):
                log.warning("releasing the stream of a dead node", stream=channel, node=id)
                await self._registry.release(channel, claim, left=True)
                self._locator.forget(channel)
            elif id not in self._beats:
                continue  # only the next check shows whether it lives
            self._suspects.pop(claim, None)
        self._beats = {id: node.beat for id, node in nodes.items() if node is not None}
