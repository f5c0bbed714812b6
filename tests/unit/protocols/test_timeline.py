"""RtpTimeline: tracks by arrival first, by sender reports later."""

import pytest

from gateway.protocols.rtp.rtcp import SenderReport
from gateway.protocols.rtp.timeline import RtpTimeline

VIDEO, SOUND = 0, 1


def report(seconds: float, timestamp: int) -> SenderReport:
    return SenderReport(1, int(seconds * (1 << 32)), timestamp & 0xFFFFFFFF, 0, 0)


def begun() -> RtpTimeline:
    """Both tracks begin at 1,000 ms, with picture 900,000 and sample 48,000."""
    timeline = RtpTimeline((90_000, 48_000))
    assert timeline.stamp(VIDEO, 900_000, 90 * 1_000) == 90 * 1_000
    assert timeline.stamp(SOUND, 48_000, 90 * 1_000) == 90 * 1_000
    return timeline


def test_before_reports_the_first_frame_has_the_time_of_its_arrival() -> None:
    timeline = begun()
    assert timeline.stamp(VIDEO, 903_000, 90 * 1_090) == 93_000
    timeline.report(VIDEO, report(50.0, 900_000))
    assert timeline.stamp(VIDEO, 906_000, 90 * 1_090) == 96_000


@pytest.mark.parametrize(
    ("offset", "video", "sound"), [(0.15, 2_000, 2_150), (-0.15, 2_150, 2_000), (0.015, 2_000, 2_000)]
)
def test_the_track_that_is_too_early_moves_forward(offset: float, video: int, sound: int) -> None:
    """The sound that came with the first picture was captured `offset` seconds after it."""
    timeline = begun()
    timeline.report(VIDEO, report(50.0, 900_000))
    timeline.report(SOUND, report(50.0 + offset, 48_000))
    assert timeline.stamp(VIDEO, 990_000, 90 * 2_000) == 90 * video
    assert timeline.stamp(SOUND, 96_000, 90 * 2_000) == 90 * sound
    timeline.report(SOUND, report(51.0 + offset, 96_000))
    assert timeline.stamp(SOUND, 96_000, 90 * 2_000) == 90 * sound


@pytest.mark.parametrize("wrong", [report(5_000.0, 48_000), SenderReport(1, 0, 48_000, 0, 0)])
def test_implausible_reports_change_nothing(wrong: SenderReport) -> None:
    timeline = begun()
    timeline.report(VIDEO, report(50.0, 900_000))
    timeline.report(SOUND, wrong)
    assert timeline.stamp(SOUND, 96_000, 90 * 2_000) == 90 * 2_000


def test_reports_before_the_first_frame_are_used_with_the_next_report() -> None:
    timeline = RtpTimeline((90_000, 48_000))
    timeline.report(VIDEO, report(50.0, 900_000))
    timeline.report(SOUND, report(50.5, 48_000))
    assert timeline.stamp(VIDEO, 900_000, 90 * 1_000) == 90 * 1_000
    assert timeline.stamp(SOUND, 48_000, 90 * 1_000) == 90 * 1_000
    timeline.report(VIDEO, report(51.0, 990_000))
    assert timeline.stamp(SOUND, 96_000, 90 * 2_000) == 90 * 2_500


def test_timestamps_that_wrap_or_jump_stay_near_their_arrival() -> None:
    timeline = RtpTimeline((90_000,))
    assert timeline.stamp(VIDEO, 0xFFFFFFFF, 90 * 5_000) == 90 * 5_000
    assert timeline.stamp(VIDEO, 89_999, 90 * 6_000) == 90 * 6_000
    assert timeline.stamp(VIDEO, 2_000_000_000, 90 * 7_000) == 90 * 7_000
    assert timeline.stamp(VIDEO, 2_000_090_000, 90 * 8_000) == 90 * 8_000
    timeline.report(VIDEO, report(50.0, 2_000_090_000))
    assert timeline.stamp(VIDEO, 2_000_180_000, 90 * 9_000) == 90 * 9_000


