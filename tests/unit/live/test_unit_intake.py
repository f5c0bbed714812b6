"""UnitIntake: what a protocol gives it, and what the stream gets."""

from collections.abc import Collection
from itertools import pairwise

import pytest

from gateway.live.unit_intake import PICTURES_MS, PREROLL_BYTES, PREROLL_MS, PREROLL_UNITS, SOUND_MS, UnitIntake
from gateway.media.track import AccessUnit, Codec, Kind, MadeSilence, MediaTrack
from tests.support import builders
from tests.support.builders import AVCC, Recorder, publish

VIDEO = MediaTrack(Kind.VIDEO, Codec.H264, 1000, AVCC)
AUDIO = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x12\x10")


class Rig:
    def __init__(self, expected: Collection[Kind] | None = None, **limits: float) -> None:
        self.hub = builders.hub(**limits)
        self.publisher = publish(self.hub)
        self.sink = Recorder()
        self.publisher.stream.attach(self.sink)
        self.intake = UnitIntake(self.publisher, expected)

    def push(self, track: MediaTrack, dts: int, key: bool = True, size: int = 5) -> None:
        at = self.intake.timeline.stamp(track.kind is Kind.AUDIO, dts)
        self.intake.take(0, AccessUnit(track, at, 0, key, 0.0, b"\0\0\0\1x".ljust(size, b"x")), 1.0)

    def times(self) -> list[int]:
        return [item.dts for item in self.sink.items if isinstance(item, AccessUnit)]

    async def close(self) -> None:
        self.hub.drain()
        await self.hub.drained()


async def test_units_wait_until_both_tracks_are_known():
    rig = Rig()
    rig.intake.set_track(VIDEO, 1.0)
    rig.push(VIDEO, 0)
    assert rig.sink.items == []
    rig.intake.set_track(AUDIO, 1.0)
    rig.push(AUDIO, 5)
    assert [type(item).__name__ for item in rig.sink.items] == ["Tracks", "AccessUnit", "AccessUnit"]
    assert (rig.sink.tracks[0].video, rig.sink.tracks[0].audio) == (VIDEO, AUDIO)
    await rig.close()


@pytest.mark.parametrize(
    ("track", "expected", "wait"),
    [
        (VIDEO, None, PREROLL_MS),  # nobody promised sound
        (VIDEO, set(Kind), SOUND_MS),
        (AUDIO, None, PICTURES_MS),
        (AUDIO, set(Kind), 10_000),
    ],
)
async def test_units_wait_for_the_other_track_up_to_a_limit(
    track: MediaTrack, expected: Collection[Kind] | None, wait: int
) -> None:
    rig = Rig(expected)
    rig.intake.set_track(track, 1.0)
    for at in range(0, wait, 100):
        rig.push(track, at)
    assert rig.times() == []
    rig.push(track, wait)
    assert rig.times() == list(range(0, wait + 1, 100))
    await rig.close()


async def test_the_longest_wait_for_promised_pictures_is_a_setting() -> None:
    rig = Rig(set(Kind), tracks_wait=1.0)
    rig.intake.set_track(AUDIO, 1.0)
    for at in range(0, 1_001, 100):
        rig.push(AUDIO, at)
    assert len(rig.times()) == 11
    await rig.close()


async def test_sound_long_before_the_first_picture_is_left_out() -> None:
    rig = Rig(set(Kind))
    rig.intake.set_track(AUDIO, 1.0)
    for at in range(0, 4_000, 100):
        rig.push(AUDIO, at)
    rig.intake.set_track(VIDEO, 1.0)
    rig.push(VIDEO, 4_000)
    assert rig.times() == [*range(4_000 - PREROLL_MS, 4_000, 100), 4_000]
    assert len(rig.sink.tracks) == 1
    await rig.close()


