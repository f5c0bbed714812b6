"""Dates follow a publisher whose clock is too fast or too slow, and never go back."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from typing import Any

import pytest

from gateway.formats.mp4.reader import parse_fragments
from gateway.formats.script_data import AdCue, CueType
from gateway.media import codecs
from gateway.media.caption_cue import CaptionCue
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.track import AccessUnit, Kind, Tracks
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.segment_window import Segment
from gateway.packaging.timing import DateCorrection
from gateway.packaging.ts.packager import TsPackager
from tests.support.builders import AUDIO
from tests.support.segmented import WALL, Timetable, cmaf, feed, ts

DAY, HOUR = 86_400.0, 3600.0
SLOW_SOUND = replace(AUDIO, config=b"\x15\x88")  # 8 kHz, one channel


def dated(packager: TsPackager | CmafPackager, *tables: Timetable) -> tuple[list[Segment], list[float]]:
    """Returns the segments of the main track, and by how much each ended before its last unit arrived."""
    segments: list[Segment] = []
    ahead: list[float] = []

    def each(unit: AccessUnit) -> None:
        if isinstance(packager, CmafPackager):
            window = (packager._video if tables[0].video is not None else packager._audio).window
        else:
            window = packager.window
        if len(window) and (not segments or window[-1].number != segments[-1].number):
            segments.append(window[-1])
            ahead.append(window[-1].wall + window[-1].duration - unit.wall)

    feed(packager, *tables, each=each, end=False)
    return segments, ahead


def drifting(ppm: int, seconds: float = HOUR, **other: Any) -> Timetable:
    small: dict[str, Any] = {"fps": Fraction(2), "gop": (4,), "audio": SLOW_SOUND, "rate": 8000, "size": 12}
    return Timetable(seconds=seconds, pace=1 + ppm / 1e6, **(small | other))


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
@pytest.mark.parametrize("ppm", [200, -200, pytest.param(50, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("other", [{}, {"video": None}, {"audio": None}], ids=["both", "sound", "pictures"])
def test_dates_follow_a_clock_that_drifts(
    make: Callable[[], TsPackager | CmafPackager], ppm: int, other: dict[str, Any]
) -> None:
    segments, ahead = dated(make(), drifting(ppm, **other))
    assert len(segments) > 1000
    # Without a correction, they would be 0.7 s wrong at 200 ppm. The end of sound is known a frame earlier.
    assert min(ahead) > -0.2 and max(ahead) < 0.4
    for one, two in itertools.pairwise(segments):
        assert abs(one.wall + one.duration - two.wall) < 0.002 and one.epoch == two.epoch


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
@pytest.mark.parametrize(
    ("ppm", "steps"), [pytest.param(200, (), marks=pytest.mark.nightly), (200, (70, 90, 110)), (-200, (70, 90, 110))]
)
def test_long_segments_follow_a_clock_that_drifts(
    make: Callable[[], TsPackager | CmafPackager], ppm: int, steps: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pictures a second have their ends predicted, and are parts: a slow clock would leave gaps."""
    monkeypatch.setattr(codecs, "frame_rate", lambda track: None if steps else 2.0)
    pace: dict[str, Any] = {"fps": Fraction(100, 9), "gop": (111,), "steps": steps} if steps else {"gop": (20,)}
    segments, ahead = dated(make(), drifting(ppm, HOUR / 2, **pace))  # without a correction, they would be 0.36 s wrong
    assert segments[-1].duration > 9.9 and min(ahead) > -0.25 and max(ahead) < 0.25
    for one, two in itertools.pairwise(segments):
        assert abs(one.wall + one.duration - two.wall) < 0.0001 and one.epoch == two.epoch


