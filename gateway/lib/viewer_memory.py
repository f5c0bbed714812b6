"""The protocol by which listeners count the bytes that wait for viewers."""

from typing import Protocol


class ViewerMemory(Protocol):
    """Counts and limits the bytes that wait for all viewers of a process; implemented by `packaging.backlog.Backlogs`.

    bytes: those that wait now. limit: the most that may wait. left: limit minus bytes.
    """

    bytes: int
    limit: int

    @property
    def left(self) -> int: ...

    def stall_limit(self, seconds: float) -> float:
        """Returns the seconds after which a viewer that reads nothing is disconnected; 0: never.

        seconds: the configured limit. It is shorter while little memory is free.
        """
