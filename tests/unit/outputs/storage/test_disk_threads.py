"""Callers that are cancelled while a thread works for them leave nothing open and nothing locked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.lib.disk import close_file, open_file
from gateway.outputs.storage.disk_threads import DiskThreads
from gateway.vod.temporary_file import temporary_file
from tests.support.time_outs import at_most


def open_files(folder: Path) -> list[str]:
    """The files below a folder that this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # of the list itself
            name = os.readlink(f"/proc/self/fd/{number}")
            if name.startswith(str(folder)):
                found.append(name)
    return found


async def entered(folder: Path) -> None:
    async with temporary_file(folder, ".part"):
        raise AssertionError("the caller is cancelled before")


async def opened(folder: Path) -> None:
    await open_file(folder / "a.ts", "wb")


async def in_disk_threads(folder: Path) -> None:
    threads = DiskThreads(1, "test")
    await threads.run(lambda: (folder / "a.ts").open("wb"), close_file)


@pytest.mark.parametrize("call", [entered, opened, in_disk_threads])
async def test_a_cancelled_caller_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[Path], Awaitable[None]]
) -> None:
    begun, may = threading.Event(), threading.Event()
    real = os.open

    def slow(path: object, *args: object, **named: object) -> int:
        if str(path).startswith(str(tmp_path)):
            begun.set()
            may.wait(at_most(20))
        return real(path, *args, **named)  # type: ignore[arg-type]

    def slow_open(self: Path, mode: str = "r") -> object:
        return os.fdopen(slow(self, os.O_RDWR | os.O_CREAT), "wb")

    monkeypatch.setattr(os, "open", slow)
    monkeypatch.setattr(Path, "open", slow_open)
    task = asyncio.ensure_future(call(tmp_path))
    await asyncio.to_thread(begun.wait, at_most(20))
    task.cancel()
    await asyncio.sleep(0)
    may.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert open_files(tmp_path) == []
    if call is entered:
        assert list(tmp_path.iterdir()) == []
