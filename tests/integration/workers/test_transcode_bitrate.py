"""Bitrates of encoders over ten seconds, for different contents and frame rates."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from gateway.media.track import AccessUnit, Kind
from gateway.workers.programs.audio_codec import AudioDecoder, AudioEncoder
from gateway.workers.programs.codec import DecodedPicture, VideoDecoder, VideoEncoder, VideoRecipe
from tests.support.sources import AAC, X264, Source, pictures, source

RECIPE = VideoRecipe("libx264", 320, 180, 300_000, 450_000, Fraction(30), 1000, preset="ultrafast")


def decoded(film: Source) -> list[DecodedPicture]:
    assert film.tracks.video is not None
    decoder = VideoDecoder(film.tracks.video)
    return [p for unit in film.of(Kind.VIDEO) for p in decoder.decode(unit)] + decoder.flush()


def encoded(shown: list[DecodedPicture], recipe: VideoRecipe) -> list[AccessUnit]:
    encoder = VideoEncoder(recipe)
    return [u for p in shown for u in encoder.encode(p.frame, p)] + encoder.flush()


def voiced(film: Source, bitrate: int) -> list[AccessUnit]:
    assert film.tracks.audio is not None
    decoder, encoder = AudioDecoder(film.tracks.audio, 2), AudioEncoder(bitrate, 2, 1000)
    units = [u for unit in film.units for sound in decoder.decode(unit) for u in encoder.encode(sound)]
    return units + encoder.flush()


@pytest.mark.parametrize("rate", [10, 30, 60])
@pytest.mark.parametrize("noise", [0, 20])
def test_the_bitrate_is_met_for_any_frame_rate_and_content(rate: int, noise: int) -> None:
    film = source(*pictures("320x180", str(rate), noise), "-t", "11", *X264, "-g", str(2 * rate), "-pix_fmt", "yuv420p")
    # The declared rate is at least 30 frames a second. So a slower film skips numbers, or the rate is measured again.
    recipe = replace(RECIPE, rate=Fraction(max(30, rate)))
    units = encoded(decoded(film), recipe)
    bits = sum(len(u.payload) for u in units if u.dts < 10_000) * 8
    assert bits / 10 == pytest.approx(300_000, rel=0.1)


def test_libx265_meets_its_bitrate_too() -> None:
    film = source(*pictures("320x180", "30", 10), "-t", "11", *X264, "-g", "60", "-pix_fmt", "yuv420p")
    units = encoded(decoded(film), replace(RECIPE, encoder="libx265"))
    assert sum(len(u.payload) for u in units if u.dts < 10_000) * 8 / 10 == pytest.approx(300_000, rel=0.1)


def test_sound_has_the_configured_bitrate() -> None:
    film = source("-f", "lavfi", "-i", "anoisesrc=amplitude=0.3:sample_rate=48000", "-t", "10", *AAC)
    for bitrate in (64_000, 128_000):
        units = voiced(film, bitrate)
        assert sum(len(u.payload) for u in units) * 8 / 10 == pytest.approx(bitrate, rel=0.1)
