"""Tuning: what a serving process asks of the system and of the collector, once."""

from __future__ import annotations

import gc
import resource


def calm_collector() -> None:
    """What start-up made stays, so the collector need not see it again. Media flows without cycles: looking at every
    unit in every window a few times, as the default thresholds would, costs a tenth of the processor and stops the
    loop for tens of milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def raise_file_limit() -> None:
    """As many sockets as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
