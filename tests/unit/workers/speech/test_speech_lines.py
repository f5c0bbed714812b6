"""Lines of a program for speech to text: whole, byte by byte, garbage and floods."""

import json
from functools import partial

import pytest

from gateway.workers.speech_lines import LINES_PER_SECOND, MAX_LINE, SpeechLineReader
from gateway.workers.speech_protocol import Words
from tests.support.feeding import cuts, feed_all_ways


def line(text: str = "hello", start: float = 1, end: float = 1.5, final: bool = True) -> bytes:
    return json.dumps({"text": text, "from": start, "to": end, "final": final}).encode() + b"\n"


GARBAGE = [
    b"loading model",
    b"\xff\xfe\x00",
    b"[" * 1_900,
    b"[]",
    b'{"text": "a"}',
    b'{"text": 1, "from": 0, "to": 1, "final": true}',
    b'{"text": " \\u0000 ", "from": 0, "to": 1, "final": true}',
    b'{"text": "a", "from": -1, "to": 1, "final": true}',
    b'{"text": "a", "from": 2, "to": 1, "final": true}',
    b'{"text": "a", "from": 1, "to": NaN, "final": true}',
    b'{"text": "a", "from": 0, "to": 1' + b"0" * 400 + b', "final": true}',
    b'{"text": "a", "from": 0, "to": 1e999, "final": true}',
    b'{"text": "a", "from": 0, "to": 1, "final": "yes"}',
]


def test_lines_are_read_in_any_pieces() -> None:
    data = line() + b"\n" + line("ü 字", 2, 3, final=False) + b"the rest"
    words = [Words("hello", 1, 1.5), Words("ü 字", 2, 3, False)]
    assert feed_all_ways(lambda: partial(SpeechLineReader().receive, now=0.0), data) == words


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda value: value[:40].decode("latin-1"))
def test_a_line_without_words_is_dropped_and_the_next_one_is_read(garbage: bytes) -> None:
    for pieces in cuts(garbage + b"\n" + line()):
        reader = SpeechLineReader()
        assert [w for piece in pieces for w in reader.receive(piece, 0.0)] == [Words("hello", 1, 1.5)]
        assert reader.dropped == 1


def test_a_line_that_is_too_long_is_dropped_whole() -> None:
    longest = line("x" * (MAX_LINE - len(line("")) + 1))
    for pieces in cuts(longest + line("y" * 10 * MAX_LINE) + line()):
        reader = SpeechLineReader()
        words = [w for piece in pieces for w in reader.receive(piece, 0.0)]
        assert [w.text[0] for w in words] == ["x", "h"] and reader.dropped == 1


def test_white_space_and_control_characters_become_single_spaces() -> None:
    assert SpeechLineReader().receive(line(" a\t\n b\u2028\x07c "), 0.0)[0].text == "a b c"


def test_lines_above_the_rate_are_dropped() -> None:
    reader = SpeechLineReader()
    assert len(reader.receive(line() * 1_000, 0.0)) == LINES_PER_SECOND
    assert reader.dropped == 1_000 - LINES_PER_SECOND
    assert len(reader.receive(line() * 1_000, 0.5)) == LINES_PER_SECOND // 2


def test_memory_is_bounded_without_a_line_feed() -> None:
    reader = SpeechLineReader()
    for _ in range(100):
        assert reader.receive(b"x" * 65_536, 0.0) == []
    assert len(reader._incomplete) == MAX_LINE + 1
    assert reader.receive(b"\n" + line(), 0.0) == [Words("hello", 1, 1.5)]
    assert reader.dropped == 1