@pytest.mark.parametrize("told", [30.0, 2.0])
def test_a_drift_makes_no_gap_between_fragments(told: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a known rate of two pictures a second, each picture is a part, and its end is predicted."""
    monkeypatch.setattr(codecs, "frame_rate", lambda track: told)
    segments, _ = dated(packager := cmaf(), drifting(400, seconds=HOUR))
    for one, two in itertools.pairwise(segments):
        assert abs(one.time + one.length - two.time) <= 1
    assert all(abs(sample.cts) <= 90 for s in segments[-10:] for f in parse_fragments(s.body()) for sample in f.samples)
    audio = packager.manifests.track("audio")
    assert audio is not None
    for one, two in itertools.pairwise(audio.window):
        assert one.time + one.length == two.time
    for one, two in zip(packager._video.window, audio.window, strict=True):
        assert abs(one.time / one.clock - two.time / two.clock) < 0.15


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
@pytest.mark.parametrize("pace", [20.0, 4000.0])
@pytest.mark.parametrize("other", [{}, {"video": None}, {"audio": None}], ids=["both", "sound", "pictures"])
def test_a_burst_has_no_dates_in_the_future(
    make: Callable[[], TsPackager | CmafPackager], pace: float, other: dict[str, Any]
) -> None:
    segments, ahead = dated(make(), Timetable(seconds=60, pace=pace, **other))
    assert max(ahead[3:]) < (2.1 if pace < 100 else 2.3), "the media of a segment may be a little ahead"
    assert all(round(one.wall, 3) < round(two.wall, 3) for one, two in itertools.pairwise(segments))
    assert len({s.epoch for s in segments}) > 20


@pytest.mark.parametrize("pace", [20.0, 4000.0])
def test_periods_that_no_player_can_show_are_not_listed(pace: float) -> None:
    packager, periods = cmaf(), set[tuple[float, float]]()

    def each(unit: AccessUnit) -> None:
        if packager.ready and unit.key and unit.track.kind is Kind.VIDEO:
            found = re.findall(
                r'<Period [^>]*start="PT([\d.]+)S"(?: duration="PT([\d.]+)S")?', packager.manifests.manifest()
            )
            assert found, "an MPD cannot be empty"
            periods.update((float(start), float(duration)) for start, duration in found if duration)

    feed(packager, Timetable(seconds=60, pace=pace), Timetable(start=60.02, seconds=20), each=each, end=False)
    assert all(duration >= 0.5 for _, duration in periods), periods


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
def test_a_publisher_that_returns_right_after_a_burst_moves_no_date_back(
    make: Callable[[], TsPackager | CmafPackager],
) -> None:
    class Returned(Timetable):
        def units(self) -> Iterator[AccessUnit]:
            for unit in super().units():
                unit.wall -= self.start  # right after the burst
                yield unit

    segments, ahead = dated(make(), Timetable(seconds=60, pace=4000.0), Returned(start=60.02, seconds=20))
    assert len(segments) > 36 and max(ahead[-9:]) < 0.4
    assert all(round(one.wall, 3) < round(two.wall, 3) for one, two in itertools.pairwise(segments))


def test_a_clock_that_goes_back_moves_no_date_back() -> None:
    dates, time = DateCorrection(), 0
    dates.begin(0, WALL)
    for _ in range(2000):
        time += 2 * VIDEO_CLOCK
        wall = WALL + time / VIDEO_CLOCK - (5.0 if time > 60 * VIDEO_CLOCK else 0.0)
        before = dates.slew
        assert not dates.follow(time, wall)
        assert 0 <= dates.slew - before <= 90
    assert dates.slew > 0


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
@pytest.mark.parametrize("other", [{}, {"video": None}, {"audio": None}], ids=["both", "sound", "pictures"])
@pytest.mark.parametrize("hours", [1, -1])
def test_dates_follow_a_clock_that_was_set(
    make: Callable[[], TsPackager | CmafPackager], other: dict[str, Any], hours: int
) -> None:
    """A machine whose clock ran in another time zone until the first answer of NTP."""
    packager = make()
    segments, ahead = dated(packager, Timetable(seconds=30, clock_jump=hours * HOUR, **other))
    assert max(map(abs, ahead[-3:])) < 3
    assert len({segment.epoch for segment in segments}) == 2
    if isinstance(packager, CmafPackager):
        manifest = packager.manifests.manifest()
        start = datetime.fromisoformat(re.findall('availabilityStartTime="([^"]+)"', manifest)[0]).timestamp()
        periods = [float(found) for found in re.findall(r'<Period [^>]*start="PT([\d.]+)S"', manifest)]
        assert periods == sorted(periods) and start + periods[-1] == pytest.approx(WALL + hours * HOUR + 12, abs=5)
        assert packager.manifests.is_playable()


def followed(seconds: float, length: float, arrival: Callable[[float], float]) -> tuple[DateCorrection, int]:
    """Begins segments of `length` seconds. arrival: from media time. Returns also the number of further epochs."""
    dates, epochs = DateCorrection(), 0
    dates.begin(0, WALL + arrival(0.0))
    for number in range(1, int(seconds / length)):
        time, wall = round(number * length * VIDEO_CLOCK), WALL + arrival(number * length)
        if dates.follow(time, wall):
            epochs += 1
            dates.begin(time, wall)
    return dates, epochs


@pytest.mark.parametrize("ppm", [0, 20, -20])
def test_a_late_first_picture_moves_no_media(ppm: int) -> None:
    dates, epochs = followed(HOUR, 2.0, lambda media: media / (1 + ppm / 1e6) + (0.3 if media == 0 else 0.0))
    assert dates.slew == 0 and not epochs


@pytest.mark.parametrize("ppm", [200, -200])
def test_a_late_first_picture_leaves_media_near_the_clock(ppm: int) -> None:
    """Before the correction, media are 0.3 s early. A slow clock makes them right first."""
    dates, epochs = followed(DAY, 4.0, lambda media: media / (1 + ppm / 1e6) + (0.3 if media == 0 else 0.0))
    early = -(DAY - 4) * (1 / (1 + ppm / 1e6) - 1) - dates.slew / VIDEO_CLOCK + 0.3
    assert (0.4 < early < 0.45 if ppm > 0 else -0.15 < early < -0.1) and not epochs


@pytest.mark.parametrize("length", [2.0, 10.0, 30.0])
def test_media_that_stay_late_begin_one_epoch(length: float) -> None:
    _, epochs = followed(HOUR, length, lambda media: media + (3.0 if media > 100 else 0.0))
    assert epochs == 1


@pytest.mark.parametrize(("length", "uplink"), [(2.0, None), (10.0, None), (2.0, 1.1), (2.0, 3.0), (10.0, 3.0)])
def test_media_that_are_lost_in_an_outage_begin_an_epoch_soon(length: float, uplink: float | None) -> None:
    """Of ten seconds without arrivals, an encoder sends all the later, at the speed of its uplink, or drops them."""

    def arrival(media: float) -> float:
        since = max(0.0, media - 100)
        late = 10.0 if since else 0.0
        return media + (late if uplink is None else max(0.0, late - since * (1 - 1 / uplink)))

    dates, begun = DateCorrection(), []
    dates.begin(0, WALL)
    for number in range(1, int(100 / length) + 6):
        time, wall = round(number * length * VIDEO_CLOCK), WALL + arrival(number * length)
        if dates.follow(time, wall):
            begun.append(number * length)
            dates.begin(time, wall)
    assert begun == ([100 + 3 * length] if uplink is None else [])


@pytest.mark.parametrize(("length", "burst"), [(3.0, 6.0), (2.0, 6.0), (5.0, 10.0), (2.5, 10.0)])
def test_media_that_always_come_in_bursts_begin_epochs_in_the_first_burst_only(length: float, burst: float) -> None:
    """As from a pulled playlist with long segments."""
    _, epochs = followed(HOUR, length, lambda media: media // burst * burst + burst)
    assert epochs == burst / length - 1


@pytest.mark.parametrize("length", [2.0, 10.0, 30.0])
def test_one_late_segment_begins_no_epoch(length: float) -> None:
    _, epochs = followed(HOUR, length, lambda media: media + (3.0 if 100 < media <= 100 + length else 0.0))
    assert not epochs


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
def test_a_clock_that_goes_back_by_a_segment_gives_no_date_twice(make: Callable[[], TsPackager | CmafPackager]) -> None:
    segments, _ = dated(make(), Timetable(seconds=20, clock_jump=-1.9998))
    assert len(segments) > 7
    assert all(round(two.wall, 3) > round(one.wall, 3) for one, two in itertools.pairwise(segments))


def test_an_epoch_after_a_clock_that_went_back_leaves_room_for_a_frame_of_sound() -> None:
    """Sound may begin a frame after its pictures, so its last date is later."""
    dates = DateCorrection()
    dates.begin(0, WALL)
    for number in range(1, 400):
        time, wall = 4 * number * VIDEO_CLOCK, WALL + 4 * number - (3.999 if number > 5 else 0.0)
        last = WALL + (time - dates.slew) / VIDEO_CLOCK - 4
        if dates.follow(time, wall):
            break
    assert number < 399 and dates.begin(time, wall) - last > 0.149


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
def test_cues_have_the_dates_of_the_media(make: Callable[[], TsPackager | CmafPackager]) -> None:
    packager = make()
    segments, _ = dated(packager, drifting(-400))
    packager.take_event(AdCue(CueType.OUT, "break", int(HOUR * VIDEO_CLOCK), None, b""))
    ranges = packager.manifests.ranges if isinstance(packager, CmafPackager) else packager.ranges
    end = segments[-1].wall + segments[-1].duration
    date = datetime.fromisoformat(re.findall(r'START-DATE="([^"]+)"', ranges.lines(0.0))[0]).timestamp()
    assert 0 <= date - end < 2.1


def test_captions_have_the_corrected_times_of_the_media() -> None:
    packager = cmaf()
    at: list[int] = []

    def cut(start: int, end: int, clock: int) -> dict[str, tuple[CaptionCue, ...]]:
        at.append(start * VIDEO_CLOCK // clock)
        return {"en": (CaptionCue(at[-1], at[-1] + 9000, "text"),)}

    table = drifting(400)
    packager.on_tracks(Tracks(table.video, table.audio, 0))
    packager._video.cut_captions = cut
    for unit in table.units():
        packager.on_unit(unit)
    segment = packager._video.window[-1]
    (cue,) = (segment.parts[0].captions or {})["en"]
    assert cue.start == segment.time
    slew = packager._alignment.dates.slew
    assert any(abs(time - segment.time - slew) < 300 for time in at), "captions are found by the stream's times"
