"""Gives pairs of bytes to the decoder of closed captions, as pictures at 30 a second."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.formats.captions.decoder import ClosedCaptionDecoder
from gateway.formats.captions.source import CaptionChange
from tests.support.caption_writer import packet

PICTURE = 3_000  # ticks of 90 kHz


class CaptionPlayer:
    """A decoder, the time of its next picture, and all changes so far."""

    def __init__(self) -> None:
        self.decoder = ClosedCaptionDecoder()
        self.time = 0
        self.changes: list[CaptionChange] = []

    def picture(self, *pairs: tuple[int, bytes]) -> int:
        """Gives one picture with pairs and their `cc_type`. Returns its time."""
        self.changes += self.decoder.take(b"".join(bytes([0xFC | kind]) + pair for kind, pair in pairs), self.time)
        self.time += PICTURE
        return self.time - PICTURE

    def send(self, pairs: Iterable[bytes], field: int = 0) -> int:
        """Gives pictures with one pair each. Returns the time of the last one."""
        for pair in pairs:
            self.picture((field, pair))
        return self.time - PICTURE

    def wait(self, seconds: float) -> None:
        """Gives pictures without pairs."""
        for _ in range(round(seconds * 30)):
            self.picture()

    def service(self, data: bytes, number: int = 1, sequence: int = 0) -> int:
        """Gives a picture with a packet that has one block. Returns its time."""
        first, *rest = packet(number, data, sequence)
        return self.picture((3, first), *((2, pair) for pair in rest))

    @property
    def texts(self) -> list[str]:
        """The texts of all changes."""
        return [change.text for change in self.changes]


def shown_at(changes: Sequence[CaptionChange], source: str, time: int) -> str:
    """What a source shows at a time."""
    return next((c.text for c in reversed(changes) if c.source == source and c.start <= time), "")
