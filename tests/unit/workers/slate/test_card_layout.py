"""Texts of a card: lines of about equal width, smaller letters for longer texts, and an ellipsis at the end."""

import pytest

from gateway.workers.programs.slate.card_layout import fit_line, fit_text


def width(line: str, size: int) -> float:
    """Letters are half as wide as high; CJK characters are square."""
    return sum(size if ord(c) > 0x2E80 else size / 2 for c in line)


def test_a_short_text_is_one_large_line() -> None:
    fitted = fit_text("Back soon", (80, 20), 1000, 360, width)
    assert (fitted.lines, fitted.size) == (("Back soon",), 80)


def test_lines_are_balanced() -> None:
    fitted = fit_text("We will be right back", (100, 20), 800, 500, width)
    assert (fitted.lines, fitted.size) == (("We will be", "right back"), 100)


@pytest.mark.parametrize("text", ["word " * 60, "直播马上回来" * 20, "x" * 300, "a\nb\nc\nd\ne\nf"])
def test_a_long_text_is_smaller_and_complete(text: str) -> None:
    fitted = fit_text(text, (80, 20), 1000, 400, width)
    assert 20 <= fitted.size < 80
    assert all(width(line, fitted.size) <= 1000 for line in fitted.lines)
    assert len(fitted.lines) * fitted.size * 1.36 <= 400
    assert "".join("".join(fitted.lines).split()) == "".join(text.split())


@pytest.mark.parametrize("text", ["word " * 100_0, "直" * 5000, "x" * 5000, "\n" * 400])
def test_a_text_that_does_not_fit_ends_with_an_ellipsis(text: str) -> None:
    fitted = fit_text(text, (80, 30), 600, 200, width)
    assert fitted.size == 30
    assert len(fitted.lines) == int(200 / (1.36 * 30))
    assert fitted.lines[-1].endswith("…")
    assert all(width(line, 30) <= 600 for line in fitted.lines)


def test_a_line_first_shrinks_and_then_ends_with_an_ellipsis() -> None:
    assert fit_line("Show", (40, 20), 400, width).size == 40
    smaller = fit_line("A name of thirty letters, here", (40, 20), 400, width)
    assert smaller.lines == ("A name of thirty letters, here",)
    assert 20 <= smaller.size < 40
    cut = fit_line("name " * 50, (40, 20), 400, width)
    assert cut.size == 20
    assert cut.lines[0].endswith("name…")
    assert width(cut.lines[0], 20) <= 400


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_text_gives_one_empty_line(text: str) -> None:
    assert fit_text(text, (80, 20), 1000, 400, width).lines[0] == ""
    assert fit_line(text, (40, 20), 400, width).lines == ("",)


def test_a_width_smaller_than_a_letter_gives_lines_too() -> None:
    assert fit_text("word 直", (80, 20), 5, 400, width).lines
    assert fit_line("word", (80, 20), 5, width).lines
