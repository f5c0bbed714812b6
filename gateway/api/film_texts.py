"""Checks the title and the description of a film in a request."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from gateway.api.answers import BadRequest
from gateway.ports.films import MAX_DESCRIPTION, MAX_TITLE


def film_texts(body: Mapping[str, Any]) -> dict[str, str]:
    """Returns the texts `title` and `description` of a body, if it has them. Raises BadRequest."""
    texts: dict[str, str] = {}
    for name, most, lines in (("title", MAX_TITLE, False), ("description", MAX_DESCRIPTION, True)):
        if name not in body:
            continue
        text = body[name]
        if isinstance(text, str):
            text = text.replace("\r\n", "\n").strip()
        if not isinstance(text, str) or len(text) > most or not is_text(text, lines=lines):
            raise BadRequest(f"expected a text of at most {most} characters", field=name)
        texts[name] = text
    return texts


def is_text(text: str, *, lines: bool = False) -> bool:
    """Whether a text has no control characters and no lone surrogates. lines: line ends and tabs are allowed."""
    return all(
        (lines and char in "\n\t") or unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp") for char in text
    )
