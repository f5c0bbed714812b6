"""Viewers who go back to a time see the pictures that arrived then, also after a day with a clock that drifts."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction

import pytest

from gateway.formats.hls import media_playlist
from gateway.media.track import Tracks
from gateway.outputs.recording.cutter import Cutter, PieceStart
from gateway.outputs.recording.recorded_pieces import RecordedPoints
from gateway.packaging.ts.rewind_playlist import RewindPlaylist
from tests.support.hls_rules import check, parse
from tests.support.segmented import Timetable, ts

DAY = 86_400


class Pieces:
    """A recording of which a picture is a byte. `first` has the number of the first picture of each piece."""

    def __init__(self) -> None:
        self.points = RecordedPoints()
        self.first: list[int] = []
        self.count = 0

    def begin(self, start: PieceStart) -> Pieces:
        if self.first:
            self.points.complete(len(self.first) - 1, 376 + self.count - self.first[-1])
        self.first.append(self.count)
        return self

    def add_picture(self, dts: int, cts: int, key: bool, payload: bytes) -> None:
        self.points.add(len(self.first) - 1, [(dts, 376 + self.count - self.first[-1])])
        self.count += 1

    def add_sound(self, time: int, samples: int, payload: bytes) -> None:
        raise AssertionError("no sound was sent")

    def close(self, end: int | None) -> None:
        """Does nothing: `begin` knows the end."""

    def pictures(self, start: int, end: int) -> list[int]:
        """Returns the numbers of the pictures in a time range."""
        found: list[int] = []
        for span in self.points.spans(start, end):
            at = self.first[span.piece] - 376
            found += range(at + max(span.start, 376), at + span.end)
        return found


@pytest.mark.parametrize("ppm", [200, pytest.param(-200, marks=pytest.mark.nightly)])
def test_dates_of_a_day_lead_to_the_pictures_that_arrived_then(ppm: int) -> None:
    table = Timetable(seconds=DAY, fps=Fraction(1), gop=(4,), audio=None, size=12, pace=1 + ppm / 1e6)
    packager, pieces, tracks = ts(4.0), Pieces(), Tracks(table.video, None, 0)
    packager.begin_history(2 * DAY)
    packager.take_tracks(tracks)
    cutter, arrivals = Cutter(tracks, 60.0, pieces.begin), list[float]()
    for unit in table.units():
        arrivals.append(unit.wall)
        packager.take(unit)
        cutter.add(unit)
    history = packager.history
    assert history is not None and len(history) == DAY // 4 - 1 and packager._dates.slew != 0
    text = media_playlist.with_suffix(RewindPlaylist(history).text(DAY, packager.window, ended=False), "").decode()
    listed = check(parse(text))
    assert len(listed.segments) == len(history)
    date, next_picture = 0.0, 0
    for number, segment in enumerate(listed.segments[:-1], history.first):
        date = datetime.fromisoformat(segment.date).timestamp() if segment.date is not None else date
        pictures = pieces.pictures(history[number].start, history[number + 1].start)
        assert pictures == list(range(next_picture, next_picture + 4))
        next_picture += 4
        assert abs(arrivals[pictures[0]] - date) < 0.15
        assert history.since(arrivals[pictures[1]]) == number
        date += segment.duration
