"""Work that fills the disk is ended."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.vod import free_space
from gateway.vod.free_space import run_while_space
from gateway.workers.vod_bounds import Bounds, UnusableFilm


class Usage(NamedTuple):
    total: int
    used: int
    free: int


async def test_running_work_is_cancelled_when_the_disk_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [1000]
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, free[0]))
    monkeypatch.setattr(free_space, "_POLL_SECONDS", 0.01)
    cancelled = []

    async def work() -> None:
        free[0] = 1
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    with pytest.raises(UnusableFilm, match=r"the disk has 1 bytes left, 500 stay free"):
        await run_while_space(Bounds(keep_free=500), tmp_path, work)
    assert cancelled


async def test_work_is_not_begun_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 1))

    async def work() -> None:
        raise AssertionError("begun")

    with pytest.raises(UnusableFilm, match=r"vod\.keep_free"):
        await run_while_space(Bounds(keep_free=500), tmp_path, work)


async def test_the_result_or_error_of_the_work_is_passed_on(tmp_path: Path) -> None:
    async def well() -> int:
        return 7

    async def badly() -> int:
        raise UnusableFilm("no film")

    assert await run_while_space(Bounds(), tmp_path, well) == 7
    with pytest.raises(UnusableFilm, match="no film"):
        await run_while_space(Bounds(), tmp_path, badly)
