"""Captions of recognised words: their times, and the splitting of long texts."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.media.timed_data import CaptionText
from gateway.outputs.captions.captions_output import MAX_CHARACTERS, SHOWN_MS, captions_of
from gateway.workers.speech_protocol import Words


def test_a_short_text_is_one_caption_from_its_first_word_until_it_can_be_read() -> None:
    made = list(captions_of(Words("hello there", 5.25, 6.5), 8_000, "en"))
    assert made == [CaptionText("hello there", 5_250, 8_000 + SHOWN_MS, "en", is_speech=True)]


def test_a_caption_is_shown_for_a_while_after_its_last_word() -> None:
    (made,) = captions_of(Words("hello", 5, 9), 8_000, "")
    assert made.end == 9_000 + SHOWN_MS


def test_a_long_text_is_split_between_words_and_its_time_is_shared_by_length() -> None:
    text = " ".join(["word"] * 40)  # 199 characters
    made = list(captions_of(Words(text, 10, 20), 0, "en"))
    assert [caption.text for caption in made] == [" ".join(["word"] * n) for n in (17, 17, 6)]
    assert [caption.start for caption in made] == [10_000, 14_264, 18_528]
    assert [caption.end for caption in made] == [14_264 + SHOWN_MS, 18_528 + SHOWN_MS, 22_000]


def test_a_text_without_spaces_is_cut() -> None:
    made = list(captions_of(Words("字" * 100, 0, 10), 0, "zh"))
    assert [len(caption.text) for caption in made] == [MAX_CHARACTERS, 16]


@given(st.text(max_size=500), st.floats(0, 1e6), st.floats(0, 1e3), st.integers(0, 10**9))
def test_any_text_keeps_its_words_and_its_times_grow(text: str, start: float, length: float, known: int) -> None:
    words = Words(" ".join(text.split()), start, start + length)
    made = list(captions_of(words, known, ""))
    assert "".join(caption.text for caption in made).replace(" ", "") == words.text.replace(" ", "")
    assert all(0 < len(caption.text) <= MAX_CHARACTERS for caption in made)
    times = [caption.start for caption in made]
    assert times == sorted(times) and all(round(start * 1000) <= at <= round(words.end * 1000) for at in times)
    assert all(caption.end is not None and caption.end >= max(known, caption.start) + SHOWN_MS for caption in made)
