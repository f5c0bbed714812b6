"""The streams that players of a gateway find: its own, and replicas of other nodes' streams."""

from __future__ import annotations

import asyncio
from typing import Self

from gateway.lib.tasks import Tasks, awaited
from gateway.live.hub import Hub
from gateway.live.stream import Stream
from gateway.playback.playable_streams import PlayableStreams
from gateway.ports.errors import GatewayError


class ClusterStreams:
    """Streams for players: this node's streams, and replicas of other nodes' streams. Use as `async with`.

    Implements `PlayableStreams`.
    """

    def __init__(self, hub: Hub, replicas: PlayableStreams) -> None:
        self._hub = hub
        self._replicas = replicas
        self._tasks = Tasks("waiting players", awaited)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()

    def find(self, name: str) -> Stream | None:
        """Returns a stream that can be played now, at least by FLV and RTMP."""
        return self._hub.find(name) or self._replicas.find(name)

    def find_recent(self, name: str) -> Stream | None:
        """Returns a stream of this node with all outputs, also if it ended recently."""
        return self._hub.find_recent(name)

    async def wait(self, name: str, seconds: float) -> Stream:
        """Waits until the stream begins, on this node or on another. Raises the errors of Hub.wait."""
        stream = self.find(name)
        if stream is not None:
            return stream
        local = self._tasks.start(self._hub.wait(name, seconds), f"wait for {name}")
        remote = self._tasks.start(self._replicas.wait(name, seconds), f"wait for {name}")
        try:
            return await _first(local, remote)
        finally:
            local.cancel()
            remote.cancel()


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
    assert failure is not None, "all tasks failed, so there is a failure"
    raise failure
