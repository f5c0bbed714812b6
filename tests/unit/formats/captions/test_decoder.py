"""What holds for any closed captions: no errors, rising times, no change without a change, bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.captions.decoder import ClosedCaptionDecoder
from gateway.formats.captions.source import CaptionChange
from tests.support.caption_player import PICTURE, CaptionPlayer, shown_at
from tests.support.caption_writer import odd, packet, popped_on, rolled_up

pairs_608 = st.tuples(st.sampled_from([0xFC, 0xFD]), st.binary(min_size=2, max_size=2).map(odd))
pairs_any = st.tuples(st.integers(0, 255), st.binary(min_size=2, max_size=2))
commands_608 = st.tuples(
    st.sampled_from([0xFC, 0xFD]),
    st.tuples(st.integers(0x10, 0x1F), st.integers(0x20, 0x7F)).map(lambda code: odd(bytes(code))),
)
packets_708 = st.builds(packet, st.integers(1, 63), st.binary(max_size=31), st.integers(0, 3)).map(
    lambda pairs: b"".join(bytes([0xFE | (at == 0)]) + pair for at, pair in enumerate(pairs))
)
pictures = st.lists(
    st.one_of(
        st.binary(max_size=99),
        packets_708,
        st.lists(st.one_of(pairs_608, commands_608, pairs_any), max_size=31).map(
            lambda pairs: b"".join(bytes([head]) + pair for head, pair in pairs)
        ),
    ),
    max_size=40,
)


def decoded(data: Iterable[tuple[bytes, int]]) -> list[CaptionChange]:
    decoder = ClosedCaptionDecoder()
    return [change for content, time in data for change in decoder.take(content, time)]


def check(changes: list[CaptionChange]) -> None:
    """Fails unless each source has rising times and differing texts."""
    last: dict[str, CaptionChange] = {}
    for change in changes:
        before = last.get(change.source)
        assert before is None or before.start < change.start, change
        assert change.text != (before.text if before else ""), change
        assert change.line is None or 0 <= change.line <= 50, change
        assert change.text.count("\n") <= 8 * 16
        last[change.source] = change


@given(pictures, st.lists(st.integers(-(2**33), 2**33), min_size=40, max_size=40))
def test_any_bytes_and_times_give_rising_changes(contents: list[bytes], times: list[int]) -> None:
    check(decoded(zip(contents, times, strict=False)))


@given(pictures)
def test_changes_are_not_later_than_the_picture_that_returns_them(contents: list[bytes]) -> None:
    decoder = ClosedCaptionDecoder()
    for number, content in enumerate(contents):
        assert all(change.start <= number * PICTURE for change in decoder.take(content, number * PICTURE))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_pairs_may_come_in_groups(sizes: list[int]) -> None:
    """However many pairs a picture has, below those of a caption, the texts are the same."""
    pairs = [b"\xfc" + pair for text in ("ONE", "TWO", "THREE") for pair in popped_on(1, text)]
    grouped = []
    for size in cycle(sizes):
        if not pairs:
            break
        grouped.append(b"".join(pairs[:size]))
        pairs = pairs[size:]
    texts = [change.text for change in decoded((content, PICTURE * n) for n, content in enumerate(grouped))]
    assert texts == ["ONE", "TWO", "THREE"]


def test_a_picture_that_is_cut_gives_its_whole_pairs() -> None:
    content = b"".join(b"\xfc" + pair for pair in popped_on(1, "HELLO"))
    assert [change.text for change in decoded([(content + b"\xfc\x94", 0)])] == ["HELLO"]


def test_pairs_that_are_not_valid_are_ignored() -> None:
    content = b"".join(b"\xf8" + pair for pair in popped_on(1, "HELLO"))
    assert decoded([(content, 0)]) == []


def test_a_picture_that_is_not_later_counts_as_later() -> None:
    contents = [b"".join(b"\xfc" + pair for pair in popped_on(1, text)) for text in ("ONE", "TWO", "THREE")]
    assert [change.start for change in decoded([(content, 7) for content in contents])] == [7, 8, 9]


def test_memory_is_bounded() -> None:
    player = CaptionPlayer()
    everything = [bytes([0x98 + n, 0x20, 0, 0, 0x0F, 63, 0]) for n in range(8)]
    tracemalloc.start()
    try:
        for number in range(1, 64):
            for definition in everything:
                player.service(definition + b"\x0d", number)
                for first in range(0, 16, 5):  # a block has space for five rows
                    rows = range(first, min(first + 5, 16))
                    player.service(b"".join(b"\x92" + bytes([row, 62]) + b"xx" for row in rows), number)
                player.changes.clear()
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()


def test_shown_text_can_be_asked_by_time() -> None:
    player = CaptionPlayer()
    end = player.send(rolled_up(1, "ONE"))
    player.send(rolled_up(1, "TWO"))
    assert [shown_at(player.changes, "CC1", time) for time in (end - 1, end)] == ["", "ONE"]
