"""Returns free memory of the heap to the system.

After a burst, such as many viewers that did not read, glibc keeps the pages between blocks in use. By itself it returns
only those at the end of the heap, so the memory of a process would stay at its highest point.
"""

import asyncio
import ctypes
from typing import Any, Final

import structlog

log = structlog.get_logger(__name__)

_PAUSE: Final = 300.0  # seconds between two looks
_LEAST: Final = 16_000_000  # free bytes that are worth the milliseconds for which allocations wait
_FIELDS: Final = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks")


class _Mallinfo2(ctypes.Structure):
    """`struct mallinfo2`, mallinfo(3). fordblks: free bytes between and behind the blocks in use."""

    _fields_ = [(name, ctypes.c_size_t) for name in (*_FIELDS, "keepcost")]


async def return_free_memory() -> None:
    """Looks every five minutes until cancelled. Ends at once without glibc 2.33 or later."""
    libc = _glibc()
    if libc is None:
        return
    while True:
        await asyncio.sleep(_PAUSE)
        if free := await asyncio.to_thread(trim, libc, _LEAST):
            log.debug("free memory was returned to the system", bytes=free)


def trim(libc: Any, least: int) -> int:
    """Returns the heap's free pages if `least` bytes are free, and the number of free bytes; else 0."""
    free = int(libc.mallinfo2().fordblks)
    if free < least:
        return 0
    libc.malloc_trim(0)
    return free


def _glibc() -> Any:
    """Returns the C library; None if it cannot trim."""
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "mallinfo2") and hasattr(libc, "malloc_trim")):
        return None
    libc.mallinfo2.restype = _Mallinfo2
    return libc
