"""The limit of a page of a list."""

from __future__ import annotations

from gateway.api.answers import BadRequest


def page_limit(text: str, most: int) -> int:
    """Returns the limit in a query, 1 to `most`, which has at most four digits. Raises BadRequest."""
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= most):
        raise BadRequest(f"expected a number from 1 to {most}", field="limit")
    return int(text)
