"""The API's interface to the other nodes, and its implementation for a single node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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
    """The answers of all other nodes: JSON objects by node id. silent: ids of the nodes that did not answer in time."""

    answers: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    silent: tuple[str, ...] = ()


class ClusterQueries(Protocol):
    """The requests that a node can send to other nodes: see gateway.cluster.gateway_operations.

    Every method takes a few seconds at most.
    """

    @property
    def node(self) -> str:
        """The id of this node; "" if it is the only node."""
        ...

    async def ask(self, id: str, operation: str, method: str = "GET", **query: str) -> Any | None:
        """Returns the answer of the node with a channel's stream; None if no other node has it.

        Raises ForwardedRefusal, with 503 if that node does not answer. Raises StoreUnavailable or AtCapacity if the
        lookup of the node fails.
        """
        ...

    def fetch(self, id: str, operation: str, **query: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Opens a long answer of the node with a channel's stream, and returns its bytes.

        Raises ForwardedRefusal, also while the bytes are read, or like `ask`.
        """
        ...

    async def everywhere(self, operation: str) -> NodeAnswers:
        """Returns the answers of all other nodes with streams, at most about a second old.

        operation: its name, possibly with a path (`history/24/<channel>`, `refusals/<channel>`).
        """
        ...

    async def changed(self, id: str) -> None:
        """Reports a changed or deleted channel.

        Returns when the node with its stream is notified. Other nodes are notified in the background.
        """
        ...

    async def nodes(self) -> Sequence[Node]:
        """Returns all live nodes, including this one. If the registry is unavailable: the last known list."""
        ...


class SingleNode:
    """The ClusterQueries of a single node."""

    node = ""

    async def ask(self, id: str, operation: str, method: str = "GET", **query: str) -> Any | None:
        return None

    @asynccontextmanager
    async def fetch(self, id: str, operation: str, **query: str) -> AsyncIterator[AsyncIterator[bytes]]:
        raise ForwardedRefusal(503, f"no other node holds {id}")
        yield

    async def everywhere(self, operation: str) -> NodeAnswers:
        return NodeAnswers()

    async def changed(self, id: str) -> None:
        """Does nothing, because there is no other node."""

    async def nodes(self) -> Sequence[Node]:
        return ()
