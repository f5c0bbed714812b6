"""Shares of a pool of workers: each has a limit of its own, and its workers count in the whole."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.ports.errors import OutputError
from gateway.settings.layers import load
from gateway.workers.worker_pool import WorkerPool

MODULE = "tests.support.echo_worker"


def pool(most: int) -> WorkerPool:
    settings = load(environ={}, overrides=[f"workers.most={most}"])
    return WorkerPool(settings.workers, Counter(WORKER_RESTARTS))


async def test_a_share_has_its_own_limit_and_counts_in_the_whole() -> None:
    whole = pool(3)
    share = whole.share(2, "viewers are busy")
    part = share.share(1, "encoders are busy")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(part.start(MODULE, "one"))
        assert (part.running, share.running, whole.running) == (1, 1, 1)
        assert part.is_full and not share.is_full
        with pytest.raises(OutputError, match="all 1 encoders are busy"):
            await stack.enter_async_context(part.start(MODULE, "two"))
        await stack.enter_async_context(share.start(MODULE, "two"))
        with pytest.raises(OutputError, match="all 2 viewers are busy"):
            await stack.enter_async_context(share.start(MODULE, "three"))
        await stack.enter_async_context(whole.start(MODULE, "three"))
        assert (part.running, share.running, whole.running) == (1, 2, 3)
    assert (part.running, share.running, whole.running) == (0, 0, 0)
    assert not part.is_full and not share.is_full


async def test_a_share_gets_no_worker_when_the_pool_is_full() -> None:
    whole = pool(1)
    share = whole.share(1, "viewers are busy")
    async with whole.start(MODULE, "one"):
        assert share.is_full
        with pytest.raises(OutputError, match=r"all 1 media workers are busy \(workers.most\)"):
            async with share.start(MODULE, "two"):
                raise AssertionError("it must not start")
    assert (share.running, whole.running) == (0, 0)
