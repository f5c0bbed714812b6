"""One route of the admin listener, with its description for openapi.json."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp.typedefs import Handler

from gateway.ports.users import Role


@dataclass(frozen=True, slots=True)
class Route:
    """A route. endpoint: method and path pattern.

    body, answer: names in gateway.api.schemas, or a media type if the body is not JSON.
    status: on success; statuses: further possible statuses.
    other_answers: schemas of answers with further statuses, if they are not Error.
    query: (name, description) pairs. public: needs no token.
    role: the least role that may use it. A broadcaster may use a route with `{id}` only for the own channels.
    page: a page of the console or a file of it, which `admin.console` turns off.
    """

    endpoint: str
    handler: Handler
    summary: str
    answer: str
    body: str | None = None
    statuses: tuple[int, ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    public: bool = False
    status: int = 200
    other_answers: tuple[tuple[int, str], ...] = ()
    tag: str = ""
    role: Role = Role.ADMINISTRATOR
    page: bool = False

    @property
    def method(self) -> str:
        return self.endpoint.partition(" ")[0]

    @property
    def path(self) -> str:
        return self.endpoint.partition(" ")[2]
