"""A watermark without the rest of the gateway: a hub, real workers, and a viewer that records pictures."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Any

from PIL import Image

from gateway.lib.egress import Egress
from gateway.lib.metric_table import DROPPED, WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.live.output import OutputSpec, StreamOutput
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Kind
from gateway.outputs.watermark.picture_fetcher import PictureFetcher
from gateway.outputs.watermark.watermark_output import WatermarkFactory
from gateway.settings import Settings, load
from gateway.workers.programs.codec import VideoDecoder
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.sources import Source
from tests.support.time_outs import at_most


class WatermarkHub:
    """A hub with the output `watermark` and one stream. `viewer` records what viewers receive."""

    def __init__(self, egress: Iterable[str] = ("127.0.0.0/8",), **options: str) -> None:
        self.settings: Settings = load(environ=options)
        self.restarts = Counter(WORKER_RESTARTS)
        self.dropped = Counter(DROPPED)
        self.workers = WorkerPool(self.settings.workers, self.restarts)
        self.pictures = PictureFetcher(Egress(tuple(egress)))
        self.watermarks = WatermarkFactory(
            self.workers, self.pictures, self.settings.watermark, self.settings.transcode, self.dropped
        )
        self.hub = builders.hub(
            [OutputSpec("watermark", self.watermarks.make, self.watermarks.wanted)], gop_bytes=16_000_000
        )
        self.viewer = builders.Recorder()
        self.original = builders.Recorder()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[WatermarkHub]:
        async with Tasks("lab") as tasks:
            tasks.start(self.hub.run(), "hub")
            yield self

    def publish(self, source: Source, **fields: Any) -> StreamPublisher:
        """Starts a push of a channel with these fields; the viewer is already attached."""
        publisher = builders.publish(self.hub, "c1", **fields)
        publisher.stream.attach(self.viewer)
        publisher.stream.original.attach(self.original)
        publisher.set_tracks(source.tracks.video, source.tracks.audio, {})
        return publisher

    @property
    def stream(self) -> Stream:
        return next(iter(self.hub))

    @property
    def output(self) -> StreamOutput | None:
        outputs = self.stream.outputs
        assert outputs is not None
        return outputs.get("watermark")

    def report(self) -> dict[str, Any]:
        output = self.output
        return output.report() if output is not None else {}  # type: ignore[attr-defined]

    def switch(self, enabled: bool) -> None:
        outputs = self.stream.outputs
        assert outputs is not None
        outputs.switch("watermark", enabled)

    def change(self, **fields: Any) -> None:
        """Stores changed fields of the channel."""
        self.hub.channel_changed(builders.channel(**{**self.stream.channel.item, **fields}))

    async def end(self) -> None:
        """Ends the push; the viewer receives the remaining units."""
        stream = self.stream
        self.hub.end("c1", EndReason.PUBLISHER_GONE)
        async with asyncio.timeout(at_most(10)):
            await stream.over()

    def seen(self, kind: Kind = Kind.VIDEO) -> list[AccessUnit]:
        return [u for u in self.viewer.units if u.track.kind is kind]

    def signal_worker(self, number: int = signal.SIGKILL) -> None:
        """Sends SIGKILL or another signal to the worker."""
        worker = self.output._worker  # type: ignore[union-attr]
        assert worker is not None
        os.kill(worker.pid, number)


def never() -> bool:
    """The `until` of `play` that never stops it."""
    return False


async def play(
    publisher: StreamPublisher, units: Iterable[AccessUnit], *, speed: float = 2.0, until: Callable[[], bool] = never
) -> int:
    """Pushes units `speed` times as fast as their times. Returns the number of pushed units.

    until: stops before the unit at which it returns true. The second half of the units is pushed slowly, because a busy
    machine may need long to start a worker.
    """
    units, due, count = list(units), time.monotonic(), 0
    slow = len(units) // 2 if until is not never else len(units)
    last = units[0].dts / units[0].track.timescale if units else 0.0
    for unit in units:
        if until():
            break
        at = unit.dts / unit.track.timescale
        due += (at - last) / (speed if count < slow else min(speed, 0.4))
        last = at
        ahead = due - time.monotonic()
        await asyncio.sleep(max(0.0, ahead) if ahead > 0 or not count % 10 else 0)
        publisher.push(replace(unit, wall=time.time()), time.monotonic())
        count += 1
    return count


def pictures(units: Iterable[AccessUnit]) -> list[tuple[int, Image.Image]]:
    """The pictures of one or more video tracks in order of arrival: (milliseconds, RGB)."""
    shown: list[tuple[int, Image.Image]] = []
    decoder: VideoDecoder | None = None
    for unit in (*units, None):
        if unit is None or decoder is None or decoder.track != unit.track:
            found = decoder.flush() if decoder is not None else []
            assert decoder is None or not decoder.damaged, "pictures that cannot be decoded"
            shown += [(p.pts, p.frame.to_image()) for p in found]
            decoder = VideoDecoder(unit.track) if unit is not None else None
        if unit is not None and decoder is not None:
            shown += [(p.pts, p.frame.to_image()) for p in decoder.decode(unit)]
    return shown
