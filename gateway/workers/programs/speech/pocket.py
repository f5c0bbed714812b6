"""PocketEngine: CMU PocketSphinx with the English model of its package. For tests and demonstrations: it errs often."""

from typing import Final

from gateway.workers.programs.speech.engine import Deliver, not_installed
from gateway.workers.speech_protocol import RATE, Words

_LONGEST: Final = 6.0  # seconds of speech without a pause; then the words so far are final
_FRAMES_PER_SECOND: Final = 100  # of the times of words
_BYTES_PER_SECOND: Final = 2 * RATE


class PocketEngine:
    """Finds where speech begins and ends, and recognises each piece. `_begin`: seconds of sound before the piece."""

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
        self._decoder.process_raw(speech)
        self._length += len(speech) / _BYTES_PER_SECOND
        if not self._endpointer.in_speech or self._length >= _LONGEST:
            self._end()

    def _end(self) -> None:
        assert self._begin is not None, "a piece is open"
        begin, self._is_open = self._begin, False
        self._begin = begin + self._length if self._endpointer.in_speech else None  # the next piece follows
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        spoken = [word for word in self._decoder.seg() or () if not word.word.startswith(("<", "["))]
        if hypothesis is not None and hypothesis.hypstr and spoken:
            start, end = spoken[0].start_frame, spoken[-1].end_frame + 1
            text = hypothesis.hypstr
            self._deliver(Words(text, begin + start / _FRAMES_PER_SECOND, begin + end / _FRAMES_PER_SECOND))
