"""Reports the faults of nodes: a disk that is nearly full, and nodes that are gone."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog

from gateway.alarms.fault import Fault, FaultKind
from gateway.alarms.fault_board import FaultBoard
from gateway.ports.nodes import Node

log = structlog.get_logger(__name__)

SECONDS: Final = 2.0  # between two looks
_PART: Final = 0.05  # of the disk, or
_BYTES: Final = 1e9  # if that is more, below which the disk is nearly full
_ENOUGH: Final = 1.2  # times that, from which it is not any more


class NodeWatch:
    """`run` looks regularly. Only one process of a host needs it.

    host: the name of this machine. disk: returns the free and total bytes; blocks. gone: returns the nodes that ended
    without leaving.
    """

    def __init__(
        self,
        board: FaultBoard,
        host: str,
        disk: Callable[[], dict[str, Any]],
        gone: Callable[[], Awaitable[Sequence[Node]]],
    ) -> None:
        self._board, self._host, self._disk, self._gone = board, host, disk, gone

    async def run(self) -> None:
        while True:
            await self.look(time.time())
            await asyncio.sleep(SECONDS)

    async def look(self, now: float) -> None:
        """Reports the present state. now: seconds since 1970."""
        try:
            disk = await asyncio.to_thread(self._disk)
        except OSError as error:
            log.warning("the disk cannot be measured", reason=str(error))
        else:
            self._board.report(FaultKind.DISK, self._disk_faults(disk["free"], disk["total"], now))
        text = "It has sent no sign of life for 10 s."
        nodes = {node.address for node in await self._gone() if node.address}
        faults = [Fault(FaultKind.NODE_GONE, "", address, now, text) for address in sorted(nodes)]
        self._board.report(FaultKind.NODE_GONE, faults)

    def _disk_faults(self, free: int, total: int, now: float) -> list[Fault]:
        text = f"{free / 1e9:.1f} GB of {total / 1e9:.1f} GB are free."
        fault = Fault(FaultKind.DISK, "", self._host, now, text)
        lasts = self._board.get(fault.key) is not None
        return [fault] if free < max(total * _PART, _BYTES) * (_ENOUGH if lasts else 1) else []
