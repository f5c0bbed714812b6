"""The heap is given back after a burst."""

import asyncio
from pathlib import Path

import pytest

from gateway.lib import heap
from tests.support.time_outs import at_most


def resident() -> int:
    """Bytes of this process in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) * 1024


def test_memory_between_blocks_in_use_is_returned() -> None:
    libc = heap._glibc()
    if libc is None:
        pytest.skip("not glibc")
    blocks = [bytes(20_000) for _ in range(4_000)]
    del blocks[::2]
    before = resident()
    assert heap.trim(libc, 1 << 40) == 0
    assert heap.trim(libc, 16_000_000) > 16_000_000
    assert resident() < before - 20_000_000
    assert len(blocks) == 2_000


async def test_it_looks_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(heap, "_PAUSE", 0.0)
    monkeypatch.setattr(heap, "trim", lambda libc, least: loop.call_soon_threadsafe(looks.release) and 0)
    task = asyncio.create_task(heap.return_free_memory())
    async with asyncio.timeout(at_most(10)):
        await looks.acquire()
        await looks.acquire()
    task.cancel()