def test_reports_whose_timestamps_do_not_follow_their_clock_change_nothing() -> None:
    """GStreamer 1.22: the timestamp in its reports advances by two seconds a second, that of its packets by one."""
    timeline = begun()
    for second in range(30):
        timeline.report(VIDEO, report(50.0 + second, 900_000 + second * 180_000))
        timeline.report(SOUND, report(50.0 + second + 0.002, 48_000 + second * 96_000))
        arrival = 1_000 * (second + 2)
        assert timeline.stamp(VIDEO, 990_000 + second * 90_000, 90 * arrival) == 90 * arrival
        assert timeline.stamp(SOUND, 96_000 + second * 48_000, 90 * arrival) == 90 * arrival


def test_a_sender_may_change_its_clock() -> None:
    timeline = begun()
    timeline.report(VIDEO, report(50.0, 900_000))
    timeline.report(SOUND, report(50.0, 48_000))
    timeline.report(VIDEO, report(54.0, 990_000))  # the clock is three seconds ahead of the last one
    assert timeline.stamp(SOUND, 96_000, 90 * 2_000) == 90 * 2_000
    timeline.report(SOUND, report(54.2, 96_000))  # the sound was captured 200 ms after the pictures
    timeline.report(VIDEO, report(55.0, 1_080_000))
    timeline.report(SOUND, report(55.2, 144_000))
    assert timeline.stamp(VIDEO, 1_080_000, 90 * 3_000) == 90 * 3_000
    assert timeline.stamp(SOUND, 144_000, 90 * 3_000) == 90 * 3_200


def play(timeline: RtpTimeline, begin: int, end: int, *, sound: int | None = 0, delay: int = 0) -> list[int]:
    """Sends both tracks of `begun` in real time, in milliseconds. Returns the times of the sound, each less its own.

    sound: by how much its timestamps are too early; None: it pauses. delay: of all packets.
    """
    found = []
    for now in range(begin, end, 20):
        timeline.stamp(VIDEO, 900_000 + 90 * (now - 1_000), 90 * (now + delay))
        if sound is not None:
            at = timeline.stamp(SOUND, 48_000 + 48 * (now - sound - 1_000), 90 * (now + delay))
            found.append(at // 90 - now)
    return found


def test_sound_whose_timestamps_stand_still_in_a_pause_goes_on_at_its_arrival() -> None:
    """Chromium 156 stamps sound so, when a page takes the microphone away and gives it back (`replaceTrack`)."""
    timeline = begun()
    assert set(play(timeline, 1_020, 3_000)) == {0}
    timeline.report(VIDEO, report(50.0, 900_000 + 90 * 2_000))
    timeline.report(SOUND, report(50.0, 48_000 + 48 * 2_000))
    play(timeline, 3_000, 6_000, sound=None)
    late = play(timeline, 6_000, 8_000, sound=3_000)
    assert set(late) == {-3_000, 0} and late.index(0) <= 11, "within 0.2 s"
    timeline.report(VIDEO, report(55.0, 900_000 + 90 * 7_000))
    assert set(play(timeline, 8_000, 9_000, sound=3_000)) == {0}, "the reports of the time before count no more"


def test_delayed_packets_and_sound_that_counts_its_pause_are_no_pause() -> None:
    timeline = begun()
    play(timeline, 1_020, 3_000)
    play(timeline, 3_000, 5_000, sound=None)
    assert set(play(timeline, 5_000, 6_000)) == {0}
    assert set(play(timeline, 6_000, 9_000, delay=1_500)) == {0}, "the network holds all packets back"
    for now in range(9_000, 12_000, 20):  # it holds the sound back, which then comes at once
        timeline.stamp(VIDEO, 900_000 + 90 * (now - 1_000), 90 * now)
    for number, now in enumerate(range(9_000, 12_000, 20)):
        assert timeline.stamp(SOUND, 48_000 + 48 * (now - 1_000), 90 * (12_000 + number)) == 90 * now
