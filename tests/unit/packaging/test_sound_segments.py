"""Sound segments begin with those of the pictures, and have their numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.formats.mp4.reader import parse_fragments
from gateway.formats.ts.reader import TsReader
from gateway.live.sink import EndReason
from gateway.media.track import Kind, Tracks
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.ts.packager import TsPackager
from tests.support.builders import AUDIO
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