async def test_the_memory_of_waiting_sound_is_limited() -> None:
    rig = Rig(set(Kind))
    rig.intake.set_track(AUDIO, 1.0)
    for at in range(2 * PREROLL_UNITS):
        rig.push(AUDIO, at)
    assert rig.times() == []
    rig.intake.finish(1.0)
    assert PREROLL_UNITS // 2 <= len(rig.times()) <= PREROLL_UNITS
    await rig.close()


async def test_large_units_of_sound_that_wait_are_dropped_by_halves() -> None:
    rig = Rig(set(Kind))
    rig.intake.set_track(AUDIO, 1.0)
    for at in range(8):
        rig.push(AUDIO, at, size=PREROLL_BYTES // 8)
    rig.intake.finish(1.0)
    assert rig.times() == [4, 5, 6, 7]
    await rig.close()


async def test_pictures_beyond_the_memory_do_not_wait_for_sound() -> None:
    rig = Rig(set(Kind))
    rig.intake.set_track(VIDEO, 1.0)
    for at in range(PREROLL_UNITS // 2):
        rig.push(VIDEO, at // 2)
    assert rig.times() == []
    for at in range(PREROLL_UNITS // 2, PREROLL_UNITS):
        rig.push(VIDEO, at // 2)
    assert len(rig.times()) == PREROLL_UNITS
    await rig.close()


async def test_units_do_not_wait_if_the_only_expected_track_is_known():
    rig = Rig((Kind.AUDIO,))
    rig.intake.set_track(AUDIO, 1.0)
    rig.push(AUDIO, 0)
    assert rig.times() == [0]
    await rig.close()


async def test_times_wrap_and_jumps_are_repaired():
    rig = Rig((Kind.AUDIO,))
    rig.intake.set_track(AUDIO, 1.0)
    for at in ((1 << 32) - 20, 0, 20, 3_000_000, 3_000_020):
        rig.push(AUDIO, at)
    times = rig.times()
    assert [after - before for before, after in pairwise(times)] == [20] * 4
    await rig.close()


async def test_a_track_that_changes_begins_with_its_first_unit():
    rig = Rig()
    rig.intake.set_track(VIDEO, 1.0)
    rig.push(VIDEO, 0)
    other = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x11\x90")
    rig.intake.set_track(AUDIO, 1.0)
    rig.push(AUDIO, 0)
    rig.intake.set_track(other, 1.0)
    assert [tracks.audio for tracks in rig.sink.tracks] == [AUDIO, other]
    await rig.close()


async def test_the_end_publishes_units_that_still_wait():
    rig = Rig()
    rig.intake.set_track(AUDIO, 1.0)
    rig.push(AUDIO, 0)
    rig.intake.finish(1.0)
    assert rig.times() == [0]
    await rig.close()


async def test_a_publisher_that_returns_without_sound_is_silent():
    """A phone that is muted. Browsers show no pictures where the sound has ended."""
    rig = Rig(set(Kind))
    rig.intake.set_track(VIDEO, 1.0)
    rig.intake.set_track(AUDIO, 1.0)
    rig.push(VIDEO, 0)
    rig.push(AUDIO, 5)
    rig.publisher.close()
    again = UnitIntake(publish(rig.hub))
    again.set_track(VIDEO, 2.0)
    for at in range(0, 8_000, 40):
        unit = AccessUnit(VIDEO, again.timeline.stamp(0, at), 0, at % 1000 == 0, 0.0, b"\0\0\0\1x")
        again.take(0, unit, 2.0 + at / 1000)
    assert {tracks.audio for tracks in rig.sink.tracks} == {AUDIO}
    silence = [unit.dts for unit in rig.sink.units if type(unit) is MadeSilence]
    assert len(silence) > 100
    assert max(after - before for before, after in pairwise(silence)) <= 25
    again.set_track(AUDIO, 10.0)
    assert {tracks.audio for tracks in rig.sink.tracks} == {AUDIO}
    again.publisher.close()
    await rig.close()
