"""Each fault of a push is reported and withdrawn in time, and healthy pushes have no findings."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.channels.inputs import InputKind
from gateway.diagnosis import measurement
from gateway.diagnosis.stream_health import CODES, EVENT_SECONDS
from gateway.live.health_report import Measurements
from gateway.live.on_air import InputOnAir
from gateway.live.sink import EndReason
from gateway.live.stream import OutputSwitch
from gateway.media.track import AccessUnit, Codec, Kind
from tests.support import builders
from tests.support.examples import examples
from tests.unit.diagnosis import rig
from tests.unit.diagnosis.rig import NOISE, SILENCE, WALL, Media, Push
from tests.unit.media.test_h264_slices import config, encoder

REPORTED, WITHDRAWN = 10, 15  # contract: seconds


def begins_and_ends(push: Push, code: str, **fault: object) -> None:
    """Adds a fault to a healthy push and removes it again. The finding must begin and end in time."""
    healthy = {name: getattr(push.media, name) for name in fault}
    assert push.send(20) == []
    assert code in push.send(REPORTED, **fault)
    assert code in push.send(20, **fault)
    push.send(WITHDRAWN, **healthy)
    assert code not in push.codes
    assert push.told[0] == (code, "begun")
    assert push.told.count((code, "ended")) == 1


def test_a_healthy_push_has_measurements_and_no_findings():
    push = Push()
    assert push.send(40) == []
    assert push.events == []
    measured = push.health.measured()
    assert measured.fps == pytest.approx(25, rel=0.05)
    assert measured.gop == pytest.approx(2, abs=0.05)
    assert (measured.bFrames, measured.width, measured.height) == (False, 1280, 720)
    assert abs(int(str(measured.avOffsetMs))) < 40
    assert abs(float(str(measured.driftMsPerS))) < 2


@settings(max_examples=examples(30, 60), deadline=None)
@given(
    fps=st.sampled_from([15.0, 25.0, 29.97, 50.0]),
    gop=st.floats(0.5, 4.0),
    read=st.sampled_from([0.05, 0.2]),
    burst=st.floats(0, 10),
    b_frames=st.booleans(),
    declared=st.sampled_from(["fps", "none", "clock"]),
    seed=st.integers(0, 1000),
)
def test_healthy_pushes_of_any_kind_have_no_findings(fps, gop, read, burst, b_frames, declared, seed):
    fps = fps if declared == "fps" else 30.0  # of the parameter sets
    chance = random.Random(seed)
    still = [chance.uniform(2e4, 3e5) for _ in range(200)]  # a screen with small changes, at a variable bitrate
    media = Media(fps=fps, gop=gop, read=read, b_frames=b_frames, bitrate=lambda at: still[int(at) % 200])
    metadata = {"fps": {"framerate": fps}, "none": {}, "clock": {"framerate": 1000.0}}[declared]
    push = Push(media, metadata=metadata)
    push.burst(burst)
    for _ in range(45):
        assert push.send(1) == []


def test_a_long_gop_is_found_before_it_ends():
    push = Push(Media(gop=10))
    assert push.send(4) == []
    assert push.send(3) == ["gop_long"]
    assert push.text("gop_long").startswith("No key frame for ")
    for _ in range(30):
        push.send(1)
        assert push.value("gop_long") == pytest.approx(10, abs=0.1) or push.now < 111
    assert push.text("gop_long") == "Key frame every 10 s: set 2 s in OBS, Output, Keyframe Interval."
    assert push.send(WITHDRAWN + 3, gop=2) == []  # the running GOP ends first


def test_b_frames_are_found_with_webrtc_viewers():
    push = Push(Media(b_frames=True), webrtc=True)
    assert push.send(REPORTED) == ["b_frames"]
    assert push.value("b_frames") == 1
    assert "set B-frames to 0" in push.text("b_frames")
    assert push.send(WITHDRAWN, b_frames=False) == []


def test_open_gops_are_found_and_the_text_names_the_setting():
    push = Push(Media(b_frames=True, open_gops=True))
    assert push.send(REPORTED) == ["open_gop"]
    assert "switch off open GOP" in push.text("open_gop")
    assert push.send(WITHDRAWN, open_gops=False) == []


@pytest.mark.parametrize(("parameters", "codes"), [("", []), ("interlaced=1", ["open_gop"])])
def test_key_frames_without_b_frames_are_an_open_gop_only_if_it_cannot_be_closed(
    parameters: str, codes: list[str]
) -> None:
    push = Push(Media(open_gops=True))
    track = replace(builders.VIDEO, config=config(encoder(parameters, height=64)))
    push.publisher.set_tracks(track, builders.AUDIO, push.metadata)
    assert push.send(30) == codes
    assert push.send(WITHDRAWN, open_gops=False) == []


def test_intra_refresh_is_no_key_frame(monkeypatch):
    monkeypatch.setattr(rig, "I_SLICE", bytes.fromhex("00000003 419a80"))  # slice_type 5: P
    push = Push(Media(open_gops=True))
    assert push.send(30) == ["pictures_unreadable"]
    assert "switch off intra refresh" in push.text("pictures_unreadable")
    assert push.health.measured().gop is None
    assert push.send(WITHDRAWN, open_gops=False) == []
    assert push.send(12, open_gops=True) == ["gop_long"], "viewers can begin only with the last key frame"


def test_a_key_that_expires_soon_is_found_without_an_event():
    push = Push(Media())
    week = 7 * 86_400
    push.stream.channel = builders.channel(key=f"{int(WALL + push.now) + week + 10}-{'0' * 64}")
    assert push.send(8) == []
    assert push.send(4) == ["key_expires"]
    assert push.value("key_expires") == push.stream.channel.expires
    assert push.text("key_expires").startswith("The stream key is refused after 2023-11-")
    push.stream.channel = builders.channel(key=f"{int(WALL) - 10}-{'0' * 64}")
    assert push.send(1) == ["key_expires"], "the push goes on after the date"
    push.stream.channel = builders.channel()
    assert push.send(1) == [] and push.told == []


def test_b_frames_are_no_fault_without_webrtc_viewers():
    push = Push(Media(b_frames=True))
    assert push.send(30) == []
    assert push.health.measured().bFrames is True


def test_a_frame_rate_below_the_metadata_is_found():
    push = Push()
    begins_and_ends(push, "fps_low", fps=20.0)


@pytest.mark.parametrize(("protocol", "codes"), [("ws", []), ("wss", []), ("whip", []), ("srt", ["fps_low"])])
def test_browsers_may_send_fewer_frames_than_they_declare(protocol: str, codes: list[str]) -> None:
    push = Push(Media(fps=5), metadata={"framerate": 30.0}, protocol=protocol)
    assert push.send(20) == codes


def test_the_text_about_missing_frames_has_actual_and_expected_rate():
    push = Push(Media(fps=22))
    push.send(20)
    assert push.text("fps_low") == "22 of 25 frames arrive: the encoder or the uplink is too slow."


def test_without_metadata_the_frame_rate_of_the_parameter_sets_is_expected():
    push = Push(Media(fps=20), metadata={})
    declared = push.health.measured().declaredFps
    assert declared is None  # nothing was measured yet
    push.send(20)
    assert push.health.measured().declaredFps == 30
    assert push.codes == ["fps_low"]


def test_an_unsteady_bitrate_is_found():
    push = Push()
    begins_and_ends(push, "bitrate_unsteady", bitrate=lambda at: 3e6 if at % 4 < 2 else 3e5)


def test_the_value_of_an_unsteady_bitrate_is_the_factor_between_highest_and_lowest():
    push = Push(Media(bitrate=lambda at: 3e6 if at % 4 < 2 else 3e5))
    assert push.send(20) == ["bitrate_unsteady"]
    assert push.value("bitrate_unsteady") == pytest.approx(10, rel=0.1)


def test_a_bitrate_below_the_declared_one_is_steady():
    push = Push(
        Media(bitrate=lambda at: 3e6 if at % 4 < 2 else 3e5), metadata={"framerate": 25.0, "videodatarate": 2500.0}
    )
    assert push.send(40) == []


def test_a_single_bitrate_peak_is_no_fault():
    push = Push(Media(bitrate=lambda at: 8e6 if 20 <= at < 22 else 1e5))
    for _ in range(40):
        assert push.send(1) == []


def test_missing_sound_is_found_with_and_without_an_announced_track():
    push = Push()
    assert push.send(20) == []
    assert push.send(9, sound=b"") == []
    assert push.send(2, sound=b"") == ["audio_missing"]
    assert push.send(19, sound=b"") == ["audio_missing"]
    assert push.text("audio_missing").startswith("No sound for 30 s")
    assert push.send(5, sound=NOISE) == []
    assert Push(Media(sound=b"")).send(11) == ["audio_missing"]


def test_silent_sound_is_found():
    begins_and_ends(Push(), "audio_silent", sound=SILENCE)


def test_a_tone_each_second_is_not_silent():
    push = Push()
    for _ in range(30):
        push.burst(0.1)
        push.media = Media(sound=SILENCE)
        assert push.send(1, speed=0.9) == []
        push.media = Media(sound=NOISE)


def test_missing_video_is_found():
    begins_and_ends(Push(), "video_missing", fps=0.0)


def test_a_push_of_sound_only_without_announced_video_is_no_fault():
    assert Push(Media(fps=0), metadata={}).send(40) == []
    announced = Push(Media(fps=0), metadata={"videocodecid": 7.0})
    assert announced.send(10) == ["video_missing"]


@pytest.mark.parametrize("drift", [0.02, -0.02])
def test_drifting_sound_is_found(drift):
    push = Push()
    begins_and_ends(push, "av_drift", drift=drift)


def test_the_text_about_a_drift_has_its_speed():
    push = Push(Media(drift=0.02))
    push.send(20)
    assert push.text("av_drift").startswith("Sound runs 20 ms a second away from the picture")
    assert push.value("av_drift") == pytest.approx(20, abs=2)


def test_a_slow_drift_is_found_later():
    push = Push(Media(drift=0.005))
    assert push.send(20) == []
    assert push.send(20) == ["av_drift"]


def test_a_single_step_of_the_sound_is_no_drift():
    push = Push()
    push.send(20)
    push._audio_offset += 0.3
    for _ in range(40):
        assert push.send(1) == []


def change_sound(push: Push, change: Callable[[int, AccessUnit], AccessUnit | None]) -> None:
    """Replaces each sound unit of the push, or drops it. change: gets its number and the unit."""
    send, numbers = push.publisher.push, itertools.count()

    def pushed(unit: AccessUnit, now: float) -> None:
        changed = change(next(numbers), unit) if unit.track.kind is Kind.AUDIO else unit
        if changed is not None:
            send(changed, now)

    push.publisher.push = pushed  # type: ignore[method-assign]


@pytest.mark.parametrize(("share", "in_row"), [(0.02, 1), (0.04, 1), (0.04, 7), (0.2, 1)])
def test_lost_sound_is_no_drift(share: float, in_row: int) -> None:
    for seed in range(5):
        push, chance = Push(), random.Random(seed)
        lost = [chance.random() < share for _ in range(4000)]
        change_sound(push, lambda n, unit, lost=lost: None if lost[n // in_row] else unit)
        for _ in range(60):
            assert push.send(1) == []


def test_sound_in_pairs_with_equal_times_is_no_drift():
    push, times = Push(), [0]

    def pair(n: int, unit: AccessUnit) -> AccessUnit:
        times[0] = times[0] if n % 2 else unit.dts
        return replace(unit, dts=times[0])

    change_sound(push, pair)
    for _ in range(40):
        assert push.send(1) == []


@pytest.mark.parametrize("packed", [1, 8])
def test_sound_of_another_rate_than_declared_is_a_drift(packed: int) -> None:
    push, times = Push(), [0]
    track = replace(builders.AUDIO, config=bytes.fromhex("1190"))  # 48 kHz; the frames come at 44.1 kHz
    push.publisher.set_tracks(builders.VIDEO, track, push.metadata)

    def pack(n: int, unit: AccessUnit) -> AccessUnit:
        """Only each first frame of a packet has its own time. The others follow at the declared rate."""
        times[0] = unit.dts if n % packed == 0 else times[0]
        return replace(unit, track=track, dts=times[0] + n % packed * 1024 // 48)

    change_sound(push, pack)
    assert push.send(20) == ["av_drift"]
    assert push.value("av_drift") == pytest.approx(81, abs=5)


def test_a_header_with_half_the_sample_rate_is_found() -> None:
    """No page played it, and health was empty."""
    push = Push()
    track = replace(builders.AUDIO, config=b"\x13\x90")  # 22,050 Hz; its frames have 44,100 Hz
    push.publisher.set_tracks(builders.VIDEO, track, push.metadata)
    change_sound(push, lambda n, unit: replace(unit, track=track))
    assert push.send(20) == ["av_drift"]
    assert push.value("av_drift") == pytest.approx(-1_000, rel=0.2)


def test_timestamps_that_jump_are_found():
    push = Push()
    push.send(20)
    push.jump(5)
    assert push.send(2) == ["timestamps_jump"]
    assert push.value("timestamps_jump") == pytest.approx(5, abs=0.1)
    assert "timestamps_jump" in push.send(7)
    assert push.send(4) == []


def test_a_timestamp_jump_repaired_by_the_intake_is_found():
    push = Push()
    timeline = push.publisher.on_air.timeline
    timeline.stamp(0, 1000)
    push.send(20)
    timeline.stamp(0, 900_000)
    assert push.send(1) == ["timestamps_jump"]
    assert push.value("timestamps_jump") == 899


def test_a_repaired_jump_after_a_pause_leaves_nothing_behind():
    push = Push()
    push.send(30)
    push.wait(5)
    push.publisher.on_air.timeline.rebased += 1  # the intake continues the times without the pause
    for _ in range(20):
        push.send(1)
        if push.now > 138.5:  # the stall itself has ended, and is withdrawn after 2 s
            assert "arrivals_late" not in push.codes
        behind = push.health.measured().behindMs
        assert behind is None or behind == pytest.approx(0, abs=50)


def test_a_publisher_that_pauses_and_continues_does_not_jump():
    push = Push()
    push.send(20)
    push.jump(2)
    push.now += 2
    push.evaluate()
    for _ in range(20):
        assert "timestamps_jump" not in push.send(1)


def test_a_stalled_push_gives_only_the_finding_of_late_arrivals():
    push = Push()
    push.send(20)
    assert push.wait(4) == ["arrivals_late"]
    assert push.text("arrivals_late").startswith("Media fell 4.0 s behind in 10 s: ")
    assert push.wait(20) == ["arrivals_late"]
    assert push.text("arrivals_late").startswith("Nothing has arrived for 24 s: ")
    push.burst(24)
    push.send(WITHDRAWN)
    assert push.codes == []
    assert {code for code, _ in push.told} == {"arrivals_late"}


@pytest.mark.parametrize("speed", [1.8, 40.0])
def test_media_faster_than_real_time_is_found(speed: float):
    begins_and_ends(Push(), "arrivals_early", speed=speed)


def test_a_file_that_is_pushed_at_once_is_found_at_its_first_measurement():
    push = Push()
    assert push.send(2, speed=60.0) == ["arrivals_early"]
    assert push.text("arrivals_early").startswith("In 10 s, 118 s of media too much arrived, and viewers cannot follow")


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_file_that_was_pushed_between_two_measurements_is_reported_once(is_kept: bool):
    push = Push()
    push.evaluate()
    push.now += 0.3
    push.burst(60)
    if is_kept:
        push.publisher.close()
    else:
        push.health._measurement.on_end(EndReason.KICKED)
    assert push.wait(3) == []
    assert push.told == [("arrivals_early", "begun"), ("arrivals_early", "ended")]
    assert push.events[0].data["text"].startswith("In 10 s, 60 s of media too much arrived")
    assert push.events[0].time == pytest.approx(WALL + 100.3, abs=1.1)


def test_a_jump_ahead_is_no_media_that_comes_early():
    push = Push()
    push.send(20)
    push.jump(8)
    for _ in range(20):
        assert "arrivals_early" not in push.send(1)


@pytest.mark.parametrize(
    ("pictures", "sound", "found"),
    [
        (0.0, 0.01, "the pictures stand still and the sound stands still"),
        (0.0, 1.0, "the pictures stand still"),
        (0.0, 0.0, "the pictures stand still"),
        (1.0, 0.01, "the sound stands still"),
        (0.1, 0.1, "the sound is 10 times too slow"),
        (10.0, 10.0, "the sound is 10 times too fast"),
    ],
)
def test_a_clock_that_the_media_contradict_is_found_and_nothing_that_it_explains(
    pictures: float, sound: float, found: str
) -> None:
    push = Push(Media(picture_clock=pictures, sound_clock=sound))
    push.send(12)

    assert push.codes == ["clock_wrong"]
    assert push.text("clock_wrong") == (f"By the timestamps, {found}: correct the clock of the encoder, or restart it.")


@pytest.mark.parametrize(("seconds", "where"), [(8, "ahead of"), (-8, "behind")])
def test_sound_with_the_times_of_other_pictures_is_found(seconds: int, where: str) -> None:
    push = Push()
    push.send(10)  # so that the sound can be behind
    change_sound(push, lambda n, unit: replace(unit, dts=unit.dts + 1_000 * seconds))
    push.send(20)
    assert "clock_wrong" in push.codes
    assert f"the sound is 8 s {where} the pictures that come with it" in push.text("clock_wrong")


@pytest.mark.parametrize("step", [0.2, 1.0])
def test_pictures_with_the_time_of_the_one_before_are_found(step: float) -> None:
    push = Push(Media(picture_step=step))
    push.send(12)
    assert "clock_wrong" in push.codes
    assert push.text("clock_wrong").startswith("By the timestamps, most pictures have the time of the one before:")


@pytest.mark.parametrize(
    "media",
    [
        *(Media(speed=0.1), Media(speed=5.0), Media(fps=240.0), Media(sound_clock=0.5), Media(picture_step=0.1)),
        Media(sound_clock=0.0),  # its samples are its clock
    ],
)
def test_late_and_early_media_and_many_pictures_have_a_right_clock(media: Media) -> None:
    push = Push(media)
    for _ in range(30):
        assert "clock_wrong" not in push.send(1)


def test_sound_that_comes_later_than_other_tracks_has_a_right_clock() -> None:
    """A film without sound, the last one again, and then one with other pictures, whose sound begins a second later."""
    push = Push()
    push.send(30)
    push.send(1, sound=b"")
    push.send(1, sound=NOISE)
    push.burst(0.5)
    push.publisher.set_tracks(replace(builders.VIDEO, config=b"\1other"), builders.AUDIO, {})
    push.now += 1
    push.evaluate()
    for _ in range(10):
        assert "clock_wrong" not in push.send(1), push.text("clock_wrong")


def test_media_slower_than_real_time_is_found():
    push = Push(metadata={})
    push.metadata = {}
    push.send(20)
    assert "arrivals_late" in push.send(REPORTED, speed=0.8)
    push.send(WITHDRAWN, speed=1.0)
    assert "arrivals_late" not in push.codes


def test_a_push_that_is_a_little_too_slow_is_further_behind_all_the_time():
    push = Push()
    push.send(60)
    assert push.health.measured().behindMs == pytest.approx(0, abs=50)
    push.send(100, speed=0.95)
    assert push.health.measured().behindMs == pytest.approx(5000, abs=300)
    push.send(20, speed=1.0)
    assert push.health.measured().behindMs == pytest.approx(5000, abs=300), "the delay stays"


def test_the_delay_of_a_push_begins_anew_with_its_times():
    push = Push()
    push.send(20)
    push.send(20, speed=0.9)
    push.publisher.set_tracks(builders.VIDEO, None, {}, continuous=False)
    assert push.health.measured().behindMs is None
    push.send(2, speed=1.0)
    assert push.health.measured().behindMs == pytest.approx(0, abs=50)


def test_a_busy_gateway_process_causes_no_findings():
    push = Push()
    push.send(20)
    push.now += 30
    push.evaluate()
    assert push.codes == []


def test_a_wall_clock_change_causes_no_findings():
    push = Push()
    push.send(20)
    push.health._clock_offset -= 100  # as if the wall clock had been set forward
    for _ in range(20):
        assert push.send(1) == []


def overview(brightness: int, noise: int = 0) -> bytes:
    chance = random.Random(brightness)
    return bytes(min(255, brightness + chance.randrange(noise + 1)) for _ in range(64 * 36))


def pictures(push: Push, seconds: int, make) -> list[str]:
    for n in range(seconds):
        push.health.add_picture(make(n), 1.7e9 + push.now)
        push.send(1)
    return push.codes


def test_black_and_frozen_pictures_are_found():
    push = Push()
    assert pictures(push, 20, lambda n: overview(60 + n, 40)) == []
    assert pictures(push, REPORTED, lambda n: overview(0, 20)) == ["picture_black"]
    assert pictures(push, 3, lambda n: overview(60 + n, 40)) == []
    assert pictures(push, REPORTED, lambda n: overview(100, 1)) == ["picture_frozen"]
    assert pictures(push, 3, lambda n: overview(60 + n, 40)) == []


def test_a_picture_decoded_by_several_outputs_is_not_frozen():
    push = Push()
    push.send(5)
    for _ in range(12):
        push.health.add_picture(overview(90), 1.7e9 + 103)
        assert push.send(1) == []


def test_findings_end_when_the_publisher_disconnects():
    push = Push(Media(gop=10))
    assert push.send(10) == ["gop_long"]
    push.publisher.close()
    push.evaluate()
    assert push.codes == []
    assert push.health.measured() == Measurements()
    assert push.told == [("gop_long", "begun"), ("gop_long", "ended")]


def test_measurements_restart_for_a_returning_publisher():
    push = Push()
    push.send(20)
    push.publisher.close()
    push.wait(8)
    push.connect()
    for _ in range(30):
        assert push.send(1) == []
    assert push.events == []


def test_measurements_restart_after_a_switch_to_another_input():
    push = Push()
    push.send(20)
    push.stream.input = InputOnAir("van")
    for _ in range(30):
        assert push.send(1) == []
        gap = push.health.measured().longestGapMs
        assert gap is None or 0 <= float(str(gap)) < 1_000
    assert push.events == []


def test_on_the_slate_only_the_lost_input_is_a_fault():
    push = Push()
    assert push.send(20, sound=SILENCE) == ["audio_silent"]
    lost_since = push.now
    push.stream.input = InputOnAir("card", InputKind.SLATE, lost_since)
    assert push.send(30, fps=2.0, gop=10.0) == ["input_lost"]
    assert push.text("input_lost").startswith("The main input has been gone for 30 s; viewers see the slate:")
    assert push.health.measured() == Measurements()
    push.stream.input = InputOnAir("van", InputKind.BACKUP, lost_since)
    assert push.send(4, fps=25.0, gop=2.0, sound=NOISE) == ["input_lost"]
    assert "viewers see the backup “van”" in push.text("input_lost")
    push.stream.input = InputOnAir("van", InputKind.BACKUP)
    assert push.send(4) == []
    codes = [(code, "begun") for code in ("audio_silent", "input_lost")]
    assert push.told == [codes[0], ("audio_silent", "ended"), codes[1], ("input_lost", "ended")]


def test_late_captions_are_found_and_withdrawn_when_the_engine_has_caught_up():
    push = Push()
    assert push.send(10) == []
    push.stream.captions.late = 4.5
    assert push.send(4) == ["captions_late"]
    assert push.value("captions_late") == 4.5
    assert push.text("captions_late").startswith("Speech to text is 4 s late")
    push.stream.captions.late = 1.5
    assert push.send(10) == ["captions_late"]
    push.stream.captions.late = 0.2
    assert push.send(4) == []
    assert push.told == [("captions_late", "begun"), ("captions_late", "ended")]


def test_each_output_that_fails_is_a_fault_with_its_name():
    push, failing = Push(), dict[str, str]()
    push.stream.outputs = cast(OutputSwitch, SimpleNamespace(faults=lambda: dict(failing)))
    target = "relay rtmp://a.rtmp.youtube.com/live2/********"
    assert push.send(20) == []
    failing |= {target: "connection refused", "video": "the disk is full"}
    assert push.send(2) == ["output_failing", "output_failing"]
    assert [f.value for f in push.health.findings] == [target, "video"]
    assert push.text("output_failing") == f"The output {target} fails: connection refused"
    told = [event.masked_data() for event in push.events]
    assert [(data["value"], data["state"]) for data in told] == [(target, "begun"), ("video", "begun")]
    del failing[target]
    push.send(4)
    assert [f.value for f in push.health.findings] == ["video"]
    push.publisher.close()
    push.evaluate()
    assert push.told[2:] == [("output_failing", "ended")] * 2


def test_hevc_is_a_notice_without_an_event():
    push = Push()
    push.publisher.set_tracks(replace(builders.VIDEO, codec=Codec.H265), builders.AUDIO, push.metadata)
    assert push.send(20) == ["hevc"]
    assert (push.health.findings[0].level, push.events) == ("notice", [])


def test_findings_end_with_the_stream():
    push = Push(Media(gop=10))
    push.send(10)
    push.stream.end(EndReason.KICKED)
    assert push.told[-1] == ("gop_long", "ended")


def test_a_failed_measurement_gives_no_more_findings():
    push = Push()
    push.send(5)
    push.health._measurement._check_silence = None  # as if it had a bug
    assert push.send(30) == []
    assert push.health.measured() == Measurements()


def test_a_flapping_fault_is_reported_at_most_once_a_minute():
    push = Push(Media(sound=SILENCE))
    for _ in range(10):
        push.send(9, sound=SILENCE)
        push.send(3, sound=NOISE)
    begun = [event.time for event in push.events if event.data["state"] == "begun"]
    assert len(push.events) <= 2 * math.ceil(120 / EVENT_SECONDS)
    assert all(later - sooner >= EVENT_SECONDS for sooner, later in itertools.pairwise(begun))


def test_all_finding_codes_are_distinct():
    assert len(set(CODES)) == len(CODES)


# ---- media that cannot be used ----


def test_left_out_tracks_replace_the_advice_for_missing_ones():
    push = Push(Media(fps=0.0), metadata={"videocodecid": 4.0})
    push.publisher.unusable.leave_out(Kind.VIDEO, "VP6")
    assert push.send(20) == ["stream_left_out"]
    assert push.text("stream_left_out") == "The encoder sends VP6: choose H.264 or HEVC."
    assert push.value("stream_left_out") == "VP6"
    push.publisher.unusable.leave_out_only({})
    assert "stream_left_out" not in push.send(3)
    assert push.told[0] == ("stream_left_out", "begun") and ("stream_left_out", "ended") in push.told


@pytest.mark.parametrize(
    ("kind", "name", "code", "missing"),
    [(Kind.AUDIO, "DTS", "audio_missing", {"sound": b""}), (Kind.VIDEO, "MPEG-2 video", "video_missing", {"fps": 0.0})],
)
def test_a_track_that_is_left_out_does_not_hide_that_the_good_one_is_missing(
    kind: Kind, name: str, code: str, missing: dict[str, object]
) -> None:
    push = Push()
    push.publisher.unusable.leave_out(kind, name)
    assert push.send(20) == ["stream_left_out"]
    assert push.send(12, **missing) == sorted(["stream_left_out", code], key=CODES.index)


def test_sound_that_is_left_out_explains_why_there_is_none():
    push = Push(Media(sound=b""))
    push.publisher.unusable.leave_out(Kind.AUDIO, "DTS")
    assert push.send(30) == ["stream_left_out"]


@pytest.mark.parametrize(("readable", "codes"), [(0.5, ["pictures_unreadable"]), (0.9, [])])
def test_pictures_with_slices_that_cannot_be_read_are_named(
    monkeypatch: pytest.MonkeyPatch, readable: float, codes: list[str]
) -> None:
    chance = random.Random(2)
    monkeypatch.setattr(measurement, "has_readable_slice", lambda track, payload: chance.random() < readable)
    push = Push()
    assert push.send(12) == codes
    if codes:
        assert "encrypted" in push.text("pictures_unreadable")


def test_a_track_that_is_left_out_is_found_without_media():
    push = Push()
    push.send(5)
    push.publisher.unusable.leave_out(Kind.AUDIO, "DTS")
    assert "stream_left_out" in push.wait(4)


def test_broken_pictures_are_a_fault_after_seconds_and_withdrawn_with_the_next_one():
    push = Push()
    push.send(20)
    for _ in range(10):
        push.publisher.unusable.add_broken(0, "they are encrypted")
    assert push.send(2, fps=0.0) == []
    assert "pictures_unreadable" in push.send(2)
    assert push.text("pictures_unreadable") == "No player can show the pictures: they are encrypted."
    assert "video_missing" not in push.send(10)
    push.publisher.unusable.read[0] += 1
    assert "pictures_unreadable" not in push.send(4, fps=25.0)


def test_pictures_without_any_key_frame_are_a_fault():
    push = Push(Media(gop=1e9))
    push._next_key = 1e9
    assert push.send(8) == []
    assert push.send(4) == ["pictures_unreadable"]
    assert "no key frame came" in push.text("pictures_unreadable")
    push._next_key = 0.0
    assert push.send(4, gop=2.0) == []


def test_a_switch_to_an_input_with_a_long_gop_is_no_missing_key_frame():
    push = Push()
    push.send(20)
    push.stream.input, push._next_key = InputOnAir("van"), 1e9
    for _ in range(14):
        assert "pictures_unreadable" not in push.send(1)


def test_a_change_of_the_sound_within_a_long_gop_is_no_missing_key_frame():
    push = Push(Media(gop=4.0))
    assert push.send(21) == []
    mono = replace(builders.AUDIO, config=bytes.fromhex("1208"))
    push.publisher.set_tracks(builders.VIDEO, mono, push.metadata)
    for _ in range(8):
        assert push.send(1) == []
    push.publisher.set_tracks(builders.VIDEO, builders.AUDIO, push.metadata)
    push._next_key = 1e9
    assert push.send(8) == []
    assert push.send(5) == ["pictures_unreadable"], "no key frame follows"


def test_the_time_for_which_sound_waited_for_pictures_counts():
    """Their tracks are announced after ten seconds. The owner read for twenty that nothing is wrong."""
    push = Push(Media(fps=0))
    push.publisher.unusable.explain = lambda: "no key frame with its parameter sets came"
    push.now += 10
    assert push.send(4) == ["pictures_unreadable"]
    push.publisher.unusable.read[0] = 1
    assert push.send(4) == []


def test_a_reason_of_the_intake_counts_while_no_picture_comes():
    push = Push(Media(fps=0.0))
    push.publisher.unusable.explain = lambda: "no key frame with its parameter sets came"
    assert push.send(7) == []
    assert push.send(5) == ["pictures_unreadable"]
    assert push.text("pictures_unreadable").endswith("no key frame with its parameter sets came.")


@pytest.mark.parametrize(("protocol", "is_found"), [("srt", True), ("rtsp", True), ("rtmp", False)])
def test_damaged_units_of_lossy_protocols_are_counted_for_ten_seconds(protocol: str, is_found: bool):
    push = Push(protocol=protocol)
    dropped = push.publisher.on_air.dropped
    dropped["ingest"] = 40  # in a first second that was not measured
    assert push.send(12) == []
    dropped["ingest"] += 2
    assert push.send(12) == []
    dropped["ingest"] += 3
    assert push.send(2) == (["media_damaged"] if is_found else [])
    if is_found:
        assert push.text("media_damaged").startswith("In 10 s, 3 of the pictures and pieces of sound came damaged")
    assert push.send(7) == (["media_damaged"] if is_found else [])
    assert push.send(6) == []


def test_pictures_of_ten_bits_are_a_fault(monkeypatch):
    monkeypatch.setattr(measurement, "unusual_pixels", lambda track: "4:2:2 and 10 bits")
    push = Push()
    assert push.send(5) == ["pixel_format"]
    assert push.text("pixel_format").startswith("The pictures have 4:2:2 and 10 bits, which most browsers")


def test_the_longest_pause_at_the_beginning_is_no_date():
    push = Push()
    for _ in range(15):
        push.send(1)
        gap = push.health.measured().longestGapMs
        assert gap is None or float(str(gap)) < 1_000


def test_a_camera_that_pauses_has_no_long_gop():
    push = Push()
    assert push.send(20) == []
    for _ in range(3):
        assert "gop_long" not in push.send(12, fps=0.0)
        push._next_frame = push._at  # the camera sends again, from now on
        assert "gop_long" not in push.send(5, fps=25.0)
