"""Titles and descriptions of films: bounded text without control characters."""

import pytest
from pydantic import ValidationError

from gateway.api.film_texts import film_texts
from gateway.api.schemas import FilmChanges, NewJob, NewUpload


def test_texts_are_normalized_and_missing_ones_stay_missing() -> None:
    assert film_texts(NewUpload.model_validate({"name": "a.mp4"})) == {}
    body = {"title": "  Ferien 👨‍👩‍👧 <b>  ", "description": "one\r\ntwo\n"}
    assert film_texts(FilmChanges.model_validate(body)) == {"title": "Ferien 👨‍👩‍👧 <b>", "description": "one\ntwo"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", "x" * 201), ("title", "two\nlines"), ("title", "\x00"), ("title", "\ud800"), ("title", 5),
        ("title", None), ("title", "a\u2028b"), ("description", "x" * 5001), ("description", "\x1b[1m"),
    ],
)  # fmt: skip
def test_invalid_texts_are_refused_with_their_field(field: str, value: object) -> None:
    for model in (FilmChanges, NewUpload, NewJob):
        with pytest.raises(ValidationError, match="expected a text of at most") as refused:
            model.model_validate({"name": "a", "source": "a", field: value})
        assert [error["loc"] for error in refused.value.errors()] == [(field,)]
