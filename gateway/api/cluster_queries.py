"""The other nodes as the API sees them, and the answers of a node that runs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.ports.nodes import Node


class ForwardedRefusal(Exception):
    """Another node's refusal, which this node forwards to the client.

    status: HTTP status, 400 and above. message: the other node's text. field: the wrong field. retry_after: seconds,
    with 503.
    """

    def __init__(self, status: int, message: str, field: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class NodeAnswers:
    """The answers of all other nodes: JSON objects by node id. silent: ids of nodes that did not answer in time."""

    answers: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    silent: tuple[str, ...] = ()


class ClusterQueries(Protocol):
    """The questions that a node can ask others: see gateway.cluster.gateway_operations.

    Every method takes a few seconds at most.
    """

    @property
    def node(self) -> str:
        """The id of this node; "" where it runs alone."""
        ...

    async def ask(self, id: str, operation: str, method: str = "GET", **query: str) -> Any | None:
        """Returns the answer of the node that holds a channel's stream; None where no other node holds it.

        Raises ForwardedRefusal, also with 503 where the holder does not answer. Raises StoreUnavailable or AtCapacity
        where the holder cannot be looked up.
        """
        ...

    async def everywhere(self, operation: str) -> NodeAnswers:
        """Returns the answers of all other nodes that hold streams, at most about a second old."""
        ...

    async def changed(self, id: str) -> None:
        """Reports a changed or deleted channel.

        Returns when its holder knows; other nodes are told in the background.
        """
        ...

    async def nodes(self) -> Sequence[Node]:
        """Returns all live nodes, including this one. The answer may be old while the registry is unavailable."""
        ...


class SingleNode:
    """A ClusterQueries for a node that runs alone."""

    node = ""

    async def ask(self, id: str, operation: str, method: str = "GET", **query: str) -> Any | None:
        return None

    async def everywhere(self, operation: str) -> NodeAnswers:
        return NodeAnswers()

    async def changed(self, id: str) -> None:
        """Does nothing: there is no other node."""

    async def nodes(self) -> Sequence[Node]:
        return ()
