"""Colors of watermarks: names, digits, opacity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.workers.programs.watermark.colors import parse_color


@pytest.mark.parametrize(
    ("text", "rgba"),
    [
        ("red", (255, 0, 0, 255)),
        ("White", (255, 255, 255, 255)),
        ("rebeccapurple", (102, 51, 153, 255)),
        ("transparent", (0, 0, 0, 0)),
        ("#f80", (255, 136, 0, 255)),
        ("#f808", (255, 136, 0, 136)),
        ("#ff8800", (255, 136, 0, 255)),
        ("#ff880080", (255, 136, 0, 128)),
        ("0xFF8800", (255, 136, 0, 255)),
        ("0xff880040", (255, 136, 0, 64)),
        ("ff8800", (255, 136, 0, 255)),
        ("yellow@0.5", (255, 255, 0, 128)),
        ("yellow@0x40", (255, 255, 0, 64)),
        ("#00ff00@1", (0, 255, 0, 255)),
        ("0x00ff00@0.0", (0, 255, 0, 0)),
    ],
)
def test_a_color_is_read_as_css_and_ffmpeg_write_it(text: str, rgba: tuple[int, int, int, int]) -> None:
    assert parse_color(text) == rgba


@pytest.mark.parametrize(
    "text",
    ["", "@", "reddish", "#", "#12", "#12345", "abc", "0x1", "red@", "red@.", "red@2", "red@0x100", "rgb(1,2,3)"],
)
def test_an_invalid_color_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"color|opacity"):
        parse_color(text)


@given(st.text(max_size=40))
def test_any_text_gives_a_color_or_a_value_error(text: str) -> None:
    try:
        rgba = parse_color(text)
    except ValueError:
        return
    assert len(rgba) == 4
    assert all(0 <= part <= 255 for part in rgba)
