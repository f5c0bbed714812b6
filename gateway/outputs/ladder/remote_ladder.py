"""A ladder made by a cloud task, which reads the source and publishes the rungs here over the node listener."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.channels.fields import SIZES, read
from gateway.lib.tasks import Tasks
from gateway.live.sink import EndReason
from gateway.live.task_set import TaskSet, TaskSets
from gateway.outputs.ladder.ladder_output import ladder_steps
from gateway.outputs.ladder.published_rendition import rendition_report
from gateway.ports.errors import OutputError
from gateway.ports.stores import TaskRequest
from gateway.settings.ladders import LadderSettings
from gateway.workers.ladder_plan import LadderStep

if TYPE_CHECKING:
    from gateway.channels.channel import Channel
    from gateway.live.hub import Hub
    from gateway.live.publisher import StreamPublisher
    from gateway.live.stream import Stream

log = structlog.get_logger(__name__)

KIND: Final = "codec"
_HOLD_POLL_SECONDS: Final = 0.2  # less than the time for which a stream lingers
_HOLD_SECONDS: Final = 180.0  # for which a rung without a task is held: Fargate needs half a minute for a new task
_LAST_POLL_SECONDS: Final = 0.1
_LAST_SECONDS: Final = 5.0  # to wait for the last pictures when the source has ended
# Environment variables of a worker in the original product, and the channel fields they come from.
FLAGS: Final = {"IS_CODEC": "isCodec", "IS_LD": "ld", "IS_SD": "sd", "IS_HD": "hd", "IS_UD": "ud"}
WORDS: Final = {"LADDER": "ladder"}
CODEC: Final = "CODEC"


def environment(channel: Channel, address: str, region: str) -> dict[str, str]:
    """Returns the environment of a codec worker, with the original product's names and without secrets."""
    found = {name: _word(channel.flag(field)) for name, field in FLAGS.items()}
    found |= {name: channel.text(field) for name, field in WORDS.items() if channel.text(field)}
    found |= dict.fromkeys(("IS_MASTER", "IS_RECORD", "IS_CLUSTER"), "false")
    found |= {CODEC: channel.codec, "INPUT_URL": f"http://{address}/_node/{channel.id}?original=1"}
    found["LOG_LEVEL"] = channel.log_level or "info"
    if region:
        found["REGION"] = region
    return found


class RemoteLadderOutput:
    """The output `codec` where workers run as cloud tasks.

    The rungs are streams of this hub, which the task publishes.
    A task that ends while the stream is live is replaced.
    Meanwhile the streams it published are held, so that players wait instead of failing.
    """

    def __init__(
        self,
        stream: Stream,
        hub: Hub,
        ladders: Mapping[str, LadderSettings],
        address: Callable[[], str],
        region: str,
        crews: TaskSets,
    ) -> None:
        """address: how other nodes reach this one. region: of AWS, "" for the task's own."""
        self._stream = stream
        self._hub = hub
        self._ladders = ladders
        self._address = address
        self._region = region
        self._crew = TaskSet(self._order, crews, wait_finished=self._finished)
        self._held: dict[str, tuple[StreamPublisher, float]] = {}  # rungs without a task, and the time since when

    async def run(self, stream: Stream) -> None:
        """Runs the task until the stream ends. Raises OutputError if no task can be started."""
        ladder_steps(self._ladders, stream.channel)  # reports an unknown ladder here, not in a task's log
        try:
            async with Tasks(f"rungs of {stream.name}") as tasks:
                tasks.start(self._hold(), "hold")
                await self._crew.run(stream)
        finally:
            reason = stream.original.ended or EndReason.OUTPUT_OFF
            for rendition in self._renditions():
                self._hub.end(rendition.name, reason)
            self._held.clear()

    @property
    def rungs(self) -> tuple[LadderStep, ...]:
        """The rungs that can be played now, the smallest first; empty before a task has begun."""
        try:
            wanted = ladder_steps(self._ladders, self._stream.channel)
        except OutputError:
            return ()
        there = {rendition.name for rendition in self._renditions() if rendition.playable}
        return tuple(rung for rung in wanted if f"{self._stream.channel.id}@{rung.name}" in there)

    def channel_changed(self, channel: Channel) -> None:
        """Does nothing: the task learns of the change by its own pull."""

    def report(self) -> dict[str, Any]:
        """Returns `renditions` (name, size, and seconds behind the source on arrival) and the state of the tasks."""
        found = [_rendition(stream) for stream in self._renditions() if stream.playable]
        return {"renditions": sorted(found, key=lambda r: (r["height"] or 0, r["name"])), **self._crew.report()}

    def _renditions(self) -> list[Stream]:
        prefix = f"{self._stream.channel.id}@"
        return [stream for stream in self._hub if stream.name.startswith(prefix)]

    async def _hold(self) -> None:
        """Holds rungs that have no task, until cancelled.

        A new task takes a rung over as from any publisher that sends nothing.
        """
        while True:
            await asyncio.sleep(_HOLD_POLL_SECONDS)
            now = time.monotonic()
            there = {rendition.name: rendition for rendition in self._renditions()}
            for name, rendition in there.items():
                if rendition.publisher is None and rendition.playable and name not in self._held:
                    self._held[name] = self._take(rendition), now
            for name, (publisher, since) in list(self._held.items()):
                present = there[name].publisher if name in there else publisher
                if name not in there or (present is not None and present is not publisher):
                    del self._held[name]  # it has a task again, or has ended
                elif publisher.active and now - since > _HOLD_SECONDS:
                    log.warning("a rung is given up: no task publishes it", stream=name)
                    publisher.close()

    def _take(self, rendition: Stream) -> StreamPublisher:
        """Takes the lease of a rung before its lingering time is over."""
        channel, name = rendition.channel, rendition.name
        log.info("a rung waits for its task", stream=name)
        return self._hub.publish(
            channel, name, protocol="transcode", peer="", evict=lambda reason: None, keep_time=True, trusted=True
        )

    async def _finished(self) -> None:
        """Waits until the task has sent its last pictures and given the rungs back."""
        for publisher, _ in self._held.values():
            publisher.close()
        for _ in range(round(_LAST_SECONDS / _LAST_POLL_SECONDS)):
            if all(rendition.publisher is None for rendition in self._renditions()):
                return
            await asyncio.sleep(_LAST_POLL_SECONDS)

    def _order(self) -> TaskRequest:
        channel, address = self._stream.channel, self._address()
        if not address:
            raise OutputError("this node does not know yet how a task can reach it")
        return TaskRequest(
            channel=channel.id,
            kind=KIND,
            size=read("codecSize", channel.item, SIZES["codecSize"]),
            environment=environment(channel, address, self._region),
            address=address,
        )


def _rendition(stream: Stream) -> dict[str, Any]:
    units = stream.gop.units()
    delay = round(time.time() - units[-1].wall, 3) if units else None
    return rendition_report(stream.name, stream.tracks, delay)


def _word(flag: bool) -> str:
    return "true" if flag else "false"
