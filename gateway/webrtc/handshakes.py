"""Shares the time of the event loop between handshakes and everything else."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

MAX_WAITING: Final = 512  # datagrams; a handshake sends lost ones again
TURN_SECONDS: Final = 0.002  # seconds of work in one turn of the event loop. A handshake takes nearly 1 ms.


class HandshakeQueue:
    """Runs steps of handshakes in the order of their arrival, at least one in each turn of the event loop."""

    __slots__ = ("_scheduled", "_steps")

    def __init__(self) -> None:
        self._steps: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: Callable[[], None]) -> bool:
        """Queues a step. Returns False if MAX_WAITING wait already."""
        if len(self._steps) >= MAX_WAITING:
            return False
        self._steps.append(step)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)
        return True

    def clear(self) -> None:
        """Drops all steps."""
        self._steps.clear()

    def _turn(self) -> None:
        steps = self._steps
        until = time.perf_counter() + TURN_SECONDS
        try:
            while steps:
                steps.popleft()()
                if time.perf_counter() >= until:
                    break
        finally:  # an error of one step must not stop the others
            self._scheduled = bool(steps)
            if steps:
                asyncio.get_running_loop().call_soon(self._turn)
