"""Streams as players see them: those of this node, and replicas of what other nodes hold."""

from __future__ import annotations

import asyncio
from typing import Self

from gateway.hub.errors import HubError
from gateway.hub.hub import Hub
from gateway.hub.stream import Stream
from gateway.lib.aio import Tasks
from gateway.nodes.replicas import Replicas


class Streams:
    """`servers.playback.Streams` over the hub and the replicas. Use as `async with`."""

    def __init__(self, hub: Hub, replicas: Replicas) -> None:
        self._hub = hub
        self._replicas = replicas
        self._tasks = Tasks("players that wait")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()

    def find(self, name: str) -> Stream | None:
        """One that can be played now, with FLV and RTMP at least."""
        return self._hub.find(name) or self._replicas.find(name)

    def find_recent(self, name: str) -> Stream | None:
        """One of this node, with all its outputs, also one that has just ended."""
        return self._hub.find_recent(name)

    async def wait(self, name: str, seconds: float) -> Stream:
        """Wherever it begins. Raises as Hub.wait does."""
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
    """The first that succeeds; where none does, the last failure."""
    pending: set[asyncio.Task[Stream]] = set(tasks)
    failure: HubError | None = None
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            try:
                return task.result()
            except HubError as error:
                failure = error
    assert failure is not None, "there is at least one, and it failed"
    raise failure
