"""A container with less processor time or memory than its host: the program sees its limits, and lives with them."""

from __future__ import annotations

import os
import urllib.request
from typing import Any

import pytest

from tests.support import films
from tests.support.clients import pull, push, so_far, until
from tests.support.containers import Container, container
from tests.support.media import Film, judge
from tests.support.time_outs import at_most

# The image takes minutes where no other test has built it.
pytestmark = pytest.mark.nightly

FILM = Film("contained-limits", seconds=240)  # outlasts a job on a busy machine
ALL_CORES = {"MILLRACE_SERVE__WORKERS": "0"}
MEMORY = 500_000_000


def processes(gateway: Container) -> int:
    """The number of processes that serve: the children of the first one, or itself."""
    return len(gateway.run("cat", "/proc/1/task/1/children").split()) or 1


def status(gateway: Container) -> dict[str, Any]:
    return dict(gateway.api("GET", "/status").json())


def test_there_is_a_process_for_each_core_of_the_quota_and_not_of_the_host(data: str) -> None:
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        pytest.skip("this machine has one core")
    with container(data, **ALL_CORES) as gateway:
        assert processes(gateway) == cores
    with container(data, "--cpus=1", **ALL_CORES) as gateway:
        assert processes(gateway) == 1
        assert status(gateway)["cpu"]["cores"] == 1
        assert "one, on one core\n" in gateway.run("millrace", "doctor")


def test_the_memory_of_the_container_is_shown_and_bounds_jobs(data: str) -> None:
    with container(data, f"--memory={MEMORY}") as gateway:
        assert status(gateway)["memory"]["total"] <= MEMORY
        assert '"option":"vod.memory"' in gateway.log


def test_the_kernel_ends_a_worker_above_the_memory_limit_and_streams_continue(data: str) -> None:
    """The limits of the program would end it earlier, so they are off."""
    large = films.silent("large.mp4", "testsrc2=size=3840x2160:rate=10", *films.H264, seconds=6)
    no_limit = {"MILLRACE_VOD__MEMORY": "0", "MILLRACE_VOD__PRESET": "slow"}
    with container(data, f"--memory={MEMORY}", f"--memory-swap={MEMORY}", **no_limit) as gateway:
        channel = gateway.channel()
        with push(FILM, channel.push):
            channel.wait_playable("live.m3u8")
            offer = gateway.api("POST", "/uploads", {"name": "large.mp4"}).json()
            sent = urllib.request.Request(
                offer["url"], data=large.read_bytes(), headers=offer["headers"], method=offer["method"]
            )
            with pull(channel.url("live.flv"), seconds=None) as player:
                urllib.request.urlopen(sent, timeout=at_most(30)).close()
                own = int(gateway.run("cat", "/proc/1/oom_score_adj"))
                scores = ("sh", "-c", "cat /proc/[0-9]*/oom_score_adj")
                until(lambda: str(own + 500) in gateway.run(*scores, expected=None).split(), "a worker goes first")

                def failed() -> Any:
                    jobs = gateway.api("GET", "/jobs").json()
                    return next((job for job in jobs if job["state"] == "ERROR"), None)

                job = until(failed, "the job has failed", 60)
                assert "SIGKILL" in job["error"], job
                seen = len(so_far(player).video)
                until(lambda: len(so_far(player).video) > seen + 60, "two more seconds of pictures")
                player.stop()
                judge(so_far(player), FILM, least=4)
            assert channel.session()["state"] == "live"
