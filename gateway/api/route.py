"""The routes of the admin listener, and the description of their handlers for openapi.json."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp.typedefs import Handler

from gateway.ports.users import UserRole


@dataclass(frozen=True, slots=True)
class Operation:
    """A handler and its description.

    body, answer: the type of the JSON, such as a model of gateway.api.schemas; a media type if it is not JSON; None:
    there is none.
    status: on success; statuses: additional possible statuses.
    other_answers: types of answers with additional statuses, if they are not Error.
    query: (name, description) pairs.
    """

    handler: Handler
    answer: Any
    body: Any = None
    status: int = 200
    statuses: tuple[int, ...] = ()
    other_answers: tuple[tuple[int, Any], ...] = ()
    query: tuple[tuple[str, str], ...] = ()

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring, without the full stop."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[0].removesuffix(".")


def operation(answer: Any, **description: Any) -> Callable[[Handler], Operation]:
    """Describes the handler below it. description: the other fields of `Operation`."""
    return lambda handler: Operation(handler, answer, **description)


@dataclass(frozen=True, slots=True)
class Route:
    """A route. endpoint: method and path pattern.

    public: needs no token.
    role: the least role that may use it. A broadcaster may use a route with `{id}` only for own channels.
    observer: whether observers may use it: it shows them no key, and changes nothing but the own account. Observers of
    some channels may only use those of them that broadcasters may use.
    by_query: whether the channel is the parameter `channel`, which users with a list of channels must send, instead of
    `{id}`.
    page: a page of the console or a file of it, which `admin.console` turns off.
    held: whether the node that holds the stream `{id}` answers; see gateway.api.forwarding.
    slow: whether the answer of that node may begin only after minutes.
    """

    endpoint: str
    operation: Operation
    tag: str = ""
    public: bool = False
    role: UserRole = UserRole.ADMINISTRATOR
    observer: bool = False
    by_query: bool = False
    page: bool = False
    held: bool = False
    slow: bool = False

    @property
    def method(self) -> str:
        return self.endpoint.partition(" ")[0]

    @property
    def path(self) -> str:
        return self.endpoint.partition(" ")[2]
