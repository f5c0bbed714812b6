"""The ladder made elsewhere: a task of its own reads the source and publishes the rungs here, through the node door."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.hub.crew import LOOK_SECONDS, Crew, Crews
from gateway.hub.errors import OutputTrouble
from gateway.hub.fanout import EndReason
from gateway.hub.fields import SIZES, read
from gateway.hub.ports import TaskOrder, TaskRunner
from gateway.lib.aio import Tasks
from gateway.settings.ladders import LadderSettings
from gateway.transcode.ladder import Rung
from gateway.transcode.transcoder import rungs_of

if TYPE_CHECKING:
    from gateway.hub.channel import Channel
    from gateway.hub.hub import Hub
    from gateway.hub.publisher import Publisher
    from gateway.hub.stream import Stream

log = structlog.get_logger(__name__)

KIND: Final = "codec"
_HOLD_LOOK: Final = 0.2  # less than a stream lingers
_HOLD_SECONDS: Final = 180.0  # that a rung without a task is held: Fargate takes half a minute for the next one
_LAST_LOOK: Final = 0.1
_LAST_SECONDS: Final = 5.0  # for the last pictures, when the source has ended
# The original's environment of a worker, and the channel's fields behind it.
FLAGS: Final = {"IS_CODEC": "isCodec", "IS_LD": "ld", "IS_SD": "sd", "IS_HD": "hd", "IS_UD": "ud"}
WORDS: Final = {"LADDER": "ladder"}
CODEC: Final = "CODEC"


def environment(channel: Channel, address: str, region: str) -> dict[str, str]:
    """What a codec worker is started with, by the original's names; nothing secret."""
    found = {name: _word(channel.flag(field)) for name, field in FLAGS.items()}
    found |= {name: channel.text(field) for name, field in WORDS.items() if channel.text(field)}
    found |= dict.fromkeys(("IS_MASTER", "IS_RECORD", "IS_CLUSTER"), "false")
    found |= {CODEC: channel.codec, "INPUT_URL": f"http://{address}/_node/{channel.id}?original=1"}
    found["LOG_LEVEL"] = channel.log_level or "info"
    if region:
        found["REGION"] = region
    return found


class RemoteTranscoder:
    """Output `codec` where workers run as tasks. The rungs are streams of this hub, which the task publishes; a task
    that ends while the stream lives is replaced, and meanwhile what it published is held, so that players wait."""

    def __init__(
        self,
        stream: Stream,
        hub: Hub,
        runner: Callable[[], Awaitable[TaskRunner]],
        ladders: Mapping[str, LadderSettings],
        address: Callable[[], str],
        region: str,
        crews: Crews,
        *,
        look: float = LOOK_SECONDS,
    ) -> None:
        """address: how other nodes reach this one. region: of AWS, "" for the task's own. look: seconds between two
        looks at the task."""
        self._stream = stream
        self._hub = hub
        self._ladders = ladders
        self._address = address
        self._region = region
        self._crew = Crew(runner, self._order, crews, finished=self._finished, look=look)
        self._held: dict[str, tuple[Publisher, float]] = {}  # rungs without a task, and since when

    async def run(self, stream: Stream) -> None:
        """Until the stream ends. Raises OutputTrouble where no task can be had."""
        rungs_of(self._ladders, stream.channel)  # a ladder that is not there is told here, not in a task's log
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
    def rungs(self) -> tuple[Rung, ...]:
        """Those that are there, the smallest first; none while no task has begun."""
        try:
            wanted = rungs_of(self._ladders, self._stream.channel)
        except OutputTrouble:
            return ()
        there = {rendition.name for rendition in self._renditions() if rendition.playable}
        return tuple(rung for rung in wanted if f"{self._stream.channel.id}@{rung.name}" in there)

    def channel_changed(self, channel: Channel) -> None:
        """The task follows by itself: its pull tells it what the channel says."""

    def report(self) -> dict[str, Any]:
        """`renditions` with name, size and seconds behind the source, as they come in; and of the tasks."""
        found = [_rendition(stream) for stream in self._renditions() if stream.playable]
        return {"renditions": sorted(found, key=lambda r: (r["height"] or 0, r["name"])), **self._crew.report()}

    def _renditions(self) -> list[Stream]:
        prefix = f"{self._stream.channel.id}@"
        return [stream for stream in self._hub if stream.name.startswith(prefix)]

    async def _hold(self) -> None:
        """Until cancelled. Whoever publishes a rung takes over from us as from any publisher that sends nothing."""
        while True:
            await asyncio.sleep(_HOLD_LOOK)
            now = time.monotonic()
            there = {rendition.name: rendition for rendition in self._renditions()}
            for name, rendition in there.items():
                if rendition.publisher is None and rendition.playable and name not in self._held:
                    self._held[name] = self._take(rendition), now
            for name, (publisher, since) in list(self._held.items()):
                present = there[name].publisher if name in there else publisher
                if name not in there or (present is not None and present is not publisher):
                    del self._held[name]  # it has a task again, or is over
                elif publisher.active and now - since > _HOLD_SECONDS:
                    log.warning("a rung is given up: no task publishes it", stream=name)
                    publisher.close()

    def _take(self, rendition: Stream) -> Publisher:
        """The lease, before the time for which it may linger is over."""
        channel, name = rendition.channel, rendition.name
        log.info("a rung waits for its task", stream=name)
        return self._hub.publish(
            channel, name, protocol="transcode", peer="", evict=lambda reason: None, keep_time=True
        )

    async def _finished(self) -> None:
        """The task gives its last pictures, and the rungs back."""
        for publisher, _ in self._held.values():
            publisher.close()
        for _ in range(round(_LAST_SECONDS / _LAST_LOOK)):
            if all(rendition.publisher is None for rendition in self._renditions()):
                return
            await asyncio.sleep(_LAST_LOOK)

    def _order(self) -> TaskOrder:
        channel, address = self._stream.channel, self._address()
        if not address:
            raise OutputTrouble("this node does not know yet how a task can reach it")
        return TaskOrder(
            channel=channel.id,
            kind=KIND,
            size=read("codecSize", channel.item, SIZES["codecSize"]),
            environment=environment(channel, address, self._region),
            address=address,
        )


def _rendition(stream: Stream) -> dict[str, Any]:
    metadata = stream.tracks.metadata if stream.tracks is not None else {}
    width, height = metadata.get("width"), metadata.get("height")
    units = stream.gop.units()
    return {
        "name": stream.name,
        "width": int(width) if isinstance(width, float) else None,
        "height": int(height) if isinstance(height, float) else None,
        "delay": round(time.time() - units[-1].wall, 3) if units else None,
    }


def _word(flag: bool) -> str:
    return "true" if flag else "false"
