"""Pieces of captions: each cue is whole where its end is known, continues where it is not, and none is lost."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.live.stream_captions import StreamCaptions
from gateway.media.caption_cue import CaptionCue
from gateway.media.timed_data import CaptionText
from gateway.media.track import TimedData
from gateway.packaging.caption_pieces import CaptionCutter, join_pieces

SECOND = 90_000


def captions() -> StreamCaptions:
    return StreamCaptions(tuple)


def say(captions: StreamCaptions, text: str, start: int, end: int | None = None) -> None:
    """Takes a text at a time in milliseconds."""
    captions.take(TimedData(start, CaptionText(text, start, end)))


def cut(cutter: CaptionCutter, start: int, end: int) -> list[tuple[str, float, float]]:
    """Cuts a piece, in seconds. Returns the texts with their times in seconds."""
    cues = (cutter.cut(start * SECOND, end * SECOND, SECOND) or {}).get("text", ())
    return [(cue.text, cue.start / SECOND, (cue.end or 0) / SECOND) for cue in cues]


def test_a_cue_with_an_end_is_in_each_piece_that_it_touches():
    source = captions()
    cutter = CaptionCutter(source)
    say(source, "x", 1500, 4500)
    assert cut(cutter, 0, 1) == []
    assert [cut(cutter, n, n + 1) for n in (1, 2, 3, 4)] == [[("x", 1.5, 4.5)]] * 4
    assert cut(cutter, 5, 6) == []


def test_a_cue_that_is_still_shown_continues_in_the_next_piece():
    source = captions()
    cutter = CaptionCutter(source)
    say(source, "first", 500)
    assert cut(cutter, 0, 1) == [("first", 0.5, 1.0)]
    say(source, "second", 1250)
    assert cut(cutter, 1, 2) == [("first", 1.0, 1.25), ("second", 1.25, 2.0)]
    assert cut(cutter, 2, 20) == [("second", 2.0, 3.25)]  # nobody replaced it: it ends when it was read
    assert cut(cutter, 20, 21) == []


def test_a_late_cue_is_in_the_next_piece_with_its_own_times():
    source = captions()
    cutter = CaptionCutter(source)
    say(source, "early", 100, 900)
    assert cut(cutter, 0, 1) == [("early", 0.1, 0.9)]
    say(source, "late", 500, 800)
    assert cut(cutter, 1, 2) == [("late", 0.5, 0.8)]
    assert cut(cutter, 2, 3) == []


def test_a_cue_of_the_future_stays_if_others_come_before_it():
    source = captions()
    cutter = CaptionCutter(source)
    say(source, "later", 40_000)
    say(source, "now", 11_000)
    say(source, "a text that takes four seconds to read. Later comes first.", 39_000)
    say(source, "at last", 39_500)
    found = [each for n in range(0, 60, 10) for each in cut(cutter, n, n + 10)]
    assert found == [
        ("now", 11.0, 13.0), ("a text that takes four seconds to read. Later comes first.", 39.0, 39.5),
        ("at last", 39.5, 40.0), ("later", 40.0, 42.0),
    ]  # fmt: skip


def test_a_cue_of_the_future_waits_for_its_piece():
    source = captions()
    cutter = CaptionCutter(source)
    say(source, "later", 2500, 2900)
    assert cut(cutter, 0, 1) == [] and cut(cutter, 1, 2) == []
    assert cut(cutter, 2, 3) == [("later", 2.5, 2.9)]


def test_a_segment_joins_what_its_parts_continue():
    source = captions()
    cutter = CaptionCutter(source)
    say(source, "long", 100)
    parts = [cutter.cut(n * SECOND, (n + 1) * SECOND, SECOND) for n in range(3)]
    assert join_pieces(parts) == {"text": (CaptionCue(9_000, 190_000 - 1_000, "long", None),)}
    assert join_pieces([None, {}]) is None


moments = st.integers(0, 30_000)


@given(st.lists(st.tuples(moments, st.none() | st.integers(1, 5_000)), max_size=20), st.integers(1, 7))
def test_joined_pieces_have_each_caption_once(said: list[tuple[int, int | None]], length: int):
    """However the pieces are cut, a viewer who has all of them gets each caption once, with its true times."""
    source = captions()
    cutter = CaptionCutter(source)
    for number, (start, lasts) in enumerate(sorted(said, key=lambda each: each[0])):
        say(source, f"n{number}", start, start + lasts if lasts else None)
    pieces = [cutter.cut(at * SECOND, (at + length) * SECOND, SECOND) for at in range(0, 60, length)]
    cues = (join_pieces(pieces) or {}).get("text", ())
    log = source.logs.get("text")
    shown = [(c.text, c.start, c.end) for c in log.since(0)] if log is not None else []
    assert sorted((cue.text, cue.start, cue.end) for cue in cues) == sorted(c for c in shown if c[2] != c[1])


def test_what_ended_before_the_first_piece_is_left_out():
    source = captions()
    say(source, "past", 0, 1000)
    say(source, "lasting", 1000, 4000)
    cutter = CaptionCutter(source)
    assert cut(cutter, 2, 3) == [("lasting", 1.0, 4.0)]
    say(source, "late", 0, 1000)
    assert cut(cutter, 3, 4) == [("lasting", 1.0, 4.0), ("late", 0.0, 1.0)]


def test_a_cue_does_not_return_on_another_timeline():
    source = captions()
    cutter = CaptionCutter(source)
    say(source, "x", 1000, 9000)
    assert cut(cutter, 2, 4) == [("x", 1.0, 9.0)]
    assert [cut(cutter, n, n + 4) for n in (0, 4)] == [[], []]


def test_a_long_piece_has_all_captions_that_were_collected_during_it():
    source = captions()
    cutter = CaptionCutter(source)
    say(source, "before", 0, 1000)
    for n in range(200):
        say(source, f"n{n}", 2000 + n * 1000, 3000 + n * 1000)
        cutter.collect()
    assert [text for text, _, _ in cut(cutter, 2, 202)] == [f"n{n}" for n in range(200)]
    assert cut(cutter, 202, 203) == []


def test_captions_that_were_collected_before_the_times_go_back_are_in_their_piece():
    source = captions()
    cutter = CaptionCutter(source)
    assert cut(cutter, 10, 12) == []
    say(source, "x", 1000, 2000)
    cutter.collect()
    assert cut(cutter, 0, 4) == [("x", 1.0, 2.0)]
