"""Deaths of the worker that matches an input: in a row they end the matching, days apart they do not."""

from __future__ import annotations

import asyncio

import pytest

from gateway.inputs import matching
from gateway.inputs.matching import Matching
from gateway.lib.backoff import Backoff
from gateway.lib.tasks import Tasks
from gateway.media.track import Tracks
from gateway.ports.errors import OutputError
from gateway.settings import load
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO
from tests.support.inputs import worker_pool
from tests.support.waiting import until


@pytest.mark.parametrize(("good_seconds", "passes"), [(-1.0, False), (30.0, True)])
async def test_only_early_deaths_of_the_worker_end_the_matching(
    monkeypatch: pytest.MonkeyPatch, good_seconds: float, passes: bool
) -> None:
    deaths = 0

    async def die(matching: Matching) -> None:
        nonlocal deaths
        deaths += 1
        if deaths > 5:
            await asyncio.Event().wait()
        raise OutputError("the media worker ended")

    monkeypatch.setattr(matching, "_GOOD_SECONDS", good_seconds)  # -1: each run counts as a long one
    monkeypatch.setattr(matching, "Backoff", lambda first, longest: Backoff(0, 0))
    monkeypatch.setattr(Matching, "_match", die)
    settings = load(environ={})
    publisher = builders.publish(builders.hub(), "c1")
    tested = Matching(publisher.stream, worker_pool(), settings.transcode, settings.stream)
    tested.attach()
    async with Tasks("test") as tasks:
        tasks.start(tested.run(), "run")
        publisher.set_tracks(VIDEO, AUDIO, {})
        tested.set_expected_tracks(Tracks(VIDEO, None))
        assert not tested.passes
        await until(lambda: tested.passes or deaths > 5)
    assert tested.passes is passes
    assert tested.error == "the media worker ended"
