"""The plan of the pictures for browsers."""

from __future__ import annotations

import asyncio

import pytest

from gateway.lib.metric_table import DROPPED, WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.live.hub import Hub
from gateway.live.stream import Stream
from gateway.media.track import Codec
from gateway.outputs.browser import browser_pictures
from gateway.outputs.browser.browser_pictures import BrowserPictures
from gateway.outputs.ladder.ladder_output import LadderKind
from gateway.settings.layers import load
from gateway.workers.ladder_plan import LadderPlan, fit
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.time_outs import at_most


async def first_plan(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> LadderPlan:
    """Returns the plan that the first viewer causes."""
    made: asyncio.Future[LadderPlan] = asyncio.get_running_loop().create_future()

    class Ladder:
        def __init__(self, stream: Stream, hub: Hub, workers: WorkerPool, kind: LadderKind, dropped: Counter) -> None:
            self._kind = kind

        async def run(self, stream: Stream) -> None:
            made.set_result(self._kind.plan(stream.channel))

    monkeypatch.setattr(browser_pictures, "LadderOutput", Ladder)
    settings = load(environ={})
    pool, dropped = WorkerPool(settings.workers, Counter(WORKER_RESTARTS)), Counter(DROPPED)
    pictures = BrowserPictures(stream, (builders.hub(), builders.hub()), pool, settings.transcode, dropped)
    tasks = [asyncio.create_task(pictures.run(stream)), asyncio.create_task(pictures.acquire([Codec.H264]))]
    try:
        async with asyncio.timeout(at_most(10)):
            return await made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize(("received", "bitrate"), [(80_000, 3_000_000), (4_000_000, 4_000_000), (0, 3_000_000)])
async def test_pictures_that_are_still_now_do_not_lower_the_bit_rate(
    received: int, bitrate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """received: bits in the last second. The publisher declares 3 Mbit/s."""
    publisher = builders.publish(builders.hub(), "c1")
    publisher.set_tracks(builders.VIDEO, None, {"videodatarate": 3_000.0})
    stream = publisher.stream
    stream.received.sample(0.0)
    stream.received.bytes += received // 8
    stream.received.sample(1.0)
    assert stream.received.bitrate == received
    plan = await first_plan(stream, monkeypatch)
    (fitted,) = fit(plan.rungs, 1280, 720)
    assert fitted.step.bitrate == bitrate
