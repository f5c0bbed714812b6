"""Titles and descriptions of films: bounded text without control characters."""

import pytest

from gateway.api.answers import BadRequest
from gateway.api.film_texts import film_texts


def test_texts_are_normalized_and_missing_ones_stay_missing() -> None:
    assert film_texts({"name": "a.mp4"}) == {}
    body = {"title": "  Ferien 👨‍👩‍👧 <b>  ", "description": "one\r\ntwo\n"}
    assert film_texts(body) == {"title": "Ferien 👨‍👩‍👧 <b>", "description": "one\ntwo"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", "x" * 201), ("title", "two\nlines"), ("title", "\x00"), ("title", "\ud800"), ("title", 5),
        ("title", None), ("title", "a\u2028b"), ("description", "x" * 5001), ("description", "\x1b[1m"),
    ],
)  # fmt: skip
def test_invalid_texts_are_refused_with_their_field(field: str, value: object) -> None:
    with pytest.raises(BadRequest) as refused:
        film_texts({field: value})
    assert refused.value.field == field
