"""One route of the admin listener, with what openapi.json says of it."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp.typedefs import Handler


@dataclass(frozen=True, slots=True)
class Route:
    """A route. body, answer: names in gateway.api.schemas, or a media type where no JSON is sent.

    also: further statuses. status: on success. said: shapes of answers with other statuses, where they are not Error.
    query: (name, description) pairs. public: needs no token.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answer: str
    body: str | None = None
    also: tuple[int, ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    public: bool = False
    status: int = 200
    said: tuple[tuple[int, str], ...] = ()
    tag: str = ""
