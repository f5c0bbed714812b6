"""The streams that players of a gateway find: its own, and replicas of other nodes' streams."""

import asyncio
from collections.abc import Collection

from gateway.lib.tasks import Tasks, awaited
from gateway.live.hub import Hub
from gateway.live.stream import Stream
from gateway.playback.playable_streams import PlayableStreams
from gateway.ports.errors import GatewayError


class ClusterStreams:
    """Streams for players: this node's streams, and replicas of other nodes' streams.

    Implements `PlayableStreams`.
    """

    def __init__(self, hub: Hub, replicas: PlayableStreams) -> None:
        self._hub = hub
        self._replicas = replicas

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
        async with Tasks(f"wait for {name}", awaited) as tasks:
            waits = [tasks.start(streams.wait(name, seconds)) for streams in (self._hub, self._replicas)]
            return await _first(waits)


async def _first(tasks: Collection[asyncio.Task[Stream]]) -> Stream:
    """Returns the result of the first task that succeeds. If all fail, raises the last failure."""
    failure: GatewayError | None = None
    for completed in asyncio.as_completed(tasks):
        try:
            return await completed
        except GatewayError as error:
            failure = error
    assert failure is not None, "all tasks failed, so there is a failure"
    raise failure
