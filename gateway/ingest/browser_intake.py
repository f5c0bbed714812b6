"""The interface of browser pushes: an intake receives the binary messages of one push and publishes them."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class IntakeStats:
    """The statistics that the publisher gets once a second.

    frames: number of published pictures. dropped: number of pictures dropped because of overload or damage.
    behind: seconds between receiving and publishing.
    video, audio: "copy" or "transcode"; None if the track does not exist (yet).
    """

    frames: int = 0
    dropped: int = 0
    behind: float = 0.0
    video: str | None = None
    audio: str | None = None


class Intake(Protocol):
    """One browser push, from its first message to its last. One task calls `run`, another calls `feed`."""

    async def run(self) -> None:
        """Publishes until `finish` was called and all received media is published. Raises IntakeFailed.

        Cancelling ends it at once. The intake does not close the publisher.
        """

    async def feed(self, data: bytes) -> None:
        """Processes the next binary message. Raises InvalidData.

        It may wait, which stops reading the socket. After `run` has ended, it returns at once.
        """

    def finish(self) -> None:
        """Called after the last message."""

    @property
    def stats(self) -> IntakeStats: ...
