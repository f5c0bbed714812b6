"""Target: lines of a program for speech to text. Words are bounded, and all cuts give the same words."""

from gateway.workers.speech_lines import SpeechLineReader
from gateway.workers.speech_protocol import MAX_TEXT, Words

SEEDS = [
    b'{"text": "hello there", "from": 1.5, "to": 2.25, "final": true}\n',
    b'loading\n{"text": "a", "from": 0, "to": 1e3, "final": false}\n',
    b'{"text": "\\ud800", "from": 0, "to": 0, "final": true}\n',
]


def _read(pieces: list[bytes]) -> tuple[list[Words], int]:
    reader = SpeechLineReader()
    return [words for piece in pieces for words in reader.receive(piece, 0.0)], reader.dropped


def fuzz(data: bytes) -> None:
    words, dropped = _read([data])
    assert _read([data[i : i + 1] for i in range(len(data))]) == (words, dropped)
    for one in words:
        assert 0 < len(one.text) <= MAX_TEXT and 0 <= one.start <= one.end
