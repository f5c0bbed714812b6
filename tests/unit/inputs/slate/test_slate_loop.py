"""A loop repeats by the clock: without drift, without gaps, and with sound that stays with its picture."""

import asyncio
import itertools
from dataclasses import replace
from fractions import Fraction

import pytest

from gateway.inputs.slate.slate_loop import LoopPlayback, LoopTimer, SlateLoop, with_silence
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.workers.stream_form import DEFAULT_AUDIO
from tests.support.clock import Clock

VIDEO = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"video")
AUDIO = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x11\x90")
FRAME = Fraction(1024, 48_000)


def loop(pictures: int = 60, sounds: int = 1, rate: Fraction = Fraction(30), name: str = "p") -> SlateLoop:
    return SlateLoop(
        VIDEO,
        tuple(f"{name}{n}".encode() for n in range(pictures)),
        60,
        rate,
        AUDIO,
        tuple(f"s{n}".encode() for n in range(sounds)),
        FRAME,
    )


class Target:
    def __init__(self) -> None:
        self.units: list[AccessUnit] = []
        self.announced: list[SlateLoop] = []

    def push(self, unit: AccessUnit, now: float) -> None:
        self.units.append(unit)

    def of(self, kind: Kind) -> list[AccessUnit]:
        return [unit for unit in self.units if unit.track.kind is kind]


def run(playback: LoopPlayback, seconds: float, begin: float = 1000.0, step: float = 0.02) -> float:
    """Calls a playback as the timer does. Returns the time after it."""
    for n in range(round(seconds / step) + 1):
        playback.push_due(begin + n * step)
    return begin + seconds


