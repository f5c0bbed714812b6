"""Sound segments begin with those of the pictures, and have their numbers."""

from __future__ import annotations

from dataclasses import replace

from gateway.media.track import Kind, Tracks
from tests.support.segmented import Timetable, cmaf


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
