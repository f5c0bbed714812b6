"""SRT at several worker processes, and over a rolling restart."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.clients import pull, so_far, take_of, until
from tests.support.cores import LONG, SHORT, Cores, Start, alive
from tests.support.media import excerpt, judge
from tests.support.srt import PATIENT, call, srt_push

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers need Linux")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cores]:
    """Two workers for the tests that do not reload them."""
    gateway = Cores(tmp_path_factory.mktemp("srt"), 2, MILLRACE_STREAM__TAKEOVER_AFTER="1", **PATIENT)
    try:
        gateway.wait_ready()
        yield gateway
    finally:
        assert gateway.stop() == 0


def test_players_at_every_worker_see_a_push_at_any(gateway: Cores) -> None:
    channel = gateway.channel()
    LONG.hashes()
    with srt_push(LONG, channel.srt_push), ExitStack() as stack:
        channel.wait_live()
        # The kernel spreads the callers over the workers by their ports.
        for player in [stack.enter_context(pull(channel.srt, seconds=3)) for _ in range(4)]:
            judge(take_of(player), LONG, least=1.5)
        with pull(channel.url("live.flv"), seconds=3) as viewer:
            judge(take_of(viewer), LONG, least=1.5)


def test_a_push_returns_to_any_worker(gateway: Cores) -> None:
    channel = gateway.channel()
    for _ in range(3):
        with srt_push(SHORT, channel.srt_push):
            channel.wait_live()
            until(lambda: channel.session()["state"] == "live", "live")


@pytest.mark.nightly
def test_a_reload_interrupts_neither_push_nor_players(start: Start) -> None:
    gateway = start(2, **PATIENT)
    channel = gateway.channel()
    digests = [frame.digest for frame in LONG.hashes().video] * 6
    with srt_push(LONG, channel.srt_push, loop=True) as publisher:
        channel.wait_live()
        with pull(channel.srt, seconds=None) as before, pull(channel.url("live.flv"), seconds=None) as flv:
            until(lambda: all(len(so_far(player).video) > 30 for player in (before, flv)), "the players see it", 30)
            old = gateway.workers()
            gateway.process.send_signal(signal.SIGHUP)
            until(lambda: '"event":"reloaded"' in gateway.log, "the reload is over", 90)
            with pull(channel.srt, seconds=3) as after:
                excerpt([f.digest for f in take_of(after).video], digests, least=45)
            call(gateway.ports["srt"], f"read:{channel.id}").close()  # a new worker answers
            assert publisher.running, publisher.errors[-400:]
            for player in (before, flv):
                seen = len(so_far(player).video)
                until(lambda: len(so_far(player).video) > seen + 60, "it goes on", 30)  # noqa: B023
                excerpt([f.digest for f in so_far(player).video[:-1]], digests, least=90)
    until(lambda: not any(map(alive, old.values())), "the old workers have ended", 60)
    assert gateway.log.count('"event":"publish ended"') == 1
