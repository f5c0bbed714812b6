"""When a worker dies, the other workers continue, and a new worker takes over its work."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.clients import push, so_far, take_of, until
from tests.support.cores import FILM, SHORT, Cores, EdgeCores, Start, answers, viewers_everywhere
from tests.support.gateway import Channel, http
from tests.support.media import judge

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers need Linux")


def test_the_death_of_a_worker_with_only_viewers_affects_only_its_viewers(start: Start) -> None:
    gateway = start(2)
    channel = gateway.channel()
    with push(FILM, channel.push) as publisher:
        channel.wait_live()
        with viewers_everywhere(gateway, channel.url("live.flv")) as viewers:
            for viewer in viewers:
                until(lambda: len(so_far(viewer).video) > 30, "it plays")  # noqa: B023
            holder = gateway.holder()
            (other,) = gateway.workers().keys() - {holder}
            os.kill(gateway.workers()[other], signal.SIGKILL)
            gateway.wait_workers(holder, f"{other}-2")
            with viewers_everywhere(gateway, channel.url("live.flv")) as again:
                publisher.wait()
                gateway.api("DELETE", f"/videostream/{channel.id}/session")
                takes = [take_of(viewer) for viewer in viewers]
                for viewer in again:
                    judge(take_of(viewer), FILM)
    assert publisher.process.returncode == 0, publisher.errors
    whole = [take for take in takes if take.video[-1].digest == FILM.hashes().video[-1].digest]
    assert whole and len(whole) < len(takes), "those of the dead one were cut, the others saw it to its end"
    for take in whole:
        judge(take, FILM)


def test_after_the_holders_death_the_stream_continues_when_its_publisher_returns(start: Start) -> None:
    SHORT.path()  # made now: viewers wait for its push
    gateway = start(2, MILLRACE_STREAM__LINGER="60")  # a busy machine starts encoders slowly
    channel = gateway.channel()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(push(FILM, channel.push))
        channel.wait_playable("live.m3u8")
        viewers = stack.enter_context(viewers_everywhere(gateway, channel.url("live.flv")))
        for viewer in viewers:
            until(lambda: len(so_far(viewer).video) > 30, "it plays")  # noqa: B023
        holder = gateway.holder()
        before = http("GET", channel.url("live.m3u8")).text
        os.kill(gateway.workers()[holder], signal.SIGKILL)
        first.wait()

        def returns() -> bool:
            program = stack.enter_context(push(SHORT, channel.push))
            program.wait()
            return program.process.returncode == 0

        until(returns, "the publisher is taken again, and pushes its film", 50)
        after = until(
            lambda: "SEQUENCE" in (text := http("GET", channel.url("live.m3u8")).text) and text, "HLS goes on"
        )
        until(lambda: answers(gateway), "the console is there again", 10)
        session = f"/videostream/{channel.id}/session"
        until(lambda: gateway.api("GET", session).json()["state"] == "lingering", "all that was pushed has arrived")
        gateway.api("DELETE", session)
        seen = [[frame.digest for frame in take_of(viewer).video] for viewer in viewers]
    number = re.compile(r"#EXT-X-MEDIA-SEQUENCE:(\d+)")
    assert int(number.findall(after)[0]) >= int(number.findall(before)[0])
    ends = [frames[-1] for frames in seen]
    assert SHORT.hashes().video[-1].digest in ends, "viewers of the other worker stayed and saw what came then"


def test_after_the_holders_death_a_channel_without_a_push_returns_on_air(start: Start) -> None:
    gateway = start(2)
    channel = gateway.channel(inputs=[{"kind": "slate", "always": True}])
    channel.wait_live()
    with contextlib.closing(sqlite3.connect(next(gateway.data.rglob("nodes.db")))) as registry:
        ((node,),) = registry.execute("SELECT node FROM holdings").fetchall()
    holder = node.partition(".")[2]
    os.kill(gateway.workers()[holder], signal.SIGKILL)
    until(lambda: holder not in gateway.workers(), "it has died")
    session = f"/videostream/{channel.id}/session"
    until(lambda: gateway.api("GET", session).json().get("state") == "live", "another worker has it", 30)


def test_a_new_worker_finishes_only_the_recordings_of_its_dead_predecessor(start: Start) -> None:
    gateway = start(2, MILLRACE_STREAM__LINGER="2")
    channels = [gateway.channel(isVideo=True, video_time="600") for _ in range(12)]
    with contextlib.ExitStack() as stack:
        pushed: dict[str, Channel] = {}
        for channel in channels:
            before = gateway.connections("rtmp")
            stack.enter_context(push(FILM, channel.push))
            channel.wait_live()
            now = gateway.connections("rtmp")
            (name,) = (name for name in now if now[name] > before.get(name, 0))
            pushed.setdefault(name, channel)
            if len(pushed) == 2:
                break
        assert len(pushed) == 2, "the kernel gave both workers a push"
        scratch = gateway.data / "media/.unfinished/video"
        until(lambda: _sizes(scratch, pushed.values()) == [True, True], "both are recorded")
        (victim, lost), (_, kept) = pushed.items()
        os.kill(gateway.workers()[victim], signal.SIGKILL)
        done = lambda channel: list((gateway.data / "media" / channel.id).rglob("*.mp4"))  # noqa: E731
        until(lambda: done(lost), "the successor finishes it", 20)
        assert done(kept) == []
        assert len(_of(scratch, [kept])) == 1
    until(lambda: done(kept), "the sibling finishes its own", 30)
    assert [len(done(channel)) for channel in (lost, kept)] == [1, 1]


def _of(scratch: Path, channels: Iterable[Channel]) -> list[Path]:
    """Unfinished recordings of these channels."""
    ids = {channel.id for channel in channels}
    return [path for path in scratch.glob("*.fmp4") if path.name.partition("~")[0] in ids]


def _sizes(scratch: Path, channels: Iterable[Channel]) -> list[bool]:
    """Returns for each unfinished recording whether it has some seconds."""
    return [path.stat().st_size > 50_000 for path in _of(scratch, channels)]


@pytest.mark.parametrize("program", [Cores, pytest.param(EdgeCores, marks=pytest.mark.nightly)])
def test_a_hanging_worker_is_replaced_and_connections_are_served(tmp_path: Path, program: type[Cores]) -> None:
    edge = {"MILLRACE_CLUSTER__SECRET": "s" * 32, "MILLRACE_EDGE__UPSTREAM": "127.0.0.1:9"}
    gateway = program(tmp_path, 2, **edge if program is EdgeCores else {})
    try:
        gateway.wait_ready()
        os.kill(gateway.workers()["2"], signal.SIGSTOP)
        gateway.wait_workers("1", "2-2")
        assert [gateway.ask() for _ in range(30)] == [200] * 30
        assert "a worker hangs and is ended" in gateway.log
    finally:
        assert gateway.stop() == 0


def test_the_first_worker_is_replaced_at_once_with_the_console(start: Start) -> None:
    gateway = start(2)
    os.kill(gateway.workers()["1"], signal.SIGKILL)
    gateway.wait_workers("1-2", "2", timeout=10)
    assert gateway.api("GET", "/videostream").status == 200
    assert gateway.log.count('"event":"worker died"') == 1
    nodes = lambda: [one["node"].partition(".")[2] for one in gateway.api("GET", "/nodes").json()]  # noqa: E731
    until(lambda: sorted(nodes()) == ["1-2", "2"], "the dead one is no node any more", 20)
