"""SIGHUP replaces every worker by one with the new configuration, without interrupting clients."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import pytest

from tests.support.clients import pull, push, take_of, until
from tests.support.cores import FILM, LONG, Start, alive, viewers_everywhere
from tests.support.gateway import http
from tests.support.media import judge

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers need Linux")


def test_a_reload_interrupts_neither_publishers_nor_viewers(start: Start) -> None:
    gateway = start(2, MILLRACE_STREAM__LINGER="3")
    channel = gateway.channel()
    with push(LONG, channel.push) as publisher:
        channel.wait_playable("live.m3u8")
        with viewers_everywhere(gateway, channel.url("live.flv")) as before:
            old = gateway.workers()
            gateway.process.send_signal(signal.SIGHUP)
            until(lambda: '"event":"reloaded"' in gateway.log, "the reload is over", 30)
            assert {"1-2", "2-2"} <= gateway.workers().keys()
            with pull(channel.url("live.flv"), seconds=None) as after, pull(channel.url("live.m3u8")) as hls:
                publisher.wait()
                judge(take_of(hls), LONG)
                for viewer in before:
                    until(lambda: not viewer.running, "the stream ends with its publisher", 40)  # noqa: B023
                gateway.api("DELETE", f"/videostream/{channel.id}/session")
                judge(take_of(after), LONG)
                for viewer in before:
                    take = take_of(viewer)
                    judge(take, LONG)
                    assert take.video[-1].digest == LONG.hashes().video[-1].digest, "to its last frame"
    assert publisher.process.returncode == 0, publisher.errors
    until(lambda: not any(map(alive, old.values())), "the old workers have ended", 20)
    assert gateway.log.count('"event":"publish ended"') == 1


def test_a_replaced_process_ends_after_the_maximum_time(start: Start) -> None:
    gateway = start(2, MILLRACE_SERVE__RETIRE="1")
    channel = gateway.channel()
    with push(FILM, channel.push) as publisher:
        channel.wait_live()
        old = gateway.workers()
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: not any(map(alive, old.values())), "the old workers have ended", 30)
        until(lambda: not publisher.running, "the push is cut")
    assert "publishers or viewers remain after serve.retire" in gateway.log
    gateway.wait_workers("1-2", "2-2")


def test_requests_are_answered_all_the_time_while_workers_are_replaced(start: Start) -> None:
    gateway = start(2)
    statuses: list[object] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                statuses.append(gateway.ask())
            except OSError as error:
                statuses.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for times in (1, 2):
            gateway.process.send_signal(signal.SIGHUP)
            until(lambda: gateway.log.count('"event":"reloaded"') == times, "reloaded", 30)  # noqa: B023
        gateway.wait_workers("1-3", "2-3")
    finally:
        over.set()
        asking.join()
    assert len(statuses) > 50
    assert set(statuses) == {200}


def test_a_reload_applies_the_new_configuration(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "millrace.toml"
    config.write_text("")
    gateway = start(2, MILLRACE_CONFIG=str(config))
    channel = gateway.channel()
    with push(FILM, channel.push):
        channel.wait_playable("live.m3u8")
        config.write_text('[playback]\nauth = "sign"\n')
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: '"event":"reloaded"' in gateway.log, "the reload is over", 30)
        until(lambda: {http("GET", channel.url("live.m3u8")).status for _ in range(10)} == {403}, "signs are asked for")


def test_an_unusable_configuration_changes_nothing_and_gives_one_log_line(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "millrace.toml"
    config.write_text("")
    (tmp_path / "ladders.toml").write_text("nonsense")
    gateway = start(2, MILLRACE_CONFIG=str(config))
    before = gateway.workers()
    for text, words in (
        ("[stream]\nlinger = 'long'\n", "stream.linger"),
        (f"[tls]\ncert = '{tmp_path}/cert.pem'\n", "tls.cert"),
        (f"[transcode]\nladders = '{tmp_path}/ladders.toml'\n", "ladders.toml"),
    ):
        told = len(gateway.log)
        config.write_text(text)
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: "reload cancelled" in gateway.log[told:], "it is said", 30)  # noqa: B023
        assert words in gateway.log[told:]
        assert gateway.log[told:].count("reload cancelled") == 1
        assert "Traceback" not in gateway.log
        assert gateway.wait_workers("1", "2") == before
        assert gateway.ask() == 200
