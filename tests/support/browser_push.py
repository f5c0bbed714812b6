"""A browser push with a real worker. Bytes arrive as from a socket, and a recorder keeps the units for viewers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

from gateway.ingest.websocket.container_intake import ContainerIntake
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.live.hub import Hub
from gateway.live.publisher import StreamPublisher
from gateway.live.unit_intake import IntakeFailed
from gateway.media.track import AccessUnit, Kind
from gateway.settings.layers import load
from gateway.settings.models import TranscodeSettings
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.time_outs import at_most


class BrowserPush(builders.Recorder):
    """One push. Everything published is in `units`, `tracks` and the other attributes of `Recorder`."""

    def __init__(
        self, hub: Hub, workers: WorkerPool, publisher: StreamPublisher, settings: TranscodeSettings, spare: float
    ) -> None:
        super().__init__()
        self.hub = hub
        self.workers = workers
        self.publisher = publisher
        self.settings = settings
        self.intake = ContainerIntake(publisher, workers, settings, spare=spare)
        self.came: list[float] = []
        self.failure: IntakeFailed | None = None
        self._running: asyncio.Task[None] | None = None
        publisher.stream.attach(self)

    def on_unit(self, unit: AccessUnit) -> None:
        super().on_unit(unit)
        self.came.append(time.monotonic())

    def start(self) -> None:
        self._running = asyncio.get_running_loop().create_task(self.intake.run())

    async def feed(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            await self.intake.feed(piece)

    async def end(self, within: float = 60) -> None:
        """Ends the input and waits for the remaining units. `failure` is the exception of `run`."""
        self.intake.finish()
        await self.over(within)

    async def over(self, within: float = 60) -> None:
        """Waits until the push has ended by itself."""
        assert self._running is not None
        async with asyncio.timeout(at_most(within)):
            try:
                await self._running
            except IntakeFailed as error:
                self.failure = error

    async def close(self) -> None:
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait((self._running,))

    def of(self, kind: Kind) -> list[AccessUnit]:
        return [u for u in self.units if u.track.kind is kind]

    @property
    def pictures(self) -> list[AccessUnit]:
        return self.of(Kind.VIDEO)

    @property
    def sounds(self) -> list[AccessUnit]:
        return self.of(Kind.AUDIO)

    @property
    def epochs(self) -> int:
        """The number of discontinuities."""
        return len({t.epoch for t in self.tracks})


def seconds(units: list[AccessUnit]) -> float:
    """The duration from the first to the last unit, by presentation time."""
    times = [(u.dts + u.cts) / u.track.timescale for u in units]
    return max(times) - min(times)


@asynccontextmanager
async def browser_push(*, spare: float = 1000, backlog: float = 1000, workers: int = 4) -> AsyncIterator[BrowserPush]:
    """A push with a started worker, whose encoder may be slow. It always ends after the block."""
    settings = load(environ={}, overrides=[f"transcode.backlog={backlog}", f"workers.most={workers}"])
    pool = WorkerPool(settings.workers, Counter(WORKER_RESTARTS))
    hub = builders.hub(gop_bytes=64_000_000)
    publisher = builders.publish(hub, "c1")
    push = BrowserPush(hub, pool, publisher, settings.transcode, spare)
    try:
        push.start()
        yield push
    finally:
        await push.close()
        hub.drain()


def cut(data: bytes, seed: int, most: int = 5000) -> Iterator[bytes]:
    """Yields pieces of `data` of random sizes, down to single bytes."""
    chance = random.Random(seed)
    at = 0
    while at < len(data):
        size = chance.choice((1, 2, 3, chance.randrange(1, 200), chance.randrange(1, most)))
        yield data[at : at + size]
        at += size
