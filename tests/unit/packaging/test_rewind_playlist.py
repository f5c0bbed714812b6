"""Playlists that reach back keep the draft's rules, and agree with the live playlist in all numbers and names."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.hls import media_playlist
from gateway.packaging.packager import SegmentPlan
from gateway.packaging.packager_sequence import TsPackagerFactory
from gateway.packaging.ts.packager import TsPackager
from gateway.packaging.ts.rewind_playlist import RewindPlaylist
from gateway.packaging.ts.segment_history import MAX_SEGMENTS, PastSegment, SegmentHistory
from tests.support.hls_rules import Follower, Playlist, check, parse
from tests.support.recording import stream_of
from tests.support.segmented import WALL, Timetable, feed

LENGTHS = (10, 20, 60, 600)
EPOCH = 360_000


def rewinding(seconds: float = 1.0, size: int = 3) -> TsPackager:
    packager = TsPackager("c1", SegmentPlan(seconds, size), WALL, (0, EPOCH, 0))
    packager.history = SegmentHistory()
    return packager


def written(rewind: RewindPlaylist, packager: TsPackager, seconds: int, *, delta: bool = False) -> Playlist:
    text = rewind.text(seconds, packager.window, ended=packager.ended, delta=delta)
    return check(parse(media_playlist.with_suffix(text).decode()))


def pieces(count: int, seconds: float = 2.0, *, every: int = 1_000) -> list[PastSegment]:
    """Pieces of an earlier publish that ended before WALL; one in `every` begins with a discontinuity."""
    name = int(WALL * 1000) - 1_000_000
    return [
        PastSegment(name + n, seconds, WALL - 30 - (count - n) * seconds, int(n % every == 0)) for n in range(count)
    ]


def test_playlists_of_every_length_keep_the_rules_while_the_stream_continues() -> None:
    packager = rewinding()
    history = packager.history
    assert history is not None
    rewind: RewindPlaylist | None = None
    followers = {seconds: Follower() for seconds in LENGTHS}
    firsts: dict[int, int] = dict.fromkeys(LENGTHS, 0)
    seen = 0

    def look() -> None:
        nonlocal rewind, seen
        if not packager.ready or "seen" in packager.cache:
            return
        packager.cache["seen"] = True
        seen += 1
        if rewind is None:
            rewind = RewindPlaylist(history)
            rewind.prepend(reversed(pieces(200, every=70)))
        live = check(parse(media_playlist.with_suffix(packager.playlist()).decode()))
        names = {segment.number: (segment.uri, segment.discontinuity) for segment in live.segments}
        for seconds in LENGTHS:
            whole = followers[seconds].see(
                media_playlist.with_suffix(rewind.text(seconds, packager.window, ended=packager.ended)).decode()
            )
            assert firsts[seconds] <= whole.sequence
            firsts[seconds] = whole.sequence
            # The live playlist is the end of each other one.
            found = {segment.number: (segment.uri, segment.discontinuity) for segment in whole.segments}
            assert names.items() <= found.items()
            assert whole.last == live.last
            update = written(rewind, packager, seconds, delta=True)
            assert (update.sequence, update.last) == (whole.sequence, whole.last)
            assert update.discontinuity_sequence == whole.discontinuity_sequence

    feed(
        packager, Timetable(seconds=40, gop=(30,)), Timetable(seconds=10, start=60, gop=(30,)), each=lambda unit: look()
    )
    look()
    assert rewind is not None and seen > 40
    whole = written(rewind, packager, 600)
    assert all(s.date for s in whole.segments[:1])
    # Three discontinuities in the stored pieces, one after them, and one at the second publish.
    assert [s.discontinuity for s in whole.segments][-1] - whole.discontinuity_sequence == 4
    assert len(whole.segments) > 240
    assert whole.segments[0].uri.startswith("vod/720p/")


def test_a_delta_update_says_how_many_segments_it_skips() -> None:
    packager = rewinding()
    feed(packager, Timetable(seconds=60, gop=(30,)))
    assert packager.history is not None
    packager.ended = False
    rewind = RewindPlaylist(packager.history)
    whole, update = written(rewind, packager, 600), written(rewind, packager, 600, delta=True)
    assert update.skipped == len(whole.segments) - len(update.segments) > 40
    assert [s.uri for s in update.segments] == [s.uri for s in whole.segments[update.skipped :]]
    assert not written(rewind, packager, 10, delta=True).skipped or len(whole.segments) > 10


def test_dates_are_right_after_media_are_missing_and_after_a_pause_of_an_earlier_publish() -> None:
    packager = rewinding()
    feed(packager, Timetable(seconds=60, gop=(30,), pause=(20.3, 27.3), audio=None))
    history = packager.history
    assert history is not None
    rewind = RewindPlaylist(history)
    rewind.prepend(replace(p, wall=p.wall - 90 * (n >= 33)) for n, p in enumerate(reversed(pieces(60))))
    date = 0.0
    for number, segment in enumerate(written(rewind, packager, 3600).segments, history.first):
        date = datetime.fromisoformat(segment.date).timestamp() if segment.date is not None else date
        assert abs(date - history[number].wall) < 0.01
        date += segment.duration


def test_long_stored_pieces_make_the_target_duration_longer_only_where_they_are_listed() -> None:
    packager = rewinding()
    feed(packager, Timetable(seconds=60, gop=(30,)))
    assert packager.history is not None
    rewind = RewindPlaylist(packager.history)
    rewind.prepend(reversed(pieces(10, 60.0)))
    assert written(rewind, packager, 600).target == 60
    assert written(rewind, packager, 20).target == packager.window.target
    # It does not change when the pieces have left the playlist.
    rewind.floor = packager.history.own
    assert written(rewind, packager, 600).target == 60


def test_the_playlist_begins_after_a_segment_that_cannot_be_fetched() -> None:
    packager = rewinding()
    feed(packager, Timetable(seconds=60, gop=(30,)))
    assert packager.history is not None
    rewind = RewindPlaylist(packager.history)
    rewind.floor = packager.history.end - 20
    assert written(rewind, packager, 600).sequence == packager.history.end - 20
    rewind.floor = packager.history.end  # the live playlist's own segments are listed nevertheless
    assert written(rewind, packager, 10).sequence <= packager.window[0].number


def test_pieces_before_too_many_discontinuities_are_left_out() -> None:
    packager = TsPackager("c1", SegmentPlan(1.0, 3), WALL)  # its epochs begin with 0
    packager.history = SegmentHistory()
    feed(packager, Timetable(seconds=20, gop=(30,)))
    rewind = RewindPlaylist(packager.history)
    rewind.prepend(reversed(pieces(100, every=1)))
    assert written(rewind, packager, 600).discontinuity_sequence == 0
    assert packager.history.first == packager.history.own


@given(st.lists(st.floats(0.5, 60), min_size=1, max_size=700), st.integers(0, 2_000))
def test_a_history_finds_segments_by_date_and_number(durations: list[float], seconds: int) -> None:
    history, wall = SegmentHistory(), WALL
    for n, duration in enumerate(durations):
        history.add(1000 + n, PastSegment(5000 + n, duration, wall, 1, n))
        wall += duration
    assert history.end == 1000 + len(durations)
    assert abs(history.end_wall - wall) < 1e-3 * len(durations)
    number = history.since(wall - seconds)
    assert number == history.first or history[number].wall <= wall - seconds + 1e-6
    assert history[history.first].name == 5000


def test_a_history_is_bounded_by_time_and_number() -> None:
    history = SegmentHistory(reach=600)
    for n in range(3_000):
        history.add(n, PastSegment(n, 2.0, WALL + 2 * n, 1, n))
    assert 300 <= len(history) <= 300 + 256
    full = SegmentHistory()
    for n in range(MAX_SEGMENTS + 1_000):
        full.add(n, PastSegment(n, 2.0, WALL + 2 * n, 1, n))
    assert MAX_SEGMENTS <= len(full) <= MAX_SEGMENTS + 256
    older = SegmentHistory()
    for piece in reversed(pieces(1_000)):
        older.append(piece)
    full.prepend(older)
    assert len(full) <= MAX_SEGMENTS + 256


def test_a_gap_in_the_numbers_begins_a_new_history() -> None:
    history = SegmentHistory()
    history.add(5, PastSegment(1, 2.0, WALL, 1))
    history.add(6, PastSegment(2, 2.0, WALL + 2, 1))
    history.add(9, PastSegment(3, 2.0, WALL + 4, 1))
    assert (history.first, history.own, len(history)) == (9, 9, 1)


def test_later_streams_of_a_channel_have_higher_numbers_and_epochs() -> None:
    """A playlist over several publishes never goes back, even within the same ten minutes."""
    factory, now = TsPackagerFactory(), WALL
    history_first: list[tuple[int, int]] = []
    rng = random.Random(1)
    for _ in range(5):
        stream = stream_of("c1", rewind=1)
        packager = factory.make(stream, 1.0, 3, now)
        assert packager.history is not None
        publishes = [Timetable(seconds=3, start=10 * n, gop=(30,)) for n in range(rng.randint(1, 4))]
        feed(packager, *publishes)
        history_first.append((packager.history[packager.history.own].epoch, packager.numbers[1]))
        packager.on_stopped()
        now += 60
    for (_, end), (begin, _) in itertools.pairwise(history_first):
        assert begin >= end


def test_older_pieces_come_before_all_others_in_order_of_time() -> None:
    history, older = SegmentHistory(), SegmentHistory()
    history.add(100, PastSegment(7, 2.0, WALL, EPOCH, 0))
    for piece in reversed(pieces(5)):
        older.append(piece)
    history.prepend(older)
    assert (history.first, history.own, history.end, len(history)) == (95, 100, 101, 6)
    assert [history[n] for n in range(95, 100)] == pieces(5)
    assert history[100].name == 7
