"""Reads the lines that a program for speech to text writes: one JSON object with words in each. No I/O."""

from typing import Final

from gateway.lib.token_bucket import TokenBucket
from gateway.media.errors import InvalidData
from gateway.protocols import wire
from gateway.workers.speech_protocol import Words, read_words

MAX_LINE: Final = 2_000  # bytes
LINES_PER_SECOND: Final = 20


class SpeechLineReader:
    """Joins bytes to lines, and reads their words.

    Lines above MAX_LINE or LINES_PER_SECOND, and lines without words, are dropped and counted in `dropped`. Memory: one
    line and the bytes of a call.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._incomplete = b""
        self._limit = TokenBucket(LINES_PER_SECOND, LINES_PER_SECOND)

    def receive(self, data: bytes, now: float) -> list[Words]:
        """Returns the words of all lines that these bytes complete. now: monotonic seconds. Raises nothing."""
        *lines, incomplete = (self._incomplete + data).split(b"\n")
        self._incomplete = incomplete[: MAX_LINE + 1]  # one byte more, so that the line is found to be too long
        found = [self._read(line, now) for line in lines if line.strip() or len(line) > MAX_LINE]
        return [words for words in found if words is not None]

    def _read(self, line: bytes, now: float) -> Words | None:
        words = None
        if self._limit.take(1, now) and len(line) <= MAX_LINE:
            try:
                words = read_words(wire.read_json(line))
            except InvalidData:
                words = None
        self.dropped += words is None
        return words
