"""The bytes of a time range are found in pieces, or a missing part is noticed."""

from __future__ import annotations

from gateway.outputs.recording.recorded_pieces import RecordedPoints, Span

SECOND = 90_000


def recorded() -> RecordedPoints:
    """Two complete pieces of four seconds and an open one; a key frame each second, 1,000 bytes a second."""
    pieces = RecordedPoints()
    for piece, begin in ((7, 0), (8, 4), (9, 8)):
        pieces.add(piece, [((begin + n) * SECOND, 376 + 1_000 * n) for n in range(4 if piece < 9 else 3)])
        if piece < 9:
            pieces.complete(piece, 4_376)
    return pieces


def test_a_piece_is_open_until_its_size_is_known() -> None:
    assert [recorded().is_complete(piece) for piece in (6, 7, 8, 9)] == [False, True, True, False]


def test_a_range_inside_a_piece_gets_the_tables_first() -> None:
    assert recorded().spans(SECOND, 3 * SECOND) == [Span(7, 0, 376), Span(7, 1_376, 3_376)]


def test_a_range_from_the_start_of_a_piece_has_its_tables() -> None:
    assert recorded().spans(4 * SECOND, 5 * SECOND) == [Span(8, 0, 1_376)]
    assert recorded().spans(4 * SECOND, 8 * SECOND) == [Span(8, 0, 4_376)]


def test_a_range_reaches_over_pieces() -> None:
    assert recorded().spans(3 * SECOND, 9 * SECOND) == [
        Span(7, 0, 376), Span(7, 3_376, 4_376), Span(8, 0, 4_376), Span(9, 0, 1_376),
    ]  # fmt: skip


def test_the_last_segment_of_a_stream_reaches_to_the_end() -> None:
    pieces = recorded()
    pieces.complete(9, 3_376)
    assert pieces.spans(10 * SECOND, None) == [Span(9, 0, 376), Span(9, 2_376, 3_376)]


def test_times_may_differ_by_rounding() -> None:
    pieces = recorded()
    assert pieces.spans(SECOND - 90, 3 * SECOND + 90) == pieces.spans(SECOND, 3 * SECOND)


def test_a_time_range_that_was_not_recorded_is_missing() -> None:
    pieces = recorded()
    assert not pieces.has(-3 * SECOND, SECOND)  # before the recording
    assert not pieces.has(9 * SECOND, 14 * SECOND)  # after it
    assert not RecordedPoints().has(0, SECOND)
    pieces.add(20, [(30 * SECOND, 376)])
    assert not pieces.has(12 * SECOND, 30 * SECOND)  # frames were dropped
    pieces.trim(8)
    assert not pieces.has(SECOND, 2 * SECOND) and pieces.has(5 * SECOND, 6 * SECOND)


def test_the_number_of_remembered_positions_is_bounded() -> None:
    pieces = RecordedPoints()
    for n in range(110_000):
        pieces.add(n, [(n * SECOND, 376)])
        pieces.complete(n, 1_000)
    assert not pieces.has(5_000 * SECOND, 5_001 * SECOND)
    assert pieces.has(109_000 * SECOND, 109_001 * SECOND)
