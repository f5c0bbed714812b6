"""Joined movies: their samples, their edit list, and times that always fit together."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.formats.mp4.movie_reader import MovieReader
from gateway.formats.mp4.reader import find
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.outputs.clips.joiner import Joiner, JumpedTooFar
from gateway.outputs.clips.movie_file import CannotJoin
from gateway.outputs.recording.on_demand_session import RecordedSegment
from gateway.outputs.recording.on_demand_session import pieces as session_pieces
from tests.support.builders import AUDIO, VIDEO

PICTURES = replace(VIDEO, timescale=90_000)
SOUNDS = replace(AUDIO, timescale=90_000)
WALL = 1_800_000_000.0
STEP = 3000


def pictures(
    count: int, *, first: int = 500_000, gop: int = 30, delay: int = 0, track: MediaTrack = PICTURES
) -> list[AccessUnit]:
    """Pictures of 30 a second. delay: how many pictures the decoder is ahead."""
    return [
        AccessUnit(track, first + STEP * n, STEP * delay, n % gop == 0, 0.0, n.to_bytes(4, "big")) for n in range(count)
    ]


def sounds(count: int, *, first: int = 500_000) -> list[AccessUnit]:
    return [
        AccessUnit(SOUNDS, first + n * 1024 * 90_000 // 44_100, 0, True, 0.0, b"s" + n.to_bytes(4, "big"))
        for n in range(count)
    ]


def mixed(*units: list[AccessUnit]) -> list[AccessUnit]:
    return sorted([unit for some in units for unit in some], key=lambda unit: unit.dts)


def joined(
    start: float, end: float, *pieces: tuple[float, bool, list[AccessUnit]]
) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]], float]:
    """(ticks, payload) of the shown pictures and sounds, and the seconds. pieces: start, continues, units."""
    media = io.BytesIO()
    joiner = Joiner(media, WALL + start, WALL + end)
    for at, continues, units in pieces:
        joiner.begin_piece(WALL + at, continues)
        joiner.add(units, any(u.track.kind is Kind.VIDEO for u in units))
    head = joiner.finish()
    if head is None:
        return [], [], 0.0
    data = head.data + media.getvalue()
    assert len(media.getvalue()) == head.media
    moov = find(data, b"moov")
    assert moov is not None
    reader = MovieReader(data[moov.start : moov.end])
    first, last = reader.select(-1.0, 1e6)
    units = reader.receive(data[first:last])
    shown = [
        [(u.dts + u.cts - 90_000, u.payload) for u in units if u.track.kind is kind]
        for kind in (Kind.VIDEO, Kind.AUDIO)
    ]
    end_ticks = round(head.seconds * 90_000)
    for kind in (Kind.VIDEO, Kind.AUDIO):
        decoded = [u.dts for u in units if u.track.kind is kind]
        assert decoded == sorted(set(decoded)), "decode times grow"
    video, audio = ([s for s in found if -2100 < s[0] < end_ticks] for found in shown)
    return [s for s in video if s[0] >= 0], audio, head.seconds


def numbers(found: list[tuple[int, bytes]]) -> list[int]:
    return [int.from_bytes(payload[-4:], "big") for _, payload in found]


def test_a_movie_shows_the_pictures_of_its_time_from_a_key_frame_before_it() -> None:
    video, audio, seconds = joined(1.5, 2.5, (0, False, mixed(pictures(120), sounds(180))))
    assert numbers(video) == list(range(45, 75))
    assert [ticks for ticks, _ in video] == [STEP * n for n in range(30)]
    assert seconds == pytest.approx(1)
    assert audio[0][0] <= 0 < audio[1][0]


def test_a_range_that_begins_in_a_gap_starts_with_the_next_media() -> None:
    video, _, seconds = joined(5, 20, (0, False, pictures(60)), (10, False, pictures(60)))
    assert numbers(video) == list(range(60))
    assert seconds == pytest.approx(2)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 2), (2, 0), (3, 1)])
def test_pieces_with_different_reordering_are_joined_without_a_gap(before: int, after: int) -> None:
    video, _, seconds = joined(
        0, 50, (0, False, pictures(60, delay=before)), (30, False, pictures(60, first=9, delay=after))
    )
    assert [ticks for ticks, _ in video] == [STEP * n for n in range(120)]
    assert seconds == pytest.approx(4)


def test_sound_stays_in_sync_with_pictures_over_a_gap() -> None:
    piece = mixed(pictures(60), sounds(95))  # sound ends 0.2 s after the pictures
    later = mixed(pictures(60, first=10_000), sounds(86, first=10_000))
    video, audio, _ = joined(0, 50, (0, False, piece), (30, False, later))
    second = next(ticks for (ticks, _), number in zip(video[60:], numbers(video)[60:], strict=True) if number == 0)
    starts = [ticks for ticks, payload in audio if payload == b"s" + bytes(4)]
    assert starts[1] == pytest.approx(second, abs=90)
    assert second == pytest.approx(95 * 1024 * 90_000 / 44_100, abs=100), "the last picture stays until the sound ends"


def test_pieces_that_continue_keep_their_times() -> None:
    units = mixed(pictures(120), sounds(170))
    whole = joined(0.5, 3.5, (0, False, units))
    cut = 500_000 + 60 * STEP
    parts = [u for u in units if u.dts < cut], [u for u in units if u.dts >= cut]
    assert joined(0.5, 3.5, (0, False, parts[0]), (2, True, parts[1])) == whole


def test_sound_alone_is_cut_too() -> None:
    _, audio, seconds = joined(1, 2, (0, False, sounds(200)))
    assert numbers(audio)[0] in (42, 43)
    assert seconds == pytest.approx(1, abs=0.03)


def test_a_range_without_media_gives_no_movie() -> None:
    assert joined(50, 60, (0, False, pictures(60))) == ([], [], 0.0)
    assert joined(-50, -40, (0, False, pictures(60))) == ([], [], 0.0)


def test_another_codec_is_refused() -> None:
    joiner = Joiner(io.BytesIO(), WALL, WALL + 60)
    joiner.begin_piece(WALL, False)
    joiner.add(pictures(30), True)
    joiner.begin_piece(WALL + 5, False)
    with pytest.raises(CannotJoin, match="from h264 to vp9"):
        joiner.add(pictures(30, track=MediaTrack(Kind.VIDEO, Codec.VP9, 90_000, b"")), True)


def test_a_jump_past_the_last_key_frame_is_noticed() -> None:
    units = pictures(300, gop=100)
    joiner = Joiner(io.BytesIO(), WALL + 5, WALL + 6)
    joiner.begin_piece(WALL, False)
    joiner.add(units[:2], True)
    joiner.jump()
    with pytest.raises(JumpedTooFar):
        joiner.add(units[120:], True)
    joiner.begin_piece(WALL, False)
    joiner.add(units, True)
    assert joiner.began


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 90), st.integers(0, 130), st.integers(0, 3), st.booleans(), st.integers(0, 400)),
        min_size=1,
        max_size=5,
    ),
    st.floats(0, 8),
    st.floats(0.05, 8),
)
def test_random_pieces_give_one_growing_time_line(
    pieces: list[tuple[int, int, int, bool, int]], start: float, length: float
) -> None:
    """(pictures, sounds, reordering, whether it continues, tenths of a second before it) of each piece."""
    made, wall, first, delay = [], 0.0, 90_000, 0
    for n, (count, heard, ahead, continues, gap) in enumerate(pieces):
        delay = delay if continues and n else ahead  # an encoder that goes on does not show pictures twice
        wall = wall if continues and n else wall + gap / 10
        made.append(
            (wall, continues and n > 0, mixed(pictures(count, first=first, delay=delay), sounds(heard, first=first)))
        )
        first += count * STEP
        wall += count / 30
    video, audio, seconds = joined(start, start + length, *made)
    assert seconds <= length + 5
    ticks = [at for at, _ in video]
    assert ticks == sorted(ticks)
    assert all(b - a <= 90_000 * 5 for a, b in pairwise(ticks))
    if video:
        assert ticks[0] < 100 or audio


def minute(number: int) -> list[AccessUnit]:
    """The pictures of a minute of a push, with their numbers in the push."""
    return [
        replace(unit, dts=unit.dts + number * 60 * 90_000, payload=(number * 1800 + n).to_bytes(4, "big"))
        for n, unit in enumerate(pictures(1800))
    ]


@pytest.mark.parametrize("ppm", [200, -200])
@pytest.mark.parametrize("pause", [0.0, 30.0])
def test_a_clip_has_the_pictures_that_arrived_in_its_time_after_a_day_of_drift(ppm: int, pause: float) -> None:
    """The push pauses for `pause` seconds an hour before the end of the day, and its times continue."""
    minutes, paused = 24 * 60, 23 * 60

    def arrival(media: float) -> float:
        return media / (1 + ppm / 1e6) + (pause if media >= paused * 60 else 0.0)

    entries = [RecordedSegment(n, 60.0, 188, not n, WALL + arrival(n * 60)) for n in range(minutes)]
    found = session_pieces("c1", entries)
    stepped = [n for n in range(1, minutes) if abs(found[n].start - found[n - 1].end) > 0.001]
    apart = 0.1 + 1.0  # and a group of pictures
    for number in (1, *stepped[:2], paused, stepped[-1], minutes - 2):
        for begin, seconds in ((-3.0, 5.0), (10.2, 20.0), (0.1, 61.0)):
            start = arrival(number * 60) + begin
            parts = [
                (found[n].start - WALL, n > 0 and found[n - 1].end - found[n].start > -0.5, minute(n))
                for n in range(number - 1, min(number + 2, minutes))
                if found[n].end - WALL > start and found[n].start - WALL < start + seconds
            ]
            shown = numbers(joined(start, start + seconds, *parts)[0])
            arrivals = [arrival(n / 30) for n in shown]
            assert shown == list(range(shown[0], shown[-1] + 1))
            assert start - apart < arrivals[0] and arrivals[-1] < start + seconds + apart
            assert arrival((shown[0] - 1) / 30) < start + apart
            assert arrival((shown[-1] + 1) / 30) > start + seconds - apart
