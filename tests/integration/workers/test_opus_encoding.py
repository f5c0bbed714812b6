"""Opus for browsers: the sound of the source, with its times, in packets of one size; and Opus of browsers as AAC."""

from __future__ import annotations

import array
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import av
import pytest

from gateway.media import opus
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.workers.programs.audio_codec import AudioDecoder, AudioResampler, SampleForm, SoundConverter
from gateway.workers.sound_protocol import SoundSetup, aac_track, opus_track
from tests.support.pushing import OPUS
from tests.support.sources import AAC, Source, source, tone

RATE = 48_000
TO_OPUS, TO_AAC = SoundSetup(Codec.OPUS), SoundSetup()
# 50 ms of 1 kHz at each second.
BEEPS = ("-f", "lavfi", "-i", "aevalsrc='if(lt(mod(t,1),0.05),sin(2*PI*1000*t)/2,0)':s={}")
CODERS = {
    "AAC": (44_100, AAC, "mp4"),
    "AAC mono": (44_100, ("-c:a", "aac", "-ac", "1"), "mp4"),
    "AAC 5.1": (48_000, ("-c:a", "aac", "-ac", "6"), "mp4"),
    "MP3": (44_100, ("-c:a", "libmp3lame"), "matroska"),
    "AC-3": (48_000, ("-c:a", "ac3"), "matroska"),
    "FLAC": (44_100, ("-c:a", "flac"), "matroska"),
}


def beeps(seconds: int, rate: int, *coder: str, container: str = "mp4") -> Source:
    return source(*(word.format(rate) for word in BEEPS), "-t", str(seconds), *coder, container=container)


def converted(units: Iterable[AccessUnit], track: MediaTrack, setup: SoundSetup = TO_OPUS) -> list[AccessUnit]:
    converter = SoundConverter.of_setup(setup, track)
    return [made for unit in units for made in converter.convert(unit)] + converter.flush()


def onsets(units: list[AccessUnit]) -> list[float]:
    """Returns the seconds at which sound begins after silence, by the times of the units."""
    decoder = AudioDecoder(units[0].track, 1)
    found: list[float] = []
    last_loud = -RATE
    for unit in units:
        for samples in decoder.decode(unit):
            values = array.array("f", bytes(samples.frame.planes[0])[: samples.frame.samples * 4])
            for n in range(samples.start, samples.start + len(values), 4):
                if abs(values[n - samples.start]) > 0.15:
                    if n - last_loud > RATE // 4:
                        found.append(n / RATE)
                    last_loud = n
    return found


@pytest.mark.parametrize("name", list(CODERS))
def test_each_codec_becomes_opus_with_the_times_of_its_source(name: str) -> None:
    rate, coder, container = CODERS[name]
    film = beeps(6, rate, *coder, container=container)
    assert film.tracks.audio is not None
    made = converted(film.units, film.tracks.audio)
    mono = name in ("AAC mono", "FLAC")  # MP3 and AC-3 have their channels only in their frames
    assert {len(unit.payload) for unit in made} == {160 if mono else 240}  # 64 and 96 kbit/s, 20 ms
    assert {unit.track for unit in made} == {opus_track(1 if mono else 2)}
    assert {opus.packet_samples(unit.payload) for unit in made} == {960}
    assert {b.dts - a.dts for a, b in pairwise(made)} == {960}
    # Without the first one: of a source that begins at 0, the first unit would have a time below 0.
    before, after = onsets(list(film.units))[-5:], onsets(made)[-5:]
    assert after == pytest.approx(before, abs=0.005)


