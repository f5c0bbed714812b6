"""The output `cluster`: `clusterNumber` tasks that play one channel, and nothing else, while it is live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gateway.channels.fields import SIZES, read
from gateway.live.sink import EndReason
from gateway.live.task_set import TaskSet, TaskSets
from gateway.ports.stores import TaskRequest

if TYPE_CHECKING:
    from gateway.channels.channel import Channel
    from gateway.live.stream import Stream

KIND: Final = "slave"
# Another node continues the stream, and keeps its edges.
_STAYS: Final = frozenset({EndReason.MOVED, EndReason.SHUTDOWN})


def wants_edges(channel: Channel) -> bool:
    """Whether a channel's stream gets edges of its own."""
    return channel.flag("isCluster") and channel.number("clusterNumber") >= 1


def stream_wants_edges(stream: Stream) -> bool:
    """Whether a stream gets edges of its own: it is a source and its channel asks for them."""
    return stream.is_source and wants_edges(stream.channel)


class EdgesOutput:
    """The output `cluster`. It sends no media to the edges: each finds the stream in the registry and pulls it."""

    def __init__(self, stream: Stream, crews: TaskSets) -> None:
        self._stream = stream
        self._crew = TaskSet(self._order, crews, keep_running_after=_STAYS)

    async def run(self, stream: Stream) -> None:
        """Keeps the edges running until the stream ends. Raises OutputError if no edge can be started."""
        await self._crew.run(stream)

    def channel_changed(self, channel: Channel) -> None:
        """Starts or stops edges when their number has changed."""
        self._crew.changed()

    def report(self) -> dict[str, Any]:
        return self._crew.report()

    def _order(self) -> TaskRequest:
        channel = self._stream.channel
        return TaskRequest(
            channel=channel.id,
            kind=KIND,
            size=read("slaveSize", channel.item, SIZES["slaveSize"]),
            environment={"IS_CLUSTER": "true", "MILLRACE_EDGE__CHANNEL": channel.id},
            count=int(channel.number("clusterNumber")),
            command=("edge",),
        )
