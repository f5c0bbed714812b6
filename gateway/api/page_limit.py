"""The limit of a page of a list."""

from gateway.api.answers import BadRequest
from gateway.lib.numbers import read_integer


def page_limit(text: str, most: int) -> int:
    """Returns the limit in a query, 1 to `most`. Raises BadRequest."""
    limit = read_integer(text, most, 1)
    if limit is None:
        raise BadRequest(f"expected a number from 1 to {most}", field="limit")
    return limit
