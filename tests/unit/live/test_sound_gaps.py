"""Silence is published while an encoder's sound pauses, and real sound is never replaced."""

from itertools import pairwise

import pytest

from gateway.live.sound_gaps import LATE_MS, SoundGaps
from gateway.media.silence import is_silent
from gateway.media.track import AccessUnit, Codec, Kind, MadeSilence, MediaTrack
from tests.support.builders import AVCC

VIDEO = MediaTrack(Kind.VIDEO, Codec.H264, 1000, AVCC)
AAC = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x11\x90")  # 48 kHz, stereo
OPUS = MediaTrack(Kind.AUDIO, Codec.OPUS, 1000, b"")
FRAME_MS = 1024_000 / 48_000


class Push:
    """A push with 25 pictures a second, whose sound arrives `late` milliseconds behind its time.

    early: how much too small the times of its frames are, in turn, milliseconds.
    """

    def __init__(
        self, audio: MediaTrack = AAC, late: int = 0, payload: bytes = b"real", early: tuple[float, ...] = (0.0,)
    ) -> None:
        self.seen: list[AccessUnit] = []
        self.gaps = SoundGaps("c1", lambda unit, now: self.seen.append(unit))
        self.gaps.set_tracks(VIDEO, audio)
        self.audio, self.late, self.payload = audio, late, payload
        self.early, self.sent = early, 0  # sent: frames of sound
        self.sound = 0.0
        self.at = 0
        self.now, self.speed = 0.0, 1.0  # monotonic seconds; of the push, in times of real time

    def play(self, ms: int, *, sound: bool = True) -> None:
        """Sends pictures for a time, and the sound that is due."""
        for _ in range(ms // 40):
            now = self.now = self.now + 0.04 / self.speed
            self.gaps.push(AccessUnit(VIDEO, self.at, 0, True, 0.0, b"p"), now)
            while self.sound <= self.at - self.late:
                if sound:
                    dts = round(self.sound - self.early[self.sent % len(self.early)])
                    self.sent += 1
                    self.gaps.push(AccessUnit(self.audio, dts, 0, True, 0.0, self.payload), now)
                self.sound += FRAME_MS
            self.at += 40

    def of(self, kind: type) -> list[AccessUnit]:
        return [unit for unit in self.seen if type(unit) is kind and unit.track.kind is Kind.AUDIO]

    def times(self) -> list[int]:
        return [unit.dts for unit in self.seen if unit.track.kind is Kind.AUDIO]


@pytest.mark.parametrize("late", [0, 100, 900])
def test_a_pause_of_the_sound_has_no_hole(late: int) -> None:
    push = Push(late=late)
    push.play(12_000)
    push.play(10_000, sound=False)
    push.play(8_000)
    steps = [b - a for a, b in pairwise(push.times())]
    assert max(steps) <= 2 * FRAME_MS + 1 and min(steps) > 0
    real = push.of(AccessUnit)
    assert len(real) >= 20_000 / FRAME_MS - late / FRAME_MS - 2, "each real frame is published"
    assert 9_000 / FRAME_MS < len(push.of(MadeSilence)) < 10_100 / FRAME_MS
    assert all(is_silent(unit.track, unit.payload) for unit in push.of(MadeSilence))


@pytest.mark.parametrize("late", [0, 500, 1_200])
def test_sound_that_is_always_as_late_is_never_replaced(late: int) -> None:
    push = Push(late=late)
    push.play(60_000)
    assert push.of(MadeSilence) == []


def test_silence_begins_when_sound_is_later_than_usual() -> None:
    push = Push(late=100)
    push.play(12_000)
    before = push.times()[-1]
    push.play(LATE_MS - 40, sound=False)
    assert not push.of(MadeSilence)
    push.play(400, sound=False)
    made = push.of(MadeSilence)
    assert 0 < made[0].dts - before <= FRAME_MS + 1
    assert push.at - made[-1].dts <= 100 + 2 * 40 + 2 * FRAME_MS, "as late as the sound usually is"


def test_sound_that_never_begins_is_silence() -> None:
    push = Push()
    push.play(5_000, sound=False)
    assert push.of(MadeSilence)[0].dts == 0
    assert push.at - push.times()[-1] < 1_400


def test_sound_that_comes_when_its_time_has_passed_is_dropped() -> None:
    push = Push()
    push.play(12_000)
    began = push.sound
    push.play(2_000, sound=False)
    push.sound = began
    push.play(3_000)
    assert all(b > a for a, b in pairwise(push.times()))


@pytest.mark.parametrize("early", [(0.0, FRAME_MS), (0.0, 20.0, 5.0, 15.0)])
def test_each_frame_with_inexact_times_is_published_after_a_pause(early: tuple[float, ...]) -> None:
    """Some apps stamp sound when it comes: two frames have one time, or each is some milliseconds early."""
    push = Push(early=early)
    push.play(4_000)
    push.play(2_000, sound=False)
    assert push.of(MadeSilence)
    before = len(push.of(AccessUnit))
    push.play(10_000)
    assert len(push.of(AccessUnit)) - before == push.sent - before


def test_sound_that_goes_on_seconds_late_is_published_again() -> None:
    push = Push()
    push.play(4_000)
    began = push.sound
    push.play(4_000, sound=False)
    push.sound, push.late = began, 4_000  # its clock counts samples
    push.play(10_000)
    assert all(b > a for a, b in pairwise(push.times()))
    assert push.of(AccessUnit)[-1].dts > push.at - push.late - 40 - 2 * FRAME_MS
    made = len(push.of(MadeSilence))
    push.play(10_000)
    assert len(push.of(MadeSilence)) == made


def test_a_hole_in_both_tracks_is_not_filled() -> None:
    push = Push()
    push.play(12_000)
    push.at += 5_000
    push.sound += 5_000
    push.play(5_000)
    push.at += 1_000
    push.sound += 1_000
    push.play(5_000)
    assert push.of(MadeSilence) == []


def test_a_jump_of_the_pictures_is_not_filled() -> None:
    push = Push()
    push.play(12_000)
    push.at += 3_600_000
    push.play(200, sound=False)
    assert push.of(MadeSilence) == []


def test_pictures_or_sound_alone_get_nothing() -> None:
    for tracks in ((VIDEO, None), (None, AAC)):
        push = Push()
        push.gaps.set_tracks(*tracks)
        push.play(10_000, sound=False)
        assert push.of(MadeSilence) == []


def test_sound_without_a_known_silent_frame_is_left_as_it_is() -> None:
    push = Push(MediaTrack(Kind.AUDIO, Codec.AC3, 1000, b""))
    push.play(5_000)
    push.play(5_000, sound=False)
    assert push.of(MadeSilence) == []


def test_a_converter_may_start_slowly_in_a_burst() -> None:
    push = Push(late=3_000)
    push.now, push.speed = 1_000.0, 20
    push.play(8_000)
    assert push.of(MadeSilence) == []
    push = Push()
    push.now = 1_000.0
    push.play(1_600, sound=False)
    assert push.of(MadeSilence), "in real time, sound that does not begin is silence as soon as before"


def test_sound_whose_converter_is_slower_than_a_burst_is_not_replaced() -> None:
    push = Push()
    push.play(4_000)
    push.speed, push.late = 20, 3_000  # the converter is behind, and still gives sound
    push.play(4_000)
    assert push.of(MadeSilence) == []


def test_mp3_gets_silence_like_its_own_frames() -> None:
    push = Push(MediaTrack(Kind.AUDIO, Codec.MP3, 1000, b""), payload=b"\xff\xfb\x90\x64" + bytes(413))
    push.play(5_000)
    push.play(2_000, sound=False)
    made = push.of(MadeSilence)
    assert len(made[0].payload) == 417
    assert {b.dts - a.dts for a, b in pairwise(made)} == {26, 27}


def test_ac3_gets_silence_like_its_own_frames() -> None:
    # 48 kHz, 192 kbit/s, stereo, of which only the header is read
    push = Push(MediaTrack(Kind.AUDIO, Codec.AC3, 1000, b""), payload=bytes.fromhex("0b77a1b81440432a") + bytes(760))
    push.play(5_000)
    push.play(2_000, sound=False)
    made = push.of(MadeSilence)
    assert made[0].payload[4:7] == push.payload[4:7] and len(made[0].payload) == 768
    assert {b.dts - a.dts for a, b in pairwise(made)} == {32}


def test_eac3_gets_silence_like_its_own_frames() -> None:
    # 48 kHz, stereo, syncframes of 512 bytes, of which only the header is read
    push = Push(MediaTrack(Kind.AUDIO, Codec.EAC3, 1000, b""), payload=bytes.fromhex("0b7700ff3486c000") + bytes(504))
    push.play(5_000)
    push.play(2_000, sound=False)
    made = push.of(MadeSilence)
    assert made[0].payload[:6] == push.payload[:6] and len(made[0].payload) == 512
    assert {b.dts - a.dts for a, b in pairwise(made)} == {32}


def test_flac_has_its_own_silence() -> None:
    info = "1000100000000e0010" + "000bb800f0000000000000" + 16 * "00"  # blocks of 4,096 samples, 48 kHz
    push = Push(MediaTrack(Kind.AUDIO, Codec.FLAC, 1000, bytes.fromhex(info[:68])))
    push.play(12_000)
    push.play(2_000, sound=False)
    made = push.of(MadeSilence)
    assert made[0].payload[:2] == b"\xff\xf8" and made[1].dts - made[0].dts in (85, 86)


def test_opus_has_its_own_silence() -> None:
    push = Push(OPUS)
    push.play(12_000)
    push.play(2_000, sound=False)
    assert push.of(MadeSilence)[0].payload == b"\xfc\xff\xfe"


def test_silence_is_bounded_by_the_time_in_which_its_pictures_come() -> None:
    """Pictures that are 2 s apart each would be 94 frames of silence, in one read of the socket."""
    push = Push()
    push.play(2_000)
    push.play(2_000, sound=False)
    before = push.gaps.made
    for _ in range(600):
        push.at += 2_000
        push.gaps.push(AccessUnit(VIDEO, push.at, 0, True, 0.0, b"p"), push.now)
    assert push.gaps.made - before <= 30_000 / FRAME_MS
    assert sum(unit.track is VIDEO for unit in push.seen) == 100 + 600, "all pictures are published"
    before = push.gaps.made
    push.now += 15
    push.play(10_000, sound=False)
    assert push.gaps.made - before >= 9_000 / FRAME_MS, "later silence is published again"


@pytest.mark.parametrize("speed", [1, 1.9])
def test_long_silence_has_no_hole(speed: float) -> None:
    push = Push()
    push.play(2_000)
    push.speed = speed
    push.play(600_000, sound=False)
    assert max(b - a for a, b in pairwise(push.times())) <= FRAME_MS + 1
