"""The interface of browser pushes: an intake takes the binary messages of one push and publishes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Treatment: TypeAlias = Literal["copy", "transcode"]


class IntakeFailed(Exception):
    """The push cannot continue. The message tells the publisher why: unusable media, or workers that keep dying.

    `again`: the media was not the reason, so another try may succeed (no worker was free, the encoder kept dying).
    """

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


@dataclass(frozen=True, slots=True)
class IntakeStats:
    """The figures that are sent to the publisher once a second.

    frames: pictures published so far. dropped: pictures left out because of overload or damage.
    behind: seconds between receiving and publishing.
    video, audio: whether the track is copied or transcoded; None if there is no such track (yet).
    """

    frames: int = 0
    dropped: int = 0
    behind: float = 0.0
    video: Treatment | None = None
    audio: Treatment | None = None


class Intake(Protocol):
    """One browser push, from its first message to its last. One task calls `run`, another calls `feed`."""

    async def run(self) -> None:
        """Works until `finish` was called and everything received is published.

        Raises IntakeFailed. Cancelling ends it at once; the caller that opened the publisher closes it.
        """

    async def feed(self, data: bytes) -> None:
        """Takes the next binary message. It may wait, which stops reading the socket. Raises InvalidData for invalid
        media.

        After `run` has ended it returns at once.
        """

    def finish(self) -> None:
        """Ends the feed: no more messages follow."""

    @property
    def stats(self) -> IntakeStats: ...
