"""Settings of the garbage collector, files and umask for a server process, applied once at its start."""

import gc
import os
import resource
from typing import Final

_UMASK: Final = 0o027


def tune_garbage_collector() -> None:
    """Excludes the objects of the start from garbage collection, and makes collections rare.

    Media does not create reference cycles. With the default thresholds, the collector would examine every unit several
    times. This would cost a tenth of the CPU time, and stop the event loop for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def raise_file_limit() -> None:
    """Raises the limit of open files and sockets to the allowed maximum."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def make_files_private() -> None:
    """Limits new files of this process and its children to 0640, and folders to 0750.

    Then other users cannot read recordings. A stricter umask stays. Call it before there are threads, because reading
    the umask sets it for a moment.
    """
    os.umask(os.umask(_UMASK) | _UMASK)
