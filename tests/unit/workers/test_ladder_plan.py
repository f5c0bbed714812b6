"""Which renditions a source gets, and how large their pictures are."""

from __future__ import annotations

from dataclasses import asdict, replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.live.stream import Stream
from gateway.media.errors import InvalidData
from gateway.outputs.ladder.ladder_output import ladder_steps, stream_wants_ladder
from gateway.ports.errors import OutputError
from gateway.protocols import wire
from gateway.settings.ladders import load_ladders
from gateway.workers.ladder_plan import COPY, LadderPlan, LadderStep, declared_bitrate, display_size, fit
from tests.support import builders

LADDERS = load_ladders()
STANDARD = tuple(
    LadderStep(r.name, r.width, r.height, r.bitrate, COPY if r.audio == "copy" else r.audio, 1.5)
    for r in LADDERS["standard"].rungs
)
sides = st.integers(1, 8192)


def sizes(width: int, height: int) -> dict[str, tuple[int, int]]:
    return {f.step.name: (f.width, f.height) for f in fit(STANDARD, width, height)}


def test_a_full_hd_source_gets_the_sizes_of_the_templates() -> None:
    assert sizes(1920, 1080) == {
        "360p": (640, 360), "480p": (854, 480), "720p": (1280, 720), "1080p": (1920, 1080),
    }  # fmt: skip


def test_a_rung_larger_than_the_source_is_left_out() -> None:
    assert sizes(1280, 720) == {"360p": (640, 360), "480p": (854, 480), "720p": (1280, 720)}
    assert sizes(640, 360) == {"360p": (640, 360)}


def test_a_rung_stays_where_only_one_of_its_sides_is_larger() -> None:
    assert sizes(1080, 1920) == {"360p": (202, 360), "480p": (270, 480), "720p": (404, 720), "1080p": (608, 1080)}
    assert sizes(1024, 768)["720p"] == (960, 720)


def test_the_smallest_rung_stays_at_the_size_of_a_source_that_is_smaller_still() -> None:
    assert sizes(320, 180) == {"360p": (320, 180)}
    assert sizes(321, 181) == {"360p": (320, 180)}
    assert sizes(1, 1) == {"360p": (2, 2)}


@pytest.mark.parametrize("said", [float("inf"), float("nan"), -1.0, 0.0, 1e9, "500", None, True])
def test_an_impossible_declared_bit_rate_counts_as_none(said: object) -> None:
    assert declared_bitrate({"videodatarate": said}) == 0
    assert declared_bitrate({"videodatarate": 500.0}) == 500_000


def test_a_small_source_gets_bits_for_its_pixels_and_about_its_own_rate() -> None:
    hd = replace(STANDARD[2], bitrate=2_800_000)  # 1280×720
    assert fit([hd], 1920, 1080, 500_000)[0].step.bitrate == 2_800_000
    assert fit([hd], 640, 360)[0].step.bitrate == 700_000
    assert fit([hd], 640, 360, 500_000)[0].step.bitrate == 500_000
    assert fit([hd], 640, 360, 5_000_000)[0].step.bitrate == 700_000
    assert fit([hd], 640, 360, 1000)[0].step.bitrate == 350_000, "a wrong declaration"
    assert fit([hd], 64, 36)[0].step.bitrate == 100_000


def test_a_step_may_keep_its_bit_rate_for_a_small_source() -> None:
    step = LadderStep("webrtc", 1920, 1080, 3_000_000, 0, 1.25, keeps_bitrate=True)
    (fitted,) = fit([step], 1280, 720, 500_000)
    assert (fitted.width, fitted.height, fitted.step.bitrate) == (1280, 720, 3_000_000)


@pytest.mark.parametrize(
    ("source", "expected"),
    [((640, 480), (480, 360)), ((1920, 800), (640, 266)), ((1998, 1080), (640, 346)), ((720, 576), (450, 360))],
)
def test_pictures_keep_their_aspect_and_have_even_sides(source: tuple[int, int], expected: tuple[int, int]) -> None:
    assert sizes(*source)["360p"] == expected


