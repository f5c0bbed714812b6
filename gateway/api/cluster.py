"""Cluster: the other nodes as the API needs them, and what a node knows that is alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.hub.nodes import Node


class Refused(Exception):
    """What another node answered instead of what was asked of it; the same is answered here.

    status: of HTTP, 400 and above; the message: its own words. field: at fault. retry_after: seconds, with 503.
    """

    def __init__(self, status: int, message: str, field: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Heard:
    """What all other nodes answered: JSON objects by node's id. silent: the ids of those that did not in time."""

    answers: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    silent: tuple[str, ...] = ()


class Cluster(Protocol):
    """What nodes can be asked: see gateway.nodes.operations. Every method takes seconds at most."""

    @property
    def node(self) -> str:
        """The id of this node; "" where it is alone."""
        ...

    async def ask(self, id: str, operation: str, method: str = "GET", **query: str) -> Any | None:
        """What the holder of a channel's stream answers; None where no other node holds one. Raises Refused (also 503
        where the holder does not answer), StoreAway and AtCapacity where it cannot be looked up."""
        ...

    async def everywhere(self, operation: str) -> Heard:
        """What all other nodes answer that hold streams; about a second old at most."""
        ...

    async def changed(self, id: str) -> None:
        """A channel was changed or deleted in the store: returns once its holder knows, others are told meanwhile."""
        ...

    async def nodes(self) -> Sequence[Node]:
        """All nodes that live, this one among them; as of seconds ago where the registry is away."""
        ...


class Alone:
    """A Cluster of one."""

    node = ""

    async def ask(self, id: str, operation: str, method: str = "GET", **query: str) -> Any | None:
        return None

    async def everywhere(self, operation: str) -> Heard:
        return Heard()

    async def changed(self, id: str) -> None:
        """Nobody else has to know."""

    async def nodes(self) -> Sequence[Node]:
        return ()
