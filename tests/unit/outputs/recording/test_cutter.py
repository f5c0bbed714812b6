"""Where recordings are cut: every frame once, in order, sound and picture at the same moment."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.formats.mp4.reader import parse_fragments
from gateway.formats.ts.muxer import TsMuxer
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.track import AccessUnit, Tracks
from gateway.outputs.recording.cutter import MAX_BURST, Cutter, PieceStart, RecordingPiece
from gateway.outputs.recording.mp4_piece import Mp4Piece
from gateway.outputs.recording.on_demand_recording import TsPiece
from tests.support.builders import AUDIO, VIDEO, picture, sound
from tests.support.examples import examples
from tests.support.segmented import WALL, Timetable, nal

RATE = 44100


@dataclass
class Bin:
    """A Piece that keeps its frames."""

    opening: PieceStart
    pictures: list[tuple[int, int, bool, bytes]] = field(default_factory=list)
    sounds: list[tuple[int, int, bytes]] = field(default_factory=list)
    closed: bool = False
    end: int | None = None

    def add_picture(self, dts: int, cts: int, key: bool, payload: bytes) -> None:
        assert not self.closed
        self.pictures.append((dts, cts, key, payload))

    def add_sound(self, time: int, samples: int, payload: bytes) -> None:
        assert not self.closed
        self.sounds.append((time, samples, payload))

    def close(self, end: int | None) -> None:
        assert not self.closed
        self.closed, self.end = True, end


def cut(table: Timetable, seconds: float = 4.0) -> list[Bin]:
    bins: list[Bin] = []

    def begin(opening: PieceStart) -> Bin:
        bins.append(Bin(opening))
        return bins[-1]

    cutter = Cutter(Tracks(table.video, table.audio), seconds, begin)
    for unit in table.units():
        cutter.add(unit)
    cutter.finish()
    assert cutter.dropped == 0
    assert all(b.closed for b in bins)
    return bins


def cut_into(make_piece: Callable[[PieceStart], RecordingPiece], table: Timetable, seconds: float) -> None:
    cutter = Cutter(Tracks(table.video, table.audio), seconds, make_piece)
    for unit in table.units():
        cutter.add(unit)
    cutter.finish()


def everything(table: Timetable) -> tuple[list[bytes], list[bytes]]:
    units = list(table.units())
    return [u.payload for u in units if u.track is table.video], [u.payload for u in units if u.track is table.audio]


def together(bins: list[Bin]) -> tuple[list[bytes], list[bytes]]:
    return [p[3] for b in bins for p in b.pictures], [s[2] for b in bins for s in b.sounds]


TABLES = {
    "ordinary": Timetable(seconds=30),
    "B-frames": Timetable(seconds=30, shifts=(2, 4, 1, 1)),
    "sound half a second late": Timetable(seconds=30, audio_late=0.5),
    "sound half a second early": Timetable(seconds=30, audio_late=-0.5),
    "sound in front of the picture": Timetable(seconds=30, video_at=1.5),
    "sound that begins later": Timetable(seconds=30, audio_at=7.7),
    "sound that stops": Timetable(seconds=30, audio_until=9.3),
    "a picture that pauses": Timetable(seconds=40, pause=(7.0, 12.1)),
    "a long GOP": Timetable(seconds=45, gop=(300,)),
    "irregular GOPs": Timetable(seconds=45, gop=(17, 93, 250)),
    "a variable frame rate": Timetable(seconds=30, steps=(33, 34, 50, 20, 16, 67, 33, 111), gop=(40,)),
    "29.97 fps": Timetable(seconds=30, fps=Fraction(30000, 1001)),
    "no sound": Timetable(seconds=30, audio=None),
    "no picture": Timetable(seconds=30, video=None),
    "time from 2^31": Timetable(seconds=20, start=2147483.648),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_pieces_together_hold_every_frame_in_order(table: Timetable) -> None:
    assert together(cut(table)) == everything(table)


@pytest.mark.parametrize("table", [t for n, t in TABLES.items() if n != "no picture"],
                         ids=[n for n in TABLES if n != "no picture"])  # fmt: skip
def test_pieces_begin_with_a_key_frame_and_have_the_set_length(table: Timetable) -> None:
    bins = cut(table)
    assert all(b.pictures[0][2] for b in bins)
    longest_gop = max(table.gop) / float(table.fps) if not table.steps else 2.0
    for piece, following in itertools.pairwise(bins):
        assert piece.end == following.pictures[0][0]
        seconds = (piece.end - piece.pictures[0][0]) / VIDEO_CLOCK
        if table.pause[0] == math.inf:
            assert 3.99 <= seconds <= 4.01 + longest_gop


@pytest.mark.parametrize("name", ["ordinary", "B-frames", "sound half a second late", "sound half a second early"])
def test_sound_is_cut_where_the_picture_is(name: str) -> None:
    bins = cut(TABLES[name])
    assert len(bins) == 8
    for piece in bins[1:]:
        shown = (piece.pictures[0][0] + piece.pictures[0][1]) / VIDEO_CLOCK
        assert shown <= piece.sounds[0][0] / RATE < shown + 1024 / RATE


def test_sound_alone_is_cut_by_time() -> None:
    bins = cut(TABLES["no picture"])
    assert len(bins) == 8
    assert all(4.0 <= (b.sounds[-1][0] + b.sounds[-1][1] - b.sounds[0][0]) / RATE < 4.05 for b in bins[:-1])


def test_pieces_end_by_time_while_pictures_are_missing() -> None:
    table = Timetable(seconds=80, pause=(5.0, 60.0))
    bins = cut(table)
    assert together(bins) == everything(table)
    assert len(bins) > 12
    assert max(len(b.sounds) for b in bins) * 1024 / RATE < 17


def test_pieces_of_segments_follow_each_other_when_pictures_pause_and_return() -> None:
    """The playlist has only the date of the first one: later ones begin where the earlier ones end."""
    pieces: list[TsPiece] = []

    def begin(start: PieceStart) -> TsPiece:
        pieces.append(TsPiece(TsMuxer(VIDEO, AUDIO), start))
        return pieces[-1]

    cut_into(begin, Timetable(seconds=185, pause=(4.0, 130.0)), 60.0)
    starts = list(itertools.accumulate((piece.seconds for piece in pieces), initial=0.0))
    assert [round(piece.wall_clock - WALL) for piece in pieces] == [0, 60, 120, 130]
    assert starts == pytest.approx([*(piece.wall_clock - WALL for piece in pieces), 185.0], abs=0.1)


@pytest.mark.parametrize("until", [185.0, 130.0], ids=["they return", "they do not return"])
def test_movies_cover_the_sound_after_their_last_picture(until: float) -> None:
    pieces: list[Mp4Piece] = []

    def begin(start: PieceStart) -> Mp4Piece:
        pieces.append(Mp4Piece(start))
        return pieces[-1]

    cut_into(begin, Timetable(seconds=until, pause=(4.0, 130.0)), 60.0)
    spans = [((piece.begin or 0) / VIDEO_CLOCK, piece.end / VIDEO_CLOCK) for piece in pieces]
    assert spans[0][0] == 0.0
    assert all(before[1] == pytest.approx(after[0], abs=0.05) for before, after in itertools.pairwise(spans))
    assert spans[-1][1] == pytest.approx(until, abs=0.1)


def test_a_pause_that_is_longer_than_a_sample_can_be_does_not_stop_a_movie() -> None:
    piece = Mp4Piece(PieceStart(VIDEO, None, nal(0, True), None, WALL, False))
    piece.add_picture(0, 0, True, nal(0, True))
    piece.add_picture(1 << 32, 0, False, nal(1, False))
    piece.close(1 << 34)
    durations = [s.duration for f in parse_fragments(b"".join(piece.pop_data())) for s in f.samples]
    assert durations == [2**32 - 1] * 2


def test_sound_is_recorded_although_announced_pictures_never_come() -> None:
    table = Timetable(seconds=30, audio=AUDIO)
    bins: list[Bin] = []

    def begin(opening: PieceStart) -> Bin:
        bins.append(Bin(opening))
        return bins[-1]

    cutter = Cutter(Tracks(VIDEO, AUDIO), 4.0, begin)
    sounds = [u for u in table.units() if u.track is AUDIO]
    for unit in sounds:
        cutter.add(unit)
    cutter.finish()
    assert [s[2] for b in bins for s in b.sounds] == [u.payload for u in sounds]


def test_pictures_in_front_of_the_first_key_frame_are_counted() -> None:
    bins: list[Bin] = []
    cutter = Cutter(Tracks(VIDEO, None), 4.0, lambda o: bins.append(Bin(o)) or bins[-1])
    for n in range(10):
        cutter.add(picture(n * 33, key=n == 4))
    cutter.finish()
    assert cutter.dropped == 4
    assert len(bins[0].pictures) == 6


def test_a_very_short_stream_of_sound_is_kept() -> None:
    bins: list[Bin] = []
    cutter = Cutter(Tracks(VIDEO, AUDIO), 4.0, lambda o: bins.append(Bin(o)) or bins[-1])
    for n in range(5):
        cutter.add(sound(n * 23))
    cutter.finish()
    assert len(bins[0].sounds) == 5


def test_a_changed_length_applies_from_the_next_cut() -> None:
    bins: list[Bin] = []
    cutter = Cutter(Tracks(VIDEO, None), 4.0, lambda o: bins.append(Bin(o)) or bins[-1])
    for unit in Timetable(seconds=30, audio=None).units():
        if len(bins) == 2:
            cutter.seconds = 10.0
        cutter.add(unit)
    cutter.finish()
    assert [round(len(b.pictures) / 30) for b in bins] == [4, 10, 10, 6]


@st.composite
def streams(draw: st.DrawFn) -> list[AccessUnit]:
    """Two tracks with growing times, interleaved in random order within a second."""
    units = []
    dts = 0
    for n in range(draw(st.integers(0, 120))):
        dts += draw(st.sampled_from((1, 16, 33, 40, 100, 700, 4000)))
        units.append((dts + draw(st.integers(-500, 500)), picture(dts, key=n == 0 or draw(st.booleans()))))
    dts = draw(st.integers(0, 3000))
    for _ in range(draw(st.integers(0, 200))):
        dts += draw(st.sampled_from((23, 23, 23, 24, 200, 1500)))
        units.append((dts + draw(st.integers(-500, 500)), sound(dts)))
    ordered: list[AccessUnit] = []
    for track in (VIDEO, AUDIO):  # each track in its own order
        mine = [u for u in units if u[1].track is track]
        came = sorted(t for t, _ in mine)
        ordered += [(t, u) for t, (_, u) in zip(came, mine, strict=True)]  # type: ignore[misc]
    return [u for _, u in sorted(ordered, key=lambda x: x[0])]  # type: ignore[index, misc]


@settings(max_examples=examples(25, 60), deadline=None)
@given(streams(), st.sampled_from((1.0, 4.0, 30.0)))
def test_every_frame_of_random_streams_is_in_one_piece_in_order(units: list[AccessUnit], seconds: float) -> None:
    bins: list[Bin] = []
    cutter = Cutter(Tracks(VIDEO, AUDIO), seconds, lambda o: bins.append(Bin(o)) or bins[-1])
    for unit in units:
        cutter.add(unit)
    cutter.finish()
    pictures = [u.payload for u in units if u.track is VIDEO]
    got = [p[3] for b in bins for p in b.pictures]
    # A picture that was missing for so long that sound was cut without it goes on with a key frame.
    assert len(got) + cutter.dropped == len(pictures)
    assert [p for p in pictures if p in set(got)] == got
    assert [s[2] for b in bins for s in b.sounds] == [u.payload for u in units if u.track is AUDIO]
    assert all(b.closed for b in bins)
    assert all(a[0] < b[0] for piece in bins for a, b in zip(piece.pictures, piece.pictures[1:], strict=False))
    assert all(a[0] < b[0] for piece in bins for a, b in zip(piece.sounds, piece.sounds[1:], strict=False))


def paced(units: list[AccessUnit], seconds: float = 4.0) -> list[Bin]:
    """The pieces of a stream without sound."""
    bins: list[Bin] = []

    def begin(opening: PieceStart) -> Bin:
        bins.append(Bin(opening))
        return bins[-1]

    cutter = Cutter(Tracks(VIDEO, None), seconds, begin)
    for unit in units:
        cutter.add(unit)
    cutter.finish()
    return bins


def test_a_timeline_faster_than_the_clock_makes_one_piece_a_second() -> None:
    """Every 20 ms comes a key frame whose time is nine seconds later: each would start a piece."""
    units = [replace(picture(n * 9000, key=True), wall=1.7e9 + n * 0.02) for n in range(1000)]
    bins = paced(units)
    assert MAX_BURST < len(bins) <= MAX_BURST + 1 + 20
    assert len(together(bins)[0]) == 1000


def test_a_film_pushed_faster_than_real_time_has_the_usual_pieces() -> None:
    """A film of one minute is pushed in two seconds."""
    units = [replace(picture(n * 40, key=n % 50 == 0), wall=1.7e9 + n * 40 / 30_000) for n in range(1500)]
    assert len(paced(units)) == 15


def test_a_clock_that_is_set_back_does_not_stop_the_cutting() -> None:
    walls = [1.7e9 + n if n < 100 else 1.6e9 + n for n in range(200)]
    units = [replace(picture(n * 5000, key=True), wall=wall) for n, wall in enumerate(walls)]
    assert len(paced(units)) == 200


def test_a_piece_begins_with_its_sound_if_pictures_are_shown_later() -> None:
    """The movie begins there, and so do its captions."""
    piece = Mp4Piece(PieceStart(VIDEO, AUDIO, b"v", None, WALL, False))
    piece.add_sound(0, 1024, b"sound")
    piece.add_picture(0, 7_200, True, nal(0, True))
    piece.add_sound(1024, 1024, b"sound")
    piece.add_picture(3_600, 0, False, nal(1, False))
    assert piece.begin == 0


def test_a_piece_begins_with_the_picture_that_is_shown_first() -> None:
    piece = Mp4Piece(PieceStart(VIDEO, AUDIO, b"v", None, WALL, False))
    piece.add_picture(90_000, 7_200, True, nal(0, True))
    piece.add_picture(93_600, 0, False, nal(1, False))
    piece.add_sound(48_000 * 2, 1024, b"sound")
    assert piece.begin == 93_600
