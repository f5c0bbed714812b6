"""Sound segments begin with those of the pictures, and have their numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest

from gateway.formats.hls.media_playlist import with_suffix
from gateway.formats.mp4.reader import parse_fragments
from gateway.formats.ts.reader import TsReader
from gateway.live.sink import EndReason
from gateway.media.silent_frames import silent_frame
from gateway.media.track import AccessUnit, Kind, Tracks
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.cmaf.track import CmafTrack
from gateway.packaging.segment_window import Segment
from gateway.packaging.ts.packager import TsPackager
from tests.support.builders import AUDIO
from tests.support.hls_rules import parse
from tests.support.segmented import WALL, Timetable, cmaf, feed, ts


def test_sound_that_steps_back_behind_a_boundary_stays_in_its_segment() -> None:
    """The publisher's sound card is fast. Its times step back by 45 ms, around the boundary at 6 s."""
    for step in range(5900, 6150, 10):
        packager = cmaf(size=20)
        table = Timetable(seconds=12, audio_late=0.1)
        packager.on_tracks(Tracks(table.video, table.audio, 0))
        for unit in table.units():
            steps_back = unit.track.kind is Kind.AUDIO and unit.dts >= step
            packager.on_unit(replace(unit, dts=unit.dts - 45) if steps_back else unit)
        packager.catch_up()
        for one, two in zip(packager._video.window, packager._audio.window, strict=False):
            assert one.number == two.number
            assert abs(one.time / one.clock - two.time / two.clock) < 0.15 and two.duration > 1.8


