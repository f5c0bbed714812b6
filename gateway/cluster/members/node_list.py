"""The nodes of the cluster as this node last read them, for the choice of nodes."""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import Final

import structlog

from gateway.cluster.members.node_liveness import NodeLiveness
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.clocks import Clock
from gateway.ports.errors import StoreUnavailable
from gateway.ports.nodes import Node
from gateway.ports.stores import Registry

log = structlog.get_logger(__name__)

READ_SECONDS: Final = 10.0  # minimum time between two reads of the registry's nodes
WAIT_SECONDS: Final = 2.0  # time for which `refresh` waits for a read
_MAX_MISSED: Final = 1000


class NodeList:
    """The live nodes. `run` must be running.

    One request reads all nodes if they are needed, at most every READ_SECONDS. Heartbeats may bring them too: then
    nothing is read. If the registry is unavailable, the last nodes are used.

    live: the nodes that were alive at the last read, by id. Only reads show heartbeats.
    Counter: `reads` (also by heartbeats).
    """

    def __init__(self, registry: Registry, clock: Clock = time.monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._liveness = NodeLiveness(clock)
        self._read_at = float("-inf")
        self._requested = asyncio.Event()
        self._read_done = asyncio.Event()  # set after the next read
        self._registry_failed = False
        self._pause: float | None = None
        # Nodes that were expected in vain. The nodes were read once for each.
        self._missed: BoundedDict[str, None] = BoundedDict(_MAX_MISSED)
        self._is_urgent = False
        self._has_two_fleets = False
        self.live: dict[str, Node] = {}
        self.reads = 0

    def keep_fresh(self) -> None:
        """Makes `run` read the nodes every READ_SECONDS, also if nobody needs them now."""
        self._pause = READ_SECONDS
        self._requested.set()

    def observe(self, nodes: Iterable[Node]) -> None:
        """Takes the nodes that a heartbeat has read."""
        nodes = list(nodes)
        self._registry_failed = False
        self._liveness.observe_all(nodes)
        self.live = {node.id: node for node in nodes if self._liveness.is_alive(node.id)}
        self._look_for_other_fleets()
        self._read_at = self._clock()
        self.reads += 1

    def _look_for_other_fleets(self) -> None:
        """Logs once that nodes have different secrets. They would refuse the keys, and the requests, of each other."""
        addresses = {str(mark): node.address for node in self.live.values() if (mark := node.shown.get("fleet"))}
        if len(addresses) > 1 and not self._has_two_fleets:
            nodes = sorted(addresses.values())
            log.warning(
                "two fleets share one registry: these nodes have different values of cluster.secret", nodes=nodes
            )
        self._has_two_fleets = len(addresses) > 1

    def request(self, expected: str = "") -> bool:
        """Starts a read if it is needed. Returns whether it is: the last one is too old, or lacks a node.

        expected: the id of a node that may be new. At most one read is early for each.
        """
        if expected and expected not in self.live and expected not in self._missed:
            self._missed[expected] = None
            self._is_urgent = True
        elif not self._is_old and not self._is_urgent:
            return False
        self._requested.set()
        return True

    async def refresh(self, expected: str = "") -> None:
        """Waits for a read if it is needed, at most WAIT_SECONDS. expected: see `request`."""
        if self.request(expected):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WAIT_SECONDS):
                    await self._read_done.wait()

    async def run(self) -> None:
        """Reads the nodes whenever they are needed, until it is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause):
                    await self._requested.wait()
            if self._is_old or self._is_urgent:
                await self._read()
            self._is_urgent = False
            self._requested.clear()
            done, self._read_done = self._read_done, asyncio.Event()
            done.set()

    @property
    def _is_old(self) -> bool:
        return self._clock() - self._read_at >= READ_SECONDS

    async def _read(self) -> None:
        try:
            self.observe(await self._registry.nodes())
        except StoreUnavailable as error:
            if not self._registry_failed:
                log.warning("the nodes cannot be read", reason=str(error))
            self._registry_failed = True
            self._read_at = self._clock()
