"""The output `cluster`: `clusterNumber` edges, as ECS tasks, that serve only one channel while it is live."""

from typing import Any, Final

from gateway.channels.channel import Channel
from gateway.channels.fields import SIZES, read
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.live.task_set import TaskSet, TaskSets
from gateway.ports.stores import TaskRequest

KIND: Final = "slave"
# After these ends another node continues the stream and uses its edges.
_KEPT_AFTER: Final = frozenset({EndReason.MOVED, EndReason.SHUTDOWN})


def wants_edges(channel: Channel) -> bool:
    """Returns whether a channel asks for its own edges."""
    return channel.flag("isCluster") and channel.number("clusterNumber") >= 1


def stream_wants_edges(stream: Stream) -> bool:
    """Returns whether a stream is no rendition, and its channel asks for its own edges."""
    return stream.is_source and wants_edges(stream.channel)


class EdgesOutput:
    """The output `cluster`. It sends no media to the edges: each finds the stream in the registry and pulls it."""

    def __init__(self, stream: Stream, task_sets: TaskSets) -> None:
        self._stream = stream
        self._tasks = TaskSet(self._request, task_sets, keep_running_after=_KEPT_AFTER)

    async def run(self, stream: Stream) -> None:
        """Keeps the edges running until the stream ends. Raises OutputError if no edge can be started."""
        await self._tasks.run(stream)

    def channel_changed(self, channel: Channel) -> None:
        """Starts or stops edges when their number has changed."""
        self._tasks.changed()

    def report(self) -> dict[str, Any]:
        return self._tasks.report()

    def _request(self) -> TaskRequest:
        channel = self._stream.channel
        return TaskRequest(
            channel=channel.id,
            kind=KIND,
            size=read("slaveSize", channel.item, SIZES["slaveSize"]),
            environment={"IS_CLUSTER": "true", "MILLRACE_EDGE__CHANNEL": channel.id},
            count=int(channel.number("clusterNumber")),
            command=("edge",),
        )
