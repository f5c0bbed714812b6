"""Settings of the process and of the garbage collector for a serving process, made once at its start."""

from __future__ import annotations

import gc
import os
import resource
from typing import Final

_NOT_FOR_OTHERS: Final = 0o027


def tune_garbage_collector() -> None:
    """Excludes the objects of the start-up from garbage collection, and makes collections rare.

    Media creates no reference cycles. With the default thresholds, the collector would examine every unit several
    times. That would cost a tenth of the processor, and stop the event loop for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def raise_file_limit() -> None:
    """Raises the limit of open files and sockets to the allowed maximum."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def private_files() -> None:
    """Makes new files of this process and its children 0640 at most, folders 0750. Other users cannot read
    recordings.

    A stricter umask stays. Call it before there are threads, because the old umask can be read only by setting one.
    """
    os.umask(os.umask(_NOT_FOR_OTHERS) | _NOT_FOR_OTHERS)
