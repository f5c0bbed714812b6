"""What a browser pushes: an intake takes the binary messages of one push, of whatever form, and publishes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Treatment: TypeAlias = Literal["copy", "transcode"]


class IntakeFailed(Exception):
    """The push cannot go on; the message tells the publisher why: unusable media, or workers that keep dying.

    `again`: nothing was wrong with the media, another try may succeed (no worker was free, the encoder kept dying).
    """

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


@dataclass(frozen=True, slots=True)
class IntakeStats:
    """What the publisher is told once a second.

    frames: pictures published so far; dropped: pictures left out because something could not keep up or was damaged;
    behind: seconds that what is published lies behind what was received; video, audio: copied or transcoded, None
    where there is no such track (yet).
    """

    frames: int = 0
    dropped: int = 0
    behind: float = 0.0
    video: Treatment | None = None
    audio: Treatment | None = None


class Intake(Protocol):
    """One browser push, from its first message to its last. `run` belongs to one task, `feed` to another."""

    async def run(self) -> None:
        """Works until the push is over: `finish` was called and what was inside is published.

        Raises IntakeFailed. Cancelling ends it at once; the publisher is closed by whoever opened it.
        """

    async def feed(self, data: bytes) -> None:
        """The next binary message. It may wait, which holds the socket back. Raises InvalidData for what is no media.

        After `run` has ended it returns at once.
        """

    def finish(self) -> None:
        """Nothing more will be fed."""

    @property
    def stats(self) -> IntakeStats: ...