@pytest.mark.parametrize(("rate", "config"), [(16_000, b"\x14\x08"), (8_000, b"\x15\x88")])
def test_low_rate_sound_in_pairs_with_one_timestamp_has_no_overlaps_and_whole_parts(rate: int, config: bytes) -> None:
    packager, frame = cmaf(size=50), 1024 * 1000 // rate
    table = Timetable(seconds=12, rate=rate, audio=replace(AUDIO, config=config))
    packager.on_tracks(Tracks(table.video, table.audio, 0))
    for unit in table.units():
        is_sound = unit.track.kind is Kind.AUDIO
        packager.on_unit(replace(unit, dts=unit.dts // (2 * frame) * 2 * frame) if is_sound else unit)
    packager.catch_up()
    end = None
    for segment in list(packager._audio.window)[1:]:
        assert min(part.duration for part in segment.parts[:-1]) > 0.38
        for fragment in parse_fragments(segment.body()):
            assert end in (None, fragment.base_decode_time)
            end = fragment.base_decode_time + sum(sample.duration for sample in fragment.samples)


def received(packager: TsPackager | CmafPackager) -> list[bytes]:
    """Returns the payloads of all frames of sound in the segments, in order."""
    if isinstance(packager, CmafPackager):
        fragments = [f for segment in packager._audio.window for f in parse_fragments(segment.body())]
        return [sample.payload for fragment in fragments for sample in fragment.samples]
    reader = TsReader()
    units = reader.receive(b"".join([segment.body() for segment in packager.window])) + reader.finish()
    return [unit.payload for unit in units if unit.track.kind is Kind.AUDIO]


@pytest.mark.parametrize("make", [ts, cmaf], ids=["ts", "cmaf"])
@pytest.mark.parametrize("late", [0.2, 0.5, 1.5])
@pytest.mark.parametrize("other", [{"clock_jump": 5.0}, {"pace": 20.0}], ids=["jump", "burst"])
def test_sound_that_comes_after_its_pictures_is_whole_over_a_new_epoch(
    make: Callable[..., TsPackager | CmafPackager], late: float, other: dict[str, float]
) -> None:
    packager = make(size=50)
    table = Timetable(seconds=30, audio_late=late, **other)
    feed(packager, table)
    window = packager._audio.window if isinstance(packager, CmafPackager) else packager.window
    assert window[-1].epoch >= 1
    assert received(packager) == [unit.payload for unit in table.units() if unit.track.kind is Kind.AUDIO]
    if isinstance(packager, CmafPackager):
        for one, two in zip(packager._video.window, window, strict=True):
            assert (one.number, one.epoch) == (two.number, two.epoch)
            assert abs(one.time / one.clock - two.time / two.clock) < 0.03


@pytest.mark.parametrize("tenths", range(100, 200, 7))
def test_sound_that_begins_just_before_an_epoch_is_in_this_epoch(tenths: int) -> None:
    """Its first segment may begin with the picture that begins the epoch."""
    packager = cmaf(size=50)
    table = Timetable(seconds=30, clock_jump=5.0)
    units = list(table.units())
    begins = WALL + tenths / 10
    packager.take_tracks(Tracks(table.video, table.audio))
    for unit in units:
        if unit.track.kind is Kind.VIDEO or unit.wall >= begins:
            packager.take(unit)
    packager.on_end(EndReason.PUBLISHER_GONE)
    pictures = {segment.number: segment.epoch for segment in packager._video.window}
    assert len(set(pictures.values())) == 2
    assert {segment.number: segment.epoch for segment in packager._audio.window}.items() <= pictures.items()


@pytest.mark.parametrize(("late", "more"), [(0.0, 0.0), (0.4, 0.0), (2.1, 2.0), (8.0, 7.5)])
def test_players_begin_where_the_sound_of_a_late_encoder_has_come(late: float, more: float) -> None:
    """hls.js begins PART-HOLD-BACK before the last picture. It waits for ever if no playlist of sound reaches there."""
    packager = cmaf(size=50)
    feed(packager, Timetable(seconds=24, audio_late=late), end=False)
    part = packager.manifests.alignment.part_target
    for track in (packager._video, packager._audio):
        assert hold_back(packager, track) == pytest.approx(3 * part + more)
    begin = packager._video.end_date - (3 * part + more)
    assert packager._audio.end_date - begin > part


def test_one_part_of_sound_that_comes_late_moves_no_player() -> None:
    packager, table = cmaf(size=50), Timetable(seconds=24)
    packager.on_tracks(Tracks(table.video, table.audio, 0))

    def arrival(unit: AccessUnit) -> int:
        return unit.dts + 3000 * (unit.track.kind is Kind.AUDIO and 12_000 <= unit.dts < 12_600)

    for unit in sorted(table.units(), key=arrival):
        packager.on_unit(replace(unit, wall=WALL + arrival(unit) / 1000))
    packager.catch_up()
    assert hold_back(packager, packager._video) == pytest.approx(3 * packager.manifests.alignment.part_target)


def last_segment(track: CmafTrack) -> Segment:
    """The last segment of the first epoch."""
    return [segment for segment in track.window if segment.epoch == 0][-1]


def hold_back(packager: CmafPackager, track: CmafTrack) -> float:
    return float(parse(with_suffix(packager.manifests.playlist(track)).decode()).control["PART-HOLD-BACK"])


@pytest.mark.parametrize("shifts", [(0,), (2, 4, 1, 1)], ids=["no B-frames", "B-frames"])
@pytest.mark.parametrize(
    ("until", "ends"), [(5.2, 5.6), (4.4, 5.6), (5.55, 5.55)], ids=["0.4 s", "1.2 s", "a frame or two"]
)
def test_silence_follows_sound_that_a_broken_push_ends_before_its_pictures(
    until: float, ends: float, shifts: tuple[int, ...]
) -> None:
    """Players look for the sound of the next push where the pictures of this one end."""
    packager, shown = cmaf(1.0, size=20), shifts[0] / 30
    first = Timetable(seconds=5.6, gop=(30,), audio_until=until + shown, shifts=shifts, audio_at=shown)
    feed(packager, first, Timetable(gop=(30,), seconds=3, start=20), end=False)
    pictures, last = last_segment(packager._video), last_segment(packager._audio)
    assert last.number == pictures.number and last.last
    assert (last.time + last.length) / last.clock == pytest.approx(ends + shown, abs=0.03)
    silence = silent_frame(AUDIO)
    assert silence is not None
    assert received(packager).count(silence.payload) == pytest.approx((ends - until) * 44_100 / 1024, abs=1)


@pytest.mark.parametrize("shifts", [(0,), (2, 4, 1, 1)], ids=["no B-frames", "B-frames"])
def test_the_last_segment_before_a_break_is_long_enough_for_players(
    shifts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push ends one picture behind a key frame. hls.js does not find a segment of 0.03 s."""
    rate, last, shown = Fraction(32), 5 + 1 / 32, shifts[0] / 32
    table = Timetable(last + 0.01, rate, (32,), shifts, audio_at=shown, audio_until=last + shown)
    for away, least in (5.0, 0.3), (0.0, 1 / 32):  # without a break, the next media follow at once
        packager = cmaf(1.0, size=20)
        feed(packager, table, end=False)
        monkeypatch.setattr("gateway.packaging.cmaf.packager.time.time", lambda: WALL + last + away)  # noqa: B023
        feed(packager, Timetable(3, rate, (32,), start=last + shown + away), epochs=[1], end=False)
        pictures, sound = last_segment(packager._video), last_segment(packager._audio)
        assert pictures.duration == pytest.approx(least, abs=0.001) and pictures.last
        assert not away or (sound.number == pictures.number and sound.duration > 0.25)
        assert sum(len(fragment.samples) for fragment in parse_fragments(pictures.body())) == 1


def test_the_last_picture_lasts_no_longer_than_a_part() -> None:
    packager = cmaf(1.0, size=20, part=0.2)
    feed(packager, Timetable(5 + 2 / 30, gop=(30,)), Timetable(3, gop=(30,), start=10), end=False)
    last = last_segment(packager._video)
    assert last.duration == pytest.approx(0.2, abs=0.04)
    assert packager._video.part_target is not None and last.duration <= packager._video.part_target


@pytest.mark.parametrize("seconds", [3, 14])
def test_no_silence_follows_the_last_push_or_sound_that_ended_long_before(seconds: float) -> None:
    packager = cmaf(1.0, size=30)
    feed(packager, Timetable(seconds=15, gop=(30,), audio_until=15.0 - seconds), end=seconds == 3)
    if seconds == 14:
        feed(packager, Timetable(gop=(30,), seconds=3, start=30), epochs=[1], end=False)
    ended = last_segment(packager._audio)
    assert (ended.time + ended.length) / ended.clock == pytest.approx(15 - seconds, abs=0.05)


@pytest.mark.parametrize("shifts", [(0,), (2, 0, 1)], ids=["no reordering", "reordering"])
@pytest.mark.parametrize("pause", [(5.0, 6.5), (5.3, 6.9), (5.0, 9.0), (5.3, 13.9)])
def test_a_segment_that_begins_with_sound_has_the_date_at_which_the_one_before_ends(
    pause: tuple[float, float], shifts: tuple[int, ...]
) -> None:
    packager = ts(size=30)
    feed(packager, Timetable(seconds=20, pause=pause, shifts=shifts), end=False)
    segments = list(packager.window)
    assert len({segment.epoch for segment in segments}) == 1
    ends = [segment.wall + segment.duration for segment in segments]
    assert [segment.wall for segment in segments[1:]] == pytest.approx(ends[:-1], abs=0.001)
