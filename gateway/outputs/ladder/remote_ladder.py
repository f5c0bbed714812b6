"""The ladder from a cloud task. The task reads the source and publishes its renditions at the node listener."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from gateway.channels.channel import Channel
from gateway.channels.fields import SIZES, read
from gateway.lib.tasks import Tasks, awaited
from gateway.live.hub import Hub
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.live.task_set import TaskSet, TaskSets
from gateway.outputs.ladder.ladder_output import ladder_steps
from gateway.outputs.ladder.published_rendition import rendition_report
from gateway.ports.errors import OutputError
from gateway.ports.stores import TaskRequest
from gateway.settings.ladders import LadderSettings
from gateway.workers.ladder_plan import LadderStep

log = structlog.get_logger(__name__)

KIND: Final = "codec"
_HOLD_POLL_SECONDS: Final = 0.2  # less than the lingering time of a stream
_HOLD_SECONDS: Final = 180.0  # to hold a rendition without a task: Fargate starts a task in about 30 s
_LAST_POLL_SECONDS: Final = 0.1
_LAST_SECONDS: Final = 5.0  # to wait for the last pictures after the source's end
# Environment variables of a worker of the old system, with the channel fields of their values.
FLAGS: Final = {"IS_CODEC": "isCodec", "IS_LD": "ld", "IS_SD": "sd", "IS_HD": "hd", "IS_UD": "ud"}
TEXTS: Final = {"LADDER": "ladder"}
CODEC: Final = "CODEC"


def environment(channel: Channel, address: str, region: str) -> dict[str, str]:
    """Returns the environment of a codec worker, with the names of the old system and without secrets."""
    variables = {name: str(channel.flag(field)).lower() for name, field in FLAGS.items()}
    variables |= {name: channel.text(field) for name, field in TEXTS.items() if channel.text(field)}
    variables |= dict.fromkeys(("IS_MASTER", "IS_RECORD", "IS_CLUSTER"), "false")
    variables |= {CODEC: channel.codec, "INPUT_URL": f"http://{address}/_node/{channel.id}?original=1"}
    variables["LOG_LEVEL"] = channel.log_level or "info"
    if region:
        variables["REGION"] = region
    return variables


class RemoteLadderOutput:
    """The output `codec` if workers run as cloud tasks.

    The task publishes the renditions as streams of this hub.
    A task that ends while the stream is live is replaced.
    Until then this node holds the streams of the old task, so that players wait and do not fail.

    address: of this node for other nodes. region: of AWS, "" for the task's own region.
    """

    def __init__(
        self,
        stream: Stream,
        hub: Hub,
        ladders: Mapping[str, LadderSettings],
        address: Callable[[], str],
        region: str,
        task_sets: TaskSets,
    ) -> None:
        self._stream = stream
        self._hub = hub
        self._ladders = ladders
        self._address = address
        self._region = region
        self._tasks = TaskSet(self._request, task_sets, wait_finished=self._wait_finished)
        self._held: dict[
            str, tuple[StreamPublisher, float]
        ] = {}  # renditions without a task: publisher, monotonic begin

    async def run(self, stream: Stream) -> None:
        """Runs the task until the stream ends. Raises OutputError if no task can be started."""
        ladder_steps(self._ladders, stream.channel)  # raises for an unknown ladder here, not only in the task
        try:
            async with Tasks(f"renditions of {stream.name}", awaited) as tasks:
                tasks.start(self._hold(), "hold")
                await self._tasks.run(stream)
        finally:
            reason = stream.original.ended or EndReason.OUTPUT_OFF
            for rendition in self._renditions():
                self._hub.end(rendition.name, reason)
            self._held.clear()

    @property
    def active_steps(self) -> tuple[LadderStep, ...]:
        """The renditions that can be played now, smallest first; empty before a task has begun."""
        try:
            wanted = ladder_steps(self._ladders, self._stream.channel)
        except OutputError:
            return ()
        existing = {rendition.name for rendition in self._renditions() if rendition.playable}
        return tuple(step for step in wanted if f"{self._stream.channel.id}@{step.name}" in existing)

    def channel_changed(self, channel: Channel) -> None:
        """Does nothing: the task gets the change when it pulls the source."""

    def report(self) -> dict[str, Any]:
        """Returns `renditions` (name, size, and delay in seconds on arrival) and the state of the tasks."""
        found = [_report_of(stream) for stream in self._renditions() if stream.playable]
        return {"renditions": sorted(found, key=lambda r: (r["height"] or 0, r["name"])), **self._tasks.report()}

    def _renditions(self) -> list[Stream]:
        prefix = f"{self._stream.channel.id}@"
        pushed = self._stream.pushed_tracks.by_name
        return [s for s in self._hub if s.name.startswith(prefix) and s.name[len(prefix) :] not in pushed]

    async def _hold(self) -> None:
        """Publishes renditions that have no task, until the source has ended.

        A new task replaces this publisher, because it sends nothing.
        """
        while True:
            await asyncio.sleep(_HOLD_POLL_SECONDS)
            if self._stream.original.ended is not None:
                return
            now = time.monotonic()
            existing = {rendition.name: rendition for rendition in self._renditions()}
            for name, rendition in existing.items():
                if rendition.publisher is None and rendition.playable and name not in self._held:
                    self._held[name] = self._take_over(rendition), now
            for name, (publisher, since) in list(self._held.items()):
                current = existing[name].publisher if name in existing else publisher
                if name not in existing or (current is not None and current is not publisher):
                    del self._held[name]  # a task publishes it again, or it has ended
                elif publisher.active and now - since > _HOLD_SECONDS:
                    log.warning("no task publishes a rendition: it ends", stream=name)
                    publisher.close()

    def _take_over(self, rendition: Stream) -> StreamPublisher:
        """Becomes the publisher of a rendition within its lingering time."""
        channel, name = rendition.channel, rendition.name
        log.info("a rendition waits for its task", stream=name)
        origin = PushOrigin("transcode", "", keep_time=True, trusted=True)
        return self._hub.publish_from(origin, channel, name, lambda reason: None)

    async def _wait_finished(self) -> None:
        """Waits until the task has sent its last pictures and stopped publishing."""
        for publisher, _ in self._held.values():
            publisher.close()
        for _ in range(round(_LAST_SECONDS / _LAST_POLL_SECONDS)):
            if all(rendition.publisher is None for rendition in self._renditions()):
                return
            await asyncio.sleep(_LAST_POLL_SECONDS)

    def _request(self) -> TaskRequest:
        channel, address = self._stream.channel, self._address()
        if not address:
            raise OutputError("the address of this node for tasks is not known yet")
        return TaskRequest(
            channel=channel.id,
            kind=KIND,
            size=read("codecSize", channel.item, SIZES["codecSize"]),
            environment=environment(channel, address, self._region),
            address=address,
        )


def _report_of(stream: Stream) -> dict[str, Any]:
    units = stream.gop.units()
    delay = round(time.time() - units[-1].wall, 3) if units else None
    return rendition_report(stream.name, stream.tracks, delay)
