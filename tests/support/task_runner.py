"""A `TaskRunner` in memory, with faults on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.ports.errors import GatewayError
from gateway.ports.stores import RunningTask, TaskRequest
from tests.support.time_outs import at_most


@dataclass
class Runner:
    """tasks: by channel and kind. fault: is raised by `keep`; stop_fault: is raised by `stop`."""

    tasks: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    orders: list[TaskRequest] = field(default_factory=list)
    stopped: list[tuple[str, str, str]] = field(default_factory=list)
    fault: GatewayError | None = None
    stop_fault: GatewayError | None = None
    started: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> Runner:
        """Returns itself, like `AwsServices.tasks`."""
        return self

    async def reconcile(self, order: TaskRequest) -> list[RunningTask]:
        self.orders.append(order)
        self._changed.set()
        if self.fault is not None:
            raise self.fault
        tasks = self.tasks.setdefault((order.channel, order.kind), [])
        while len(tasks) < order.count:
            self.started += 1
            tasks.append(f"arn:task/{self.started}")
        del tasks[order.count :]
        return [RunningTask(arn, "RUNNING") for arn in tasks]

    async def stop(self, channel: str, kind: str, address: str, reason: str) -> None:
        self._changed.set()
        if self.stop_fault is not None:
            raise self.stop_fault
        self.stopped.append((channel, kind, reason))
        self.tasks.pop((channel, kind), None)

    async def until(self, condition: Callable[[Runner], bool]) -> None:
        async with asyncio.timeout(at_most(10)):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()
            await asyncio.sleep(0)  # lets the caller continue
