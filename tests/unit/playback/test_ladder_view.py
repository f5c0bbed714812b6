"""How requests wait for the renditions of a ladder."""

from __future__ import annotations

import asyncio

from gateway.live.output import OutputSpec
from gateway.playback.ladder_view import TS, LadderView, wait_for_rendition
from tests.support import builders, segmented


async def test_a_wait_for_a_rendition_whose_packager_has_failed_lets_other_tasks_run() -> None:
    failed = segmented.ts()
    failed.stopped = True
    hub = builders.hub([OutputSpec("hls", lambda stream: failed, lambda stream: True)])
    rendition = builders.publish(hub, "c1@360p")
    rendition.set_tracks(builders.VIDEO, builders.AUDIO, {})
    ladder = LadderView([], ["360p"], is_known=True)
    wait = asyncio.create_task(wait_for_rendition(hub, builders.stream(), TS, ladder, 0.05))
    await asyncio.sleep(0)
    assert not wait.done()
    await wait
    hub.drain()
    await hub.drained()
