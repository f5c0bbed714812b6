"""The memory that all viewers of a process share."""

import sys
from typing import Final

TIGHT_SECONDS: Final = 5.0  # the stall limit while at most a quarter of the shared memory is free


class ViewerMemory:
    """Counts and limits the bytes that wait for all viewers of a process.

    Each viewer may use as much memory as is free. This is a dynamic threshold (Choudhury and Hahne, "Dynamic Queue
    Length Thresholds for Shared-Memory Packet Switches", 1998). So one viewer can use half of the memory. Each of a
    thousand stalled viewers can use a thousandth.
    If no memory is free, viewers without waiting bytes are not affected: for them, the next batch may exceed the limit.
    While at most a quarter is free, viewers that do not read are disconnected after TIGHT_SECONDS.
    Bytes that several viewers share are counted for each of them, except a Burst. So the real memory is below
    the limit.

    bytes: those that wait now. limit: the most that may wait; 0: no limit. left: `limit` minus `bytes`.
    """

    __slots__ = ("bytes", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit or sys.maxsize
        self.bytes = 0

    def stall_limit(self, seconds: float) -> float:
        """Returns the seconds after which a late viewer that does not read is disconnected; 0: never.

        seconds: the configured limit, at most TIGHT_SECONDS while little memory is free.
        """
        if self.bytes * 4 < self.limit * 3:
            return seconds
        return min(seconds, TIGHT_SECONDS) if seconds else TIGHT_SECONDS

    @property
    def left(self) -> int:
        """The free bytes, which one viewer may use in addition."""
        return self.limit - self.bytes
