"""The visual order of mixed lines; letters stand for scripts: hebrew in capitals, as UAX #9 writes its examples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.workers.programs.watermark import bidi

HEBREW = {c: chr(0x05D0 + n) for n, c in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ")}
LATIN = {v: k for k, v in HEBREW.items()}


def shown(text: str) -> str:
    clusters = [HEBREW.get(c, c) for c in text]
    return "".join(LATIN.get(clusters[i], clusters[i]) for i in bidi.visual_order(bidi.levels(clusters)))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("car means CAR.", "car means RAC."),
        ("CAR MEANS car.", ".car SNAEM RAC"),
        ("plain 123, text", "plain 123, text"),
        ("a AB CD b", "a DC BA b"),
        ("CAR 123", "123 RAC"),
        ("CAR 1,5 AB", "BA 1,5 RAC"),
        ("price AB 5% now", "price 5% BA now"),
        ("12 ab", "12 ab"),
        ("CAR hd 4k", "hd 4k RAC"),
        ("CAR cam-2", "cam-2 RAC"),
        ("CAR ##5", "##5 RAC"),
        ("CAR 5%%", "5%% RAC"),
        ("abc ١٢ ABC", "abc CBA ١٢"),
        ("abc ١,٢ ABC", "abc CBA ١,٢"),
        ("abc ١+٢ ABC", "abc CBA ٢+١"),
        ("", ""),
        ("...", "..."),
    ],
)
def test_a_line_is_shown_in_the_order_of_its_scripts(text: str, seen: str) -> None:
    assert shown(text) == seen


@given(st.lists(st.characters(exclude_categories=("Cs",)), max_size=60))
def test_every_character_is_shown_once(clusters: list[str]) -> None:
    assert sorted(bidi.visual_order(bidi.levels(clusters))) == list(range(len(clusters)))