def test_the_tone_of_the_source_is_kept() -> None:
    film = source(*tone(44_100), "-t", "3", *AAC)
    assert film.tracks.audio is not None
    made = converted(film.units, film.tracks.audio)
    decoder = AudioDecoder(made[0].track, 1)
    values = array.array("f")
    for unit in made:
        for samples in decoder.decode(unit):
            values.frombytes(bytes(samples.frame.planes[0])[: samples.frame.samples * 4])
    middle = values[RATE // 2 : RATE // 2 + 2 * RATE]
    crossings = sum(a < 0 <= b for a, b in pairwise(middle))
    assert crossings / 2 == pytest.approx(440, abs=1)
    assert max(middle) == pytest.approx(0.125, abs=0.03)  # ffmpeg's tone


def silence(samples: int, rate: int) -> av.AudioFrame:
    frame = av.AudioFrame("fltp", "mono", samples)
    frame.sample_rate = rate
    frame.planes[0].update(bytes(frame.planes[0].buffer_size))
    return frame


@pytest.mark.parametrize(
    ("per_million", "seconds", "step"),
    [(0, 7_200, 1.0), (1_000, 600, 0.1), (-1_000, 600, 0.1)],
    ids=["two hours", "times run away", "times fall back"],
)
def test_times_do_not_drift_from_the_source(per_million: int, seconds: int, step: float) -> None:
    """The source has 44.1 kHz and times in milliseconds."""
    resampler, frame = (
        AudioResampler(1000, 1, SampleForm(format="flt", fills=True)),
        silence(round(44_100 * step), 44_100),
    )
    at, end = 0, 0
    for n in range(round(seconds / step)):
        at = round(n * step * (1_000 + per_million / 1_000))
        for samples in resampler.push(frame, at, 0.0):
            assert samples.start == end, "no gap and no overlap"
            end = samples.start + samples.frame.samples
    # What the clock allows, 40 ms or one and a half frames of early times, and a whole frame.
    tolerance = max(0.04, 1.5 * step) + step if per_million else 0.001
    assert end / RATE == pytest.approx(at / 1000 + step, abs=tolerance)


def test_a_fast_clock_drops_samples_and_keeps_the_time() -> None:
    film = beeps(10, 48_000, *AAC)
    assert film.tracks.audio is not None
    late = [replace(unit, dts=unit.dts * 98 // 100) for unit in film.units]
    made = converted(late, film.tracks.audio)
    assert made[-1].dts / RATE == pytest.approx(late[-1].dts / 1000, abs=0.1)
    assert onsets(made)[-1] == pytest.approx(onsets(list(film.units))[-1] * 0.98, abs=0.1)


def test_a_short_gap_becomes_silence_and_a_long_one_is_kept() -> None:
    film = beeps(6, 48_000, *AAC)
    assert film.tracks.audio is not None
    units = [
        replace(u, dts=u.dts + (500 if u.dts >= 2_500 else 0) + (5_000 if u.dts >= 4_500 else 0)) for u in film.units
    ]
    made = converted(units, film.tracks.audio)
    gaps = [b.dts - a.dts for a, b in pairwise(made) if b.dts - a.dts != 960]
    assert len(gaps) == 1 and gaps[0] == pytest.approx(5 * RATE, abs=1_920)
    shift = [at - start for at, start in zip(onsets(made)[-4:], (2, 3.5, 4.5, 10.5), strict=True)]
    assert shift == pytest.approx([shift[0]] * 4, abs=0.02)


# ---- Opus of browsers ----


def browser_sound(seconds: int = 4, channels: int = 2) -> list[AccessUnit]:
    """Opus of a browser by WHIP: no pre-skip, and two channels in its track for any packets."""
    film = beeps(seconds, 48_000, *OPUS, "-ac", str(channels), container="matroska")
    return [replace(unit, track=replace(opus_track(2), timescale=1000)) for unit in film.of(Kind.AUDIO)]


@pytest.mark.parametrize("channels", [1, 2])
def test_opus_of_a_browser_becomes_aac(channels: int) -> None:
    units = browser_sound(channels=channels)
    made = converted(units, units[0].track, TO_AAC)
    assert made[0].track.config[:2] == aac_track(2, 1000).config
    assert onsets(made)[-3:] == pytest.approx(onsets(units)[-3:], abs=0.01)


def test_pauses_of_a_browser_become_silence() -> None:
    """Discontinuous transmission sends packets of 1 to 3 bytes, one in 400 ms."""
    units = browser_sound()
    sent: list[AccessUnit] = []
    for n, unit in enumerate(units):
        if not 70 <= n < 130:
            sent.append(unit)
        elif n % 20 == 10:
            sent.append(replace(unit, payload=(b"\x78", b"\x78\x00", b"\x0b\x01\x00")[n // 20 % 3]))
    converter = SoundConverter.of_setup(TO_AAC, units[0].track)
    made = [coded for unit in sent for coded in converter.convert(unit)]
    assert converter.damaged == 0
    assert max(b.dts - a.dts for a, b in pairwise(made)) <= 22
    assert made[-1].dts == pytest.approx(units[-1].dts, abs=60)
    assert onsets(made)[-1] == pytest.approx(onsets(units)[-1], abs=0.02)


def test_a_change_between_mono_and_stereo_causes_no_gap() -> None:
    mono, stereo = browser_sound(channels=1), browser_sound(channels=2)
    units = [*mono[:100], *stereo[100:150], *mono[150:]]
    assert units[0].payload[0] & 4 != units[120].payload[0] & 4
    converter = SoundConverter.of_setup(TO_AAC, units[0].track)
    made = [coded for unit in units for coded in converter.convert(unit)]
    assert converter.damaged == 0
    assert {u.track.config[:2] for u in made} == {aac_track(2, 1000).config}
    assert max(b.dts - a.dts for a, b in pairwise(made)) <= 22
