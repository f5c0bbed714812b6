"""Numbers in text are read within bounds; other text is refused."""

import math

import pytest

from gateway.lib.numbers import read_decimal, read_integer


def test_digits_within_the_bounds_are_read() -> None:
    assert [read_integer(text, 70, 2) for text in ("2", "70", "007")] == [2, 70, 7]
    assert read_integer("0", 0) == 0
    assert read_integer("0" * 11 + "9" * 9, 10**9) == 999_999_999


@pytest.mark.parametrize("text", ["", "1", "71", "-3", "+3", " 3", "3 ", "1_0", "3.0", "0x3", "³", "٣", "0" * 20 + "3"])
def test_other_text_is_not_read_as_an_integer(text: str) -> None:
    assert read_integer(text, 70, 2) is None


@pytest.mark.parametrize("digit", ["0", "9"])
def test_thousands_of_digits_are_not_read_as_a_number(digit: str) -> None:
    assert read_integer(digit * 5_000, 10**6_000) is None
    assert read_decimal(digit * 5_000, math.inf) is None


def test_decimals_are_read() -> None:
    assert [read_decimal(text, 7.5) for text in ("7", "7.", "0.25", "007.5")] == [7.0, 7.0, 0.25, 7.5]


@pytest.mark.parametrize("text", ["", "7.51", ".5", "-1", "1e3", "nan", "inf", "1_0", " 1", "1\n", "٣", "1.2.3"])
def test_other_text_is_not_read_as_a_decimal(text: str) -> None:
    assert read_decimal(text, 7.5) is None