@given(sides, sides)
def test_pictures_are_even_fit_their_box_and_are_never_enlarged(width: int, height: int) -> None:
    fitted = fit(STANDARD, width, height)
    assert fitted
    for f in fitted:
        assert f.width % 2 == f.height % 2 == 0
        assert 2 <= f.width <= f.step.width and 2 <= f.height <= f.step.height
        # Rounding to even sides may add one line to a source of an odd number of them.
        assert f.width <= max(2, width + 1) and f.height <= max(2, height + 1)
        if min(f.width, f.height) > 60:
            assert abs(f.width / f.height / (width / height) - 1) < 0.05


@pytest.mark.parametrize(
    ("size", "aspect", "shown"),
    [((720, 576), Fraction(64, 45), (1024, 576)), ((1440, 1080), Fraction(4, 3), (1920, 1080)),
     ((720, 480), Fraction(8, 9), (640, 480)), ((1280, 720), Fraction(1), (1280, 720)),
     ((2, 2), Fraction(1, 90), (1, 2))],
)  # fmt: skip
def test_samples_that_are_not_square_are_widened(
    size: tuple[int, int], aspect: Fraction, shown: tuple[int, int]
) -> None:
    assert display_size(*size, aspect) == shown


def test_a_plan_is_transferred_unchanged() -> None:
    plan = LadderPlan(STANDARD, "libx265", "fast", 3, "baseline", instant=True)
    assert wire.decode_record(LadderPlan, wire.write_json(asdict(plan))) == plan


@pytest.mark.parametrize(
    "said", [{}, {"rungs": 1}, {"rungs": [{"name": "a"}]}, {"rungs": [], "encoder": "a", "preset": "b", "threads": "x"}]
)
def test_an_invalid_plan_is_refused(said: dict[str, object]) -> None:
    with pytest.raises(InvalidData, match="invalid LadderPlan"):
        wire.decode_record(LadderPlan, wire.write_json(said))


def names(**fields: object) -> list[str]:
    return [r.name for r in ladder_steps(LADDERS, builders.channel(**fields))]


def test_a_channel_gets_the_rungs_whose_flags_are_on() -> None:
    assert names(isCodec=True, ld=True, hd="true", ud=False) == ["360p", "720p"]


def test_flags_are_ignored_while_the_ladder_is_off() -> None:
    assert names(isCodec=False, ld=True) == []


def test_the_error_for_an_unknown_ladder_names_the_existing_ones() -> None:
    with pytest.raises(OutputError, match="no ladder gold; there are recommended, standard"):
        names(isCodec=True, ld=True, ladder="gold")


def test_only_a_source_whose_channel_asks_for_rungs_gets_a_ladder() -> None:
    asks = builders.channel(isCodec=True, ld=True)
    source = Stream(builders.spec("c1"), asks)
    assert stream_wants_ladder(LADDERS, source)
    assert not stream_wants_ladder(LADDERS, Stream(builders.spec("c1@360p"), asks))
    source.channel = builders.channel(isCodec=True)
    assert not stream_wants_ladder(LADDERS, source)
    source.channel = builders.channel(isCodec=True, ladder="gold")
    assert stream_wants_ladder(LADDERS, source), "so that it runs and says what is wrong"


@pytest.mark.parametrize(
    ("rate", "every"), [("24", 1), ("30", 1), ("30000/1001", 1), ("36", 1), ("50", 2), ("60", 2), ("120", 4)]
)
def test_pictures_above_the_maximum_rate_are_left_out_evenly(rate: str, every: int) -> None:
    step = LadderStep("webrtc", 1920, 1080, 1_000_000, 0, 1.0, max_rate=30)
    assert step.every(Fraction(rate)) == every
    assert replace(step, max_rate=0).every(Fraction(rate)) == 1