@pytest.mark.parametrize("rate", [Fraction(30), Fraction(30_000, 1001), Fraction(25), Fraction(60)])
async def test_pictures_and_sound_never_drift(rate: Fraction) -> None:
    target = Target()
    playback = LoopPlayback(loop(rate=rate), target.push, target.announced.append)
    playback.push_due(0.0)
    assert [(u.track, u.dts, u.key) for u in target.units] == [(VIDEO, 0, True), (AUDIO, 0, True)]
    run(playback, 600, 0.0)
    pictures, sounds = target.of(Kind.VIDEO), target.of(Kind.AUDIO)
    assert [u.dts for u in pictures] == [n * 1000 // rate for n in range(len(pictures))]
    assert [u.dts for u in sounds] == [n * 1000 * FRAME.numerator // FRAME.denominator for n in range(len(sounds))]
    assert pictures[-1].dts >= 599_950
    assert sounds[-1].dts >= 599_950
    assert [u.payload for u in pictures[58:62]] == [b"p58", b"p59", b"p0", b"p1"]
    assert [u.key for u in pictures[:121]] == [n % 60 == 0 for n in range(121)]
    assert all(a.dts <= b.dts for a, b in zip(target.units, target.units[1:], strict=False))
    assert target.announced == [playback.loop]


async def test_the_sound_of_a_film_repeats_with_its_pictures() -> None:
    # 2.5 s are 117.19 frames of sound: no whole number of frames fits a repetition.
    target = Target()
    playback = LoopPlayback(loop(75, 117), target.push, target.announced.append)
    run(playback, 500)
    begins = [u.dts for u in target.of(Kind.VIDEO) if u.payload == b"p0"]
    assert len(begins) == 200 + 1
    for unit in target.of(Kind.AUDIO):
        index = int(unit.payload[1:])
        begin = max(b for b in begins if b <= unit.dts + 12)
        assert abs(unit.dts - begin - index * 1000 * float(FRAME)) < 12 or index == 116


async def test_another_loop_begins_at_a_key_frame() -> None:
    target = Target()
    first, second = loop(120, name="a"), loop(60, name="b")
    playback = LoopPlayback(first, target.push, target.announced.append)
    now = run(playback, 1)
    playback.change(second)
    run(playback, 3, now)
    payloads = [u.payload for u in target.of(Kind.VIDEO)]
    assert payloads[59:61] == [b"a59", b"b0"], "at the next GOP, not at the end of the loop"
    assert playback.loop is second
    assert target.announced == [first], "equal tracks are not announced"
    assert [u.dts for u in target.of(Kind.VIDEO)] == [n * 1000 // 30 for n in range(len(payloads))]


async def test_a_loop_with_another_rate_and_other_tracks_continues_the_time() -> None:
    target = Target()
    first = loop(60)
    other = SlateLoop(MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"new"), (b"n",) * 50, 50, Fraction(25), None, (), FRAME)
    playback = LoopPlayback(first, target.push, target.announced.append)
    playback.change(other)
    run(playback, 4)
    assert target.announced == [first, other]
    new = [u for u in target.units if u.track == other.video]
    assert [u.dts for u in new[:3]] == [0, 40, 80]
    playback.change(first)
    run(playback, 4, 1004.0)
    times = [u.dts for u in target.of(Kind.VIDEO)]
    assert all(0 < b - a <= 41 for a, b in itertools.pairwise(times))
    sounds = [u.dts for u in target.of(Kind.AUDIO)]
    assert max(sounds) > 7_000


async def test_a_short_stall_is_caught_up_without_a_burst_and_a_long_one_is_left_out() -> None:
    target = Target()
    playback = LoopPlayback(loop(), target.push, target.announced.append)
    playback.push_due(0.0)
    before = len(target.of(Kind.VIDEO))
    playback.push_due(1.0)
    assert len(target.of(Kind.VIDEO)) - before <= 4
    run(playback, 1, 1.02)
    assert target.of(Kind.VIDEO)[-1].dts == 2000
    count = len(target.units)
    playback.push_due(3_600.0)
    assert 0 < len(target.units) - count <= 16
    run(playback, 1, 3_600.02)
    assert target.of(Kind.VIDEO)[-1].dts <= 3_100
    assert all(a.dts <= b.dts for a, b in zip(target.units, target.units[1:], strict=False))


async def test_a_slate_of_an_audio_channel_is_silence() -> None:
    target = Target()
    silence = SlateLoop(None, (), 60, Fraction(30), AUDIO, (b"s",), FRAME)
    run(LoopPlayback(silence, target.push, target.announced.append), 10)
    assert len(target.units) == 10 * 48_000 // 1024 + 1
    assert {u.payload for u in target.units} == {b"s"}


async def test_one_timer_serves_all_slates_and_stops_with_the_last() -> None:
    timer, targets = LoopTimer(), [Target(), Target()]
    playbacks = [LoopPlayback(loop(), target.push, target.announced.append) for target in targets]
    for playback in playbacks:
        timer.add(playback)
    assert all(target.units[0].key for target in targets), "the first key frame comes at once"
    while any(len(target.of(Kind.VIDEO)) < 3 for target in targets):
        await asyncio.sleep(0)
    timer.remove(playbacks[0])
    counts = [len(target.units) for target in targets]
    while len(targets[1].units) < counts[1] + 3:
        await asyncio.sleep(0)
    assert len(targets[0].units) == counts[0]
    timer.remove(playbacks[1])
    while timer._handle is not None:
        await asyncio.sleep(0)


async def test_an_error_ends_its_own_slate_only() -> None:
    class Broken(Target):
        def push(self, unit: AccessUnit, now: float) -> None:
            raise RuntimeError("closed")

    clock = Clock()
    timer, broken, target = LoopTimer(clock), Broken(), Target()
    failing = LoopPlayback(loop(), broken.push, broken.announced.append)
    timer.add(failing)
    timer.add(LoopPlayback(loop(), target.push, target.announced.append))
    with pytest.raises(RuntimeError, match="closed"):
        await failing.failed
    clock.now += 0.1
    while len(target.units) < 5:
        await asyncio.sleep(0)


def test_silence_is_in_the_format_of_the_sound_on_air() -> None:
    frame = b"\xff\xfb\x90\x64" + 413 * b"s"
    mp3 = MediaTrack(Kind.AUDIO, Codec.MP3, 1000, b"")
    mute = SlateLoop(None, (), 60, Fraction(30), mp3, (), FRAME)
    silent = with_silence(mute, frame)
    assert (silent.audio, silent.sound_seconds) == (mp3, Fraction(1152, 44_100))
    assert silent.sounds == (frame[:4] + bytes(413),)
    assert with_silence(mute).audio == DEFAULT_AUDIO, "nothing is known of its frames"
    own = replace(mute, sounds=(b"film",))
    assert with_silence(own, frame) is own
