"""One time line of several inputs."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.inputs.program import Program
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.silent_frames import silent_frame
from gateway.media.track import AccessUnit, Codec, Kind, MadeSilence, MediaTrack, Tracks
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.media_holes import MediaHoles
from gateway.packaging.packager import Packager
from tests.support import builders
from tests.support.builders import AUDIO, AVCC, VIDEO, Recorder, picture, sound
from tests.support.segmented import cmaf, ts

BOTH = Tracks(VIDEO, AUDIO)
SAME = Tracks(MediaTrack(Kind.VIDEO, Codec.H264, 1000, AVCC), MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x12\x10"))
OTHER = Tracks(MediaTrack(Kind.VIDEO, Codec.H264, 1000, AVCC + b"\0"), AUDIO)


def program() -> tuple[Program, Recorder]:
    stream = builders.stream()
    origin = PushOrigin("inputs", "", keep_time=True, trusted=True)
    publisher = StreamPublisher(stream, origin, 0.0, lambda reason: None, lambda publisher: None)
    recorder = Recorder()
    stream.attach(recorder)
    return Program(publisher), recorder


def begun() -> tuple[Program, Recorder]:
    """A program whose first input sent a picture at 5.0 s, at the monotonic time 100."""
    one, recorder = program()
    one.begin(BOTH, [picture(5000, key=True)], 100.0)
    return one, recorder


def times(recorder: Recorder, kind: Kind = Kind.VIDEO) -> list[int]:
    return [unit.dts for unit in recorder.units if unit.track.kind is kind]


def test_equal_tracks_are_not_announced_and_time_goes_on_as_the_clock():
    one, recorder = begun()
    one.begin(SAME, [picture(77_000, key=True)], 100.5)
    one.push(picture(77_040), 100.54)
    assert times(recorder) == [5000, 5500, 5540]
    assert len(recorder.tracks) == 1
    assert all(unit.track is VIDEO for unit in recorder.units), "consumers know these tracks"


def test_an_input_that_counts_otherwise_goes_on_without_an_announcement():
    one, recorder = begun()
    fine = MediaTrack(Kind.VIDEO, Codec.H264, VIDEO_CLOCK, AVCC)
    fine_sound = MediaTrack(Kind.AUDIO, Codec.AAC, VIDEO_CLOCK, AUDIO.config)
    one.begin(Tracks(fine, fine_sound), [AccessUnit(fine, 900_000, 3_754, True, 0.0, b"key")], 100.5)
    one.push(AccessUnit(fine, 903_754, 0, False, 0.0, b"picture"), 100.54)
    assert times(recorder) == [5000, 5500, 5542]
    assert recorder.units[1].cts == 42
    assert len(recorder.tracks) == 1


def test_the_stream_counts_as_its_input_to_the_tick():
    one, recorder = begun()
    fine = MediaTrack(Kind.VIDEO, Codec.H264, VIDEO_CLOCK, AVCC + b"\0")
    one.begin(Tracks(fine, None), [AccessUnit(fine, 900_001, 3_754, True, 0.0, b"key")], 100.5)
    for number in range(1, 4):
        one.push(AccessUnit(fine, 900_001 + 3_003 * number, 3_754, False, 0.0, b"picture"), 100.5 + number / 30)
    shown = [unit.dts + unit.cts for unit in recorder.units[1:] if unit.track.kind is Kind.VIDEO]
    assert [time - shown[0] for time in shown] == [0, 3_003, 6_006, 9_009]
    assert recorder.units[1].dts == 5_500 * 90 + 89, "half a second after all media before it"
    one.begin(BOTH, [picture(77_000, key=True)], 101.0)
    assert recorder.units[-1].dts == 6_001


def test_other_tracks_are_announced_once():
    one, recorder = begun()
    one.begin(OTHER, [picture(0, key=True, track=OTHER.video)], 100.1)
    assert [tracks.epoch for tracks in recorder.tracks] == [0, 1]
    assert recorder.units[-1].track == OTHER.video


def test_after_a_break_equal_tracks_are_announced():
    one, recorder = begun()
    again = Program(one.publisher)
    again.begin(BOTH, [picture(0, key=True)], 101.0)
    assert len(recorder.tracks) == 2


def test_times_grow_even_if_no_time_has_passed():
    one, recorder = begun()
    one.begin(SAME, [picture(9, key=True)], 100.0)
    assert times(recorder) == [5000, 5033]


def test_sound_before_the_first_picture_of_an_input_is_left_out():
    one, recorder = begun()
    one.begin(SAME, [picture(2000, key=True)], 100.2)
    one.push(sound(1990), 100.2)
    one.push(sound(2010), 100.21)
    assert times(recorder, Kind.AUDIO) == [5210]


def test_cached_pictures_are_compressed_into_the_elapsed_time():
    one, recorder = begun()
    cached = [picture(1000, key=True), sound(1010), picture(1040), sound(1045), picture(1080), picture(1120)]
    one.begin(SAME, cached, 100.3)
    one.push(sound(1125), 100.31)
    one.push(picture(1160), 100.34)
    assert times(recorder) == [5000, 5001, 5101, 5200, 5300, 5340]
    assert times(recorder, Kind.AUDIO) == [5305]


def test_cached_pictures_have_at_least_a_millisecond_each():
    one, recorder = begun()
    one.begin(SAME, [picture(1000 + 40 * n, key=not n) for n in range(50)], 100.0)
    one.push(picture(3000), 100.04)
    shown = times(recorder)[1:]
    assert shown == [*range(5001, 5051), 5090]


def test_cached_pictures_may_be_decoded_at_one_time():
    for cached, expected in (
        ([picture(0, key=True, cts=-10), picture(0), picture(40)], [4926, 5002, 5300]),
        ([picture(0, key=True, cts=-10), picture(0, cts=40)], [4991, 5042]),
    ):
        one, recorder = begun()
        one.begin(SAME, cached, 100.3)
        assert [unit.dts + unit.cts for unit in recorder.units[1:]] == expected


@example([3, 28, 31, 37, 1], [0, 40, 40, 40, 80, *[0] * 36], 0.0225)
@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=40),
    st.lists(st.sampled_from((-40, 0, 40, 80)), min_size=41, max_size=41),
    st.floats(0, 3),
)
def test_times_grow_and_pictures_keep_their_order(steps: list[int], reorder: list[int], elapsed: float):
    one, recorder = begun()
    cached, dts = [picture(0, key=True, cts=reorder[0])], 0
    for number, step in enumerate(steps):
        dts += step
        cached.append(picture(dts, cts=reorder[number + 1]))
    one.begin(SAME, cached, 100 + elapsed)
    one.push(picture(dts + 40, cts=80), 100 + elapsed + 0.04)
    shown = times(recorder)
    assert shown == sorted(set(shown))
    units = recorder.units[1:]
    order = sorted(range(len(cached)), key=lambda n: cached[n].dts + cached[n].cts)
    presented = [units[n].dts + units[n].cts for n in order]
    assert presented == sorted(presented)
    assert isinstance(units[0], AccessUnit) and units[0].key


FRAME = 1024 / 44.1  # milliseconds of sound at 44.1 kHz


def sounds(first: float, count: int) -> list[AccessUnit]:
    return [sound(round(first + number * FRAME)) for number in range(count)]


def test_sound_continues_without_a_gap_and_in_sync():
    for elapsed in (0.0, 0.1, 0.75, 1.3):
        for phase in range(0, 24, 5):
            one, recorder = program()
            one.begin(BOTH, [picture(0, key=True)], 100.0)
            for unit in sounds(3, 40):
                one.push(unit, 100.9)
            one.push(picture(940), 100.9)
            one.begin(SAME, [picture(50_000, key=True)], 100.9 + elapsed, sound=50_000 - 30 + phase)
            for unit in sounds(50_000 - 30 + phase, 20):
                one.push(unit, 101.0 + elapsed)
            heard = times(recorder, Kind.AUDIO)
            steps = [b - a for a, b in itertools.pairwise(heard)]
            assert max(steps) <= 25 and min(steps) >= 21, (elapsed, phase, steps)
            shown = times(recorder)[-1]
            assert abs(heard[-1] - shown - (-30 + phase + 19 * FRAME)) <= 2, "sound and picture were moved alike"
            assert abs(shown - 940 - max(33, elapsed * 1000)) <= FRAME


@pytest.mark.parametrize(
    ("codec", "payload", "frame"),
    [
        (Codec.MP3, b"\xff\xfb\x90\x64" + bytes(413), 1152 / 44.1),
        (Codec.AC3, bytes.fromhex("0b77a1b81440432a") + bytes(760), 32),
        (Codec.EAC3, bytes.fromhex("0b7700ff3486c000") + bytes(504), 32),
    ],
)
def test_sound_whose_silence_is_like_its_own_frames_continues_without_a_gap(codec: Codec, payload: bytes, frame: float):
    track = MediaTrack(Kind.AUDIO, codec, 1000, b"")
    one, recorder = program()
    one.begin(Tracks(VIDEO, track), [picture(0, key=True)], 100.0)
    for number in range(30):
        one.push(AccessUnit(track, round(number * frame), 0, True, 0.0, payload), 100.9)
    one.begin(Tracks(VIDEO, track), [picture(50_000, key=True)], 101.6, sound=50_007)
    one.push(AccessUnit(track, 50_007, 0, True, 0.0, payload), 101.6)
    heard = times(recorder, Kind.AUDIO)
    assert all(abs(b - a - frame) <= 1 for a, b in itertools.pairwise(heard)) and len(heard) > 40
    one.begin(BOTH, [picture(60_000, key=True)], 112.0)  # a slate may begin with AAC
    known = silent_frame(track, payload)
    assert known is not None and one.silence(replace(track, timescale=90_000)) == known.payload
    assert one.silence(AUDIO) == b""


@pytest.mark.parametrize(
    ("codec", "payload", "frame"),
    [(Codec.AAC, b"aac", FRAME), (Codec.MP3, b"\xff\xfb\x90\x64" + bytes(413), 1152 / 44.1)],
)
@pytest.mark.parametrize("other", [VIDEO, OTHER.video])
def test_an_input_without_sound_is_silent(codec: Codec, payload: bytes, frame: float, other: MediaTrack):
    """Browsers stop where the sound of a stream ends and its pictures go on."""
    track = AUDIO if codec is Codec.AAC else MediaTrack(Kind.AUDIO, codec, 1000, b"")
    one, recorder = program()
    one.begin(Tracks(VIDEO, track), [picture(0, key=True)], 100.0)
    for number in range(40):
        one.push(AccessUnit(track, round(number * frame), 0, True, 0.0, payload), 101.0)
    one.begin(Tracks(other, None), [picture(0, key=True, track=other)], 101.5)
    for number in range(1, 100):
        one.push(picture(40 * number, track=other), 101.5 + number / 25)
    before = len(recorder.tracks)
    assert before == (1 if other is VIDEO else 2)
    assert all(
        (tracks.audio, tracks.video) == (track, VIDEO if n == 0 else other) for n, tracks in enumerate(recorder.tracks)
    )
    one.begin(Tracks(other, track), [picture(0, key=True, track=other)], 105.5, sound=0)
    for number in range(40):
        one.push(AccessUnit(track, round(number * frame), 0, True, 0.0, payload), 106.0)
    assert len(recorder.tracks) == before
    heard = times(recorder, Kind.AUDIO)
    steps = [b - a for a, b in itertools.pairwise(heard)]
    assert max(abs(step - frame) for step in steps if step < 300) <= 1
    assert sum(step > frame + 1 for step in steps) == (0 if other is VIDEO else 1), "at the announcement"
    assert sum(type(unit) is MadeSilence for unit in recorder.units) > 140


def test_times_that_are_faster_than_real_time_make_little_silence():
    one, recorder = begun()
    one.push(sound(0), 100.0)
    one.begin(Tracks(OTHER.video, None), [picture(0, key=True, track=OTHER.video)], 101.0)
    for number in range(1, 1_000):
        one.push(picture(4_000 * number, key=True, track=OTHER.video), 101.0 + number / 1_000)
    made = sum(type(unit) is MadeSilence for unit in recorder.units)
    assert 1_000 <= made <= 32 / (1024 / 44_100) + 1_010


def test_silence_that_was_made_for_missing_sound_stays_recognizable():
    one, recorder = begun()
    for scale in (1, 48):  # also in ticks that are not those of the stream
        track = replace(AUDIO, timescale=1000 * scale)
        one.push(MadeSilence(track, 5_100 * scale, 0, True, 0.0, b"silence"), 100.1)
        assert type(recorder.units[-1]) is MadeSilence
    assert recorder.units[-1].track is AUDIO


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_a_late_replacement_leaves_no_hole_in_the_media(count: int):
    one, recorder = program()
    one.begin(BOTH, [picture(0, key=True)], 100.0)
    for number in range(1, 26):
        one.push(picture(40 * number), 100.0 + number / 25)
        one.push(sound(40 * number), 100.0 + number / 25)
    one.begin(SAME, [picture(50_000 + 40 * n, key=not n) for n in range(count)], 101.9, sound=50_000)
    for number in range(count, count + 25):
        one.push(picture(50_000 + 40 * number), 102)
        one.push(sound(50_000 + 40 * number), 102)
    holes = MediaHoles(in_pictures=True)
    assert not any(holes.is_before(unit) for unit in recorder.units)


@pytest.mark.parametrize("make", [ts, cmaf])
def test_hls_goes_on_without_a_discontinuity_if_a_replacement_begins_inside_a_long_gop(
    make: Callable[[float, int], Packager],
) -> None:
    """The pictures since the last key frame of the replacement came seconds ago."""
    one, recorder = program()
    one.begin(BOTH, [picture(0, key=True)], 100.0)
    replacement = list[AccessUnit]()
    for number in range(400):
        at = 40 * number
        units = [picture(at, key=number % 100 == 0), sound(at)]
        if number <= 195:
            replacement = units[:1] if number % 100 == 0 else replacement + units
        elif number == 196:
            one.begin(SAME, replacement, 100 + at / 1000, sound=at)
        for unit in units:
            if at:
                one.push(unit, 100 + at / 1000)
    packager = make(1.0, 20)
    packager.take_tracks(recorder.tracks[0])
    for unit in recorder.units:
        packager.take(unit)
    window = (packager._video if isinstance(packager, CmafPackager) else packager).window
    assert len(window) > 2 and {segment.epoch for segment in window} == {0}


def test_a_gap_in_the_sound_that_is_too_long_is_not_filled():
    one, recorder = program()
    one.begin(BOTH, [picture(0, key=True), sound(0)], 100.0)
    one.begin(SAME, [picture(0, key=True), sound(0)], 160.0, sound=0)
    assert len(recorder.units) == 4
