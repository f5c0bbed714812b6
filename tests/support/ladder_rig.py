"""A hub with the ladder output and real workers, and everything that viewers of renditions receive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from gateway.lib.metric_table import DROPPED, WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Kind, TimedData, Tracks
from gateway.outputs.ladder.ladder_output import LadderOutput, channel_ladder_kind, stream_wants_ladder
from gateway.settings.ladders import load_ladders
from gateway.settings.layers import load
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.sources import Source
from tests.support.time_outs import at_most

LADDERS = load_ladders()


class Viewer(builders.Recorder):
    """Records the units of a rendition from the first one."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.came: list[float] = []  # wall time of each unit

    def begin(self, stream: Stream) -> None:
        stream.attach(self)

    async def run(self, stream: Stream) -> None:
        await stream.over()

    def on_unit(self, unit: AccessUnit) -> None:
        super().on_unit(unit)
        self.came.append(time.time())

    def of(self, kind: Kind) -> list[AccessUnit]:
        return [u for u in self.units if u.track.kind is kind]

    @property
    def pictures(self) -> list[AccessUnit]:
        return self.of(Kind.VIDEO)

    @property
    def sounds(self) -> list[AccessUnit]:
        return self.of(Kind.AUDIO)

    @property
    def shown(self) -> list[int]:
        """Presentation times of the pictures."""
        return [u.dts + u.cts for u in self.pictures]

    @property
    def keys(self) -> list[int]:
        return [u.dts + u.cts for u in self.pictures if u.key]

    @property
    def epochs(self) -> list[int]:
        """The epochs of the tracks, each once."""
        return list(dict.fromkeys(t.epoch for t in self.tracks))

    @property
    def ended(self) -> EndReason | None:
        last = self.items[-1] if self.items else None
        return last if isinstance(last, EndReason) else None

    def size(self, which: int = -1) -> tuple[object, object]:
        """The picture size in the metadata."""
        metadata = self.tracks[which].metadata
        return metadata["width"], metadata["height"]


class LadderHub:
    """Push with `publish` and `play`; `viewers` has the recorders by rung."""

    def __init__(self, backlog: float, workers: int) -> None:
        settings = load(environ={}, overrides=[f"transcode.backlog={backlog}", f"workers.most={workers}"])
        self.restarts, self.dropped = Counter(WORKER_RESTARTS), Counter(DROPPED)
        self.workers = WorkerPool(settings.workers, self.restarts)
        self.viewers: dict[str, Viewer] = {}
        self.made: list[LadderOutput] = []
        self._settings = settings
        self._pid: int | None = None
        specs = [
            OutputSpec("codec", self._transcoder, lambda stream: stream_wants_ladder(LADDERS, stream)),
            OutputSpec("viewer", self._viewer, lambda stream: not stream.is_source, listed=False),
        ]
        self.hub: Hub = builders.hub(specs, gop_bytes=64_000_000)

    def _transcoder(self, stream: Stream) -> LadderOutput:
        kind = channel_ladder_kind(LADDERS, self._settings.transcode)
        self.made.append(LadderOutput(stream, self.hub, self.workers, kind, self.dropped))
        return self.made[-1]

    def _viewer(self, stream: Stream) -> Viewer:
        rung = stream.name.partition("@")[2]
        self.viewers[rung] = Viewer(rung)
        return self.viewers[rung]

    def publish(self, **fields: Any) -> StreamPublisher:
        asked = {"isCodec": True, "ld": True, "sd": True, "hd": True} | fields
        return builders.publish(self.hub, "c1", **asked)

    @staticmethod
    def announce(publisher: StreamPublisher, tracks: Tracks) -> None:
        publisher.set_tracks(tracks.video, tracks.audio, dict(tracks.metadata))

    def play(self, publisher: StreamPublisher, source: Source) -> None:
        """Announces the source and pushes all units at once."""
        self.announce(publisher, source.tracks)
        self.push(publisher, source.units)

    @staticmethod
    def push(publisher: StreamPublisher, units: Iterable[AccessUnit]) -> None:
        for unit in units:
            publisher.push(replace(unit), time.monotonic())

    @staticmethod
    def say(publisher: StreamPublisher, timed: TimedData) -> None:
        publisher.push_timed(replace(timed))

    async def play_live(self, publisher: StreamPublisher, source: Source, *, speed: float = 1.0) -> None:
        """Pushes units in real time."""
        began = time.monotonic()
        for unit in source.units:
            ahead = (unit.dts - source.units[0].dts) / 1000 / speed - (time.monotonic() - began)
            if ahead > 0:
                await asyncio.sleep(ahead)
            publisher.push(replace(unit, wall=time.time()), time.monotonic())

    async def until(self, what: Callable[[], object], seconds: float = 30) -> None:
        async with asyncio.timeout(at_most(seconds)):
            while not what():
                await asyncio.sleep(0.02)

    async def finish(self, reason: EndReason = EndReason.PUBLISHER_GONE) -> dict[str, Viewer]:
        """Ends the source, waits for all remaining units, and returns the viewers by rung."""
        self.hub.end("c1", reason)
        async with asyncio.timeout(at_most(60)):
            await self.hub.drained()
        return self.viewers

    @property
    def report(self) -> dict[str, Any]:
        return self.made[-1].report()


@asynccontextmanager
async def ladder(*, backlog: float = 100_000, workers: int = 4) -> AsyncIterator[LadderHub]:
    """Creates a hub that always ends after the test."""
    rig = LadderHub(backlog, workers)
    try:
        yield rig
    finally:
        rig.hub.drain()
        async with asyncio.timeout(at_most(20)):
            await rig.hub.drained()
