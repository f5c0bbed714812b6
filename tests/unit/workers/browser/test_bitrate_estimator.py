"""How many bits pictures get that are coded anew."""

from __future__ import annotations

from fractions import Fraction

from gateway.media.track import Codec
from gateway.workers.programs.browser.bitrate_estimator import BitrateEstimator, max_bitrate

RATE = Fraction(25)


def fed(bits: BitrateEstimator, rate: int, pictures: int) -> BitrateEstimator:
    """Pictures whose bits are so many a second at RATE."""
    for _ in range(pictures):
        bits.add(rate // 8 // 25)
    return bits


def test_more_and_faster_pictures_are_worth_more() -> None:
    sizes = [(320, 240, 30), (640, 360, 30), (1280, 720, 30), (1920, 1080, 30), (1920, 1080, 60)]
    worth = [max_bitrate(w, h, Fraction(r)) for w, h, r in sizes]
    assert worth == sorted(worth)
    assert worth[2] == 2_500_000
    assert 7_000_000 < worth[-1] < 8_500_000


def test_until_enough_came_the_size_decides() -> None:
    assert fed(BitrateEstimator(Codec.VP8), 500_000, 40).target(RATE, 2_500_000) == 2_500_000


def test_the_sources_own_bits_count_and_more_where_its_codec_is_better() -> None:
    assert fed(BitrateEstimator(Codec.VP8), 1_000_000, 200).target(RATE, 2_500_000) == 1_000_000
    assert fed(BitrateEstimator(Codec.AV1), 1_000_000, 200).target(RATE, 2_500_000) == 1_600_000


def test_pictures_that_come_seldom_are_worth_as_much_as_others() -> None:
    assert fed(BitrateEstimator(Codec.VP8), 1_000_000, 200).target(2 * RATE, 2_500_000) == 2_000_000


def test_there_is_a_least_and_a_most() -> None:
    assert fed(BitrateEstimator(Codec.VP8), 20_000, 200).target(RATE, 2_000_000) == 500_000
    assert fed(BitrateEstimator(Codec.VP8), 20_000_000, 200).target(RATE, 2_000_000) == 2_000_000


def test_it_follows_a_change_within_some_seconds() -> None:
    bits = fed(fed(BitrateEstimator(Codec.VP8), 2_000_000, 200), 800_000, 300)
    assert abs(bits.target(RATE, 2_500_000) - 800_000) < 150_000
