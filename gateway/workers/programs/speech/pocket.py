"""PocketEngine: CMU PocketSphinx with the English model of its package. For tests and demonstrations: it errs often."""

from typing import Final, TypeAlias

from gateway.workers.programs.speech.engine import Deliver, not_installed
from gateway.workers.speech_protocol import RATE, Words

_LONGEST: Final = 6.0  # seconds of speech without a pause; then the words so far are final
_LOOK: Final = 0.3  # seconds of speech between two looks at the words so far
_SETTLED: Final = 0.6  # seconds after a word after which it rarely changes
_SPAN: Final = 1.2  # seconds of words that are told together
_FRAMES_PER_SECOND: Final = 100  # of the times of words
_BYTES_PER_SECOND: Final = 2 * RATE
_Word: TypeAlias = tuple[str, int, int]  # text, first frame, frame after the last one


class PocketEngine:
    """Finds where speech begins and ends, and recognises each piece. `_begin`: seconds of sound before the piece.

    Within a long piece, words that two looks have found alike are final: later sound rarely changes them.
    """

    def __init__(self, argument: str, deliver: Deliver) -> None:
        try:
            from pocketsphinx import Decoder, Endpointer
        except ImportError:
            raise not_installed("pocketsphinx>=5.1") from None
        self.dropped = 0
        self._deliver = deliver
        self._decoder = Decoder(samprate=RATE, loglevel="FATAL")
        self._endpointer = Endpointer(sample_rate=RATE)
        self._incomplete = b""
        self._begin: float | None = None
        self._length = 0.0  # seconds of speech in this piece
        self._is_open = False
        self._told = 0  # words of this piece that were delivered
        self._seen: list[str] = []  # the words that followed them at the last look
        self._looked = 0.0  # `_length` at the last look

    def accept(self, samples: bytes) -> None:
        data, size = self._incomplete + samples, self._endpointer.frame_bytes
        whole = len(data) - len(data) % size
        self._incomplete = data[whole:]
        for at in range(0, whole, size):
            self._take(data[at : at + size])

    def _take(self, frame: bytes) -> None:
        speech = self._endpointer.process(frame)
        if speech is None:
            return
        if not self._is_open:
            self._begin = self._endpointer.speech_start if self._begin is None else self._begin
            self._decoder.start_utt()
            self._is_open, self._length = True, 0.0
            self._told, self._looked, self._seen = 0, 0.0, []
        self._decoder.process_raw(speech)
        self._length += len(speech) / _BYTES_PER_SECOND
        if not self._endpointer.in_speech or self._length >= _LONGEST:
            self._end()
        elif self._length - self._looked >= _LOOK:
            self._looked = self._length
            self._look()

    def _words(self) -> list[_Word]:
        """Returns the words of this piece that were not delivered, with their frames."""
        found = [word for word in self._decoder.seg() or () if not word.word.startswith(("<", "["))]
        return [(_plain(word.word), word.start_frame, word.end_frame + 1) for word in found[self._told :]]

    def _look(self) -> None:
        settled = (self._length - _SETTLED) * _FRAMES_PER_SECOND
        words = [word for word in self._words() if word[2] <= settled]
        texts = [text for text, _, _ in words]
        count = next((n for n, pair in enumerate(zip(texts, self._seen, strict=False)) if pair[0] != pair[1]), None)
        stable = words[: min(len(texts), len(self._seen)) if count is None else count]
        self._seen = texts
        if stable and stable[-1][2] - stable[0][1] >= _SPAN * _FRAMES_PER_SECOND:
            self._told += len(stable)
            self._seen = texts[len(stable) :]
            self._tell(stable)

    def _tell(self, words: list[_Word]) -> None:
        assert self._begin is not None, "a piece is open"
        start, end = (self._begin + frame / _FRAMES_PER_SECOND for frame in (words[0][1], words[-1][2]))
        self._deliver(Words(" ".join(text for text, _, _ in words), start, end))

    def _end(self) -> None:
        assert self._begin is not None, "a piece is open"
        self._is_open = False
        self._decoder.end_utt()
        if words := self._words():
            self._tell(words)
        self._begin = self._begin + self._length if self._endpointer.in_speech else None  # the next piece follows


def _plain(word: str) -> str:
    """Returns a word without the number of its pronunciation, such as in `the(2)`."""
    return word.partition("(")[0]
