"""The limits of films and jobs, checked before and while a film is processed."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest

from gateway.protocols import wire
from gateway.vod.package_client import request_package
from gateway.workers.messages import WorkerMessage
from gateway.workers.package_protocol import PackageRequest, PackageResult, VodEncoding
from gateway.workers.vod_bounds import Allowance, Bounds, UnusableFilm, format_duration
from gateway.workers.worker_pool import WorkerDied
from tests.support.studio import settings

NONE = Bounds()


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_the_default_limits_are_finite_and_permit_usual_uploads(tmp_path: Path) -> None:
    bounds = Bounds.of(settings(tmp_path).vod)
    bounds.check_declared_length(86_400)  # a day of a channel's recording
    for check in (bounds.check_declared_length, bounds.check_length):
        with pytest.raises(UnusableFilm, match=r"24\.0 h .*\(vod\.film_seconds\)"):
            check(16 * 86_400)
    assert bounds.output_limit(746_000) == 500_000_000
    assert bounds.output_limit(4_000_000_000) == 120_000_000_000
    assert bounds.time_limit(0) == 1800 and bounds.time_limit(3600) == 216_000
    assert bounds.keep_free


def test_zero_removes_each_limit(tmp_path: Path) -> None:
    NONE.check_declared_length(1e9)
    NONE.check_length(1e9)
    NONE.check_space(tmp_path, 1 << 60)
    assert NONE.output_limit(1) is None and NONE.time_limit(1) is None


def test_a_request_carries_its_limits_to_the_worker() -> None:
    order = PackageRequest("a", "b", "c", VodEncoding(23, "fast", 1, 10), Bounds(1.5, 2.5, 3, 4.5, 6))
    assert wire.decode_record(PackageRequest, wire.write_json(asdict(order))) == order


def test_an_allowance_fails_with_the_first_byte_too_many() -> None:
    allowance = Allowance(10)
    allowance.spend(10)
    with pytest.raises(UnusableFilm, match=r"more than 10 bytes .*\(vod\.output_ratio, vod\.output_bytes\)"):
        allowance.spend(1)
    Allowance(None).spend(1 << 60)


def test_bytes_that_will_be_written_count_for_the_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(1000, 400, 600))
    bounds = Bounds(keep_free=500)
    bounds.check_space(tmp_path, 100)
    with pytest.raises(UnusableFilm, match=r"600 bytes left.*vod\.keep_free"):
        bounds.check_space(tmp_path, 101)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (1.25, "1.2 s"), (119, "119 s"), (1800, "30 min"), (86_400, "24.0 h"), (1_436_000, "398.9 h")],
)
def test_durations_are_written_in_suitable_units(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


class OneLife:
    """A worker that sends these messages; `dies`: it dies afterwards."""

    def __init__(self, said: list[tuple[int, bytes]], dies: bool) -> None:
        self._said = said
        self._dies = dies

    async def send_json(self, kind: int, fields: dict[str, object]) -> None:
        assert kind == WorkerMessage.SETUP

    async def expect(self, within: float) -> tuple[int, bytes]:
        if not self._said and self._dies:
            raise WorkerDied("killed by signal 9")
        return self._said.pop(0)


async def test_a_job_is_tried_again_when_its_worker_dies_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output of the first try counts: both together may take `job_ratio` times as long."""
    now = 0.0
    monkeypatch.setattr("gateway.vod.package_client.time", SimpleNamespace(monotonic=lambda: now))
    made = PackageResult(1, 900.0, 0, 0, False)
    lives = [
        OneLife([(WorkerMessage.PROGRESS, b"[0.2, 900.0]")], dies=True),
        OneLife(
            [(WorkerMessage.PROGRESS, b"[0.1, 450.0]"), (WorkerMessage.DONE, wire.write_json(asdict(made)))], dies=False
        ),
    ]

    class Some:
        @asynccontextmanager
        async def start(self, *_: object, **__: object) -> AsyncIterator[OneLife]:
            yield lives.pop(0)

    def progress(done: float) -> None:
        nonlocal now
        now += 2400.0

    order = PackageRequest("a", "b", "c", VodEncoding(23, "fast", 1, 10), Bounds(job_ratio=60.0))
    assert await request_package(cast(Any, Some()), order, progress, 0) == made
    assert not lives
