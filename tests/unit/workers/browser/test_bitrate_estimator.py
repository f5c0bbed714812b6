"""The bitrate of pictures that are encoded again."""

from __future__ import annotations

from fractions import Fraction

from gateway.media.track import Codec
from gateway.workers.programs.browser.browser_video import BitrateEstimator, max_bitrate

RATE = Fraction(25)


def fed(bits: BitrateEstimator, rate: int, pictures: int) -> BitrateEstimator:
    """Adds this number of pictures, whose bitrate is `rate` at the frame rate RATE."""
    for _ in range(pictures):
        bits.add(rate // 8 // 25)
    return bits


def test_larger_and_faster_pictures_have_a_higher_maximum_bitrate() -> None:
    sizes = [(320, 240, 30), (640, 360, 30), (1280, 720, 30), (1920, 1080, 30), (1920, 1080, 60)]
    worth = [max_bitrate(w, h, Fraction(r)) for w, h, r in sizes]
    assert worth == sorted(worth)
    assert worth[2] == 2_500_000
    assert 7_000_000 < worth[-1] < 8_500_000


def test_before_enough_pictures_the_maximum_bitrate_is_used() -> None:
    assert fed(BitrateEstimator(Codec.VP8), 500_000, 40).target(RATE, 2_500_000) == 2_500_000


def test_the_bitrate_follows_the_source_and_is_higher_for_better_codecs() -> None:
    assert fed(BitrateEstimator(Codec.VP8), 1_000_000, 200).target(RATE, 2_500_000) == 1_000_000
    assert fed(BitrateEstimator(Codec.AV1), 1_000_000, 200).target(RATE, 2_500_000) == 1_600_000


def test_the_bitrate_is_proportional_to_the_frame_rate() -> None:
    assert fed(BitrateEstimator(Codec.VP8), 1_000_000, 200).target(2 * RATE, 2_500_000) == 2_000_000


def test_the_bitrate_has_a_minimum_and_a_maximum() -> None:
    assert fed(BitrateEstimator(Codec.VP8), 20_000, 200).target(RATE, 2_000_000) == 500_000
    assert fed(BitrateEstimator(Codec.VP8), 20_000_000, 200).target(RATE, 2_000_000) == 2_000_000


def test_the_bitrate_follows_a_change_within_some_seconds() -> None:
    bits = fed(fed(BitrateEstimator(Codec.VP8), 2_000_000, 200), 800_000, 300)
    assert abs(bits.target(RATE, 2_500_000) - 800_000) < 150_000
