"""The title and the description of a film in a request: bounded text without control characters."""

import unicodedata
from typing import Any, Final

from pydantic import BeforeValidator

from gateway.api.schema_base import Body
from gateway.ports.films import MAX_DESCRIPTION, MAX_TITLE


def film_texts(body: Body) -> dict[str, str]:
    """Returns `title` and `description`, without a field that the body does not have."""
    return body.model_dump(include={"title", "description"}, exclude_unset=True)


def is_text(text: str, *, lines: bool = False) -> bool:
    """Whether a text has no control characters and no lone surrogates. lines: line ends and tabs are allowed."""
    return all(
        (lines and char in "\n\t") or unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp") for char in text
    )


def _checked(value: Any, most: int, *, lines: bool) -> str:
    text = value.replace("\r\n", "\n").strip() if isinstance(value, str) else ""
    if not isinstance(value, str) or len(text) > most or not is_text(text, lines=lines):
        raise ValueError(f"expected a text of at most {most} characters")
    return text


TITLE: Final = BeforeValidator(lambda value: _checked(value, MAX_TITLE, lines=False))
DESCRIPTION: Final = BeforeValidator(lambda value: _checked(value, MAX_DESCRIPTION, lines=True))
