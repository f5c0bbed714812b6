"""A channel's own edges: tasks that play it and nothing else, as many as `clusterNumber` says, while it is live."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from gateway.hub.crew import Crew, Crews
from gateway.hub.fanout import EndReason
from gateway.hub.fields import SIZES, read
from gateway.hub.ports import TaskOrder, TaskRunner

if TYPE_CHECKING:
    from gateway.hub.channel import Channel
    from gateway.hub.stream import Stream

KIND: Final = "slave"
# Another node goes on with the stream, and with its edges.
_STAYS: Final = frozenset({EndReason.MOVED, EndReason.SHUTDOWN})


def spreads(channel: Channel) -> bool:
    """Whether a channel's stream is to have edges of its own."""
    return channel.flag("isCluster") and channel.number("clusterNumber") >= 1


def wanted(stream: Stream) -> bool:
    """Whether this is the stream that is to have them."""
    return stream.is_source and spreads(stream.channel)


class ClusterOutput:
    """Output `cluster`. Nothing is carried to the edges: each finds the stream in the registry and pulls it."""

    def __init__(self, stream: Stream, runner: Callable[[], Awaitable[TaskRunner]], crews: Crews) -> None:
        self._stream = stream
        self._crew = Crew(runner, self._order, crews, stays=_STAYS)

    async def run(self, stream: Stream) -> None:
        """Until the stream ends. Raises OutputTrouble where not one can be had."""
        await self._crew.run(stream)

    def channel_changed(self, channel: Channel) -> None:
        """More or fewer of them."""
        self._crew.changed()

    def report(self) -> dict[str, Any]:
        return self._crew.report()

    def _order(self) -> TaskOrder:
        channel = self._stream.channel
        return TaskOrder(
            channel=channel.id,
            kind=KIND,
            size=read("slaveSize", channel.item, SIZES["slaveSize"]),
            environment={"IS_CLUSTER": "true", "MILLRACE_EDGE__CHANNEL": channel.id},
            count=int(channel.number("clusterNumber")),
            command=("edge",),
        )
