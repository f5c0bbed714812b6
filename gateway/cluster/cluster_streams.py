"""The streams that players can see: those of this node, and replicas of streams on other nodes."""

from __future__ import annotations

import asyncio
from typing import Self

from gateway.cluster.replicas import Replicas
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub
from gateway.live.stream import Stream
from gateway.ports.errors import GatewayError


class ClusterStreams:
    """Implements `playback.router.PlayableStreams` over the hub and the replicas. Use as `async with`."""

    def __init__(self, hub: Hub, replicas: Replicas) -> None:
        self._hub = hub
        self._replicas = replicas
        self._tasks = Tasks("players that wait")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()

    def find(self, name: str) -> Stream | None:
        """Returns a stream that can be played now, at least by FLV and RTMP."""
        return self._hub.find(name) or self._replicas.find(name)

    def find_recent(self, name: str) -> Stream | None:
        """Returns a stream of this node with all its outputs, also one that ended a moment ago."""
        return self._hub.find_recent(name)

    async def wait(self, name: str, seconds: float) -> Stream:
        """Waits until the stream begins, on this node or another. Raises the errors of Hub.wait."""
        stream = self.find(name)
        if stream is not None:
            return stream
        here = self._tasks.start(self._hub.wait(name, seconds), f"wait for {name}")
        there = self._tasks.start(self._replicas.wait(name, seconds), f"wait for {name}")
        try:
            return await _first(here, there)
        finally:
            here.cancel()
            there.cancel()


async def _first(*tasks: asyncio.Task[Stream]) -> Stream:
    """Returns the result of the first task that succeeds. If all fail, raises the last failure."""
    pending: set[asyncio.Task[Stream]] = set(tasks)
    failure: GatewayError | None = None
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            try:
                return task.result()
            except GatewayError as error:
                failure = error
    assert failure is not None, "there is at least one, and it failed"
    raise failure
