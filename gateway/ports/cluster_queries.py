"""The requests that a node sends to the other nodes of its cluster, and their form for a single node."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from gateway.ports.nodes import Node

# Headers between the API and the node endpoint in front of it.
SENDER: Final = "X-Millrace-Sender"  # of a forwarded request: `sender` of ForwardedRequest
HOLDER: Final = "X-Millrace-Holder"  # of an answer of the API: the id of its node


@dataclass(frozen=True, slots=True)
class NodeAnswers:
    """The answers of all other nodes: JSON objects by node id. silent: ids of the nodes that did not answer in time."""

    answers: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    silent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ForwardedRequest:
    """A client's request to the API, for the node that holds the stream.

    target: path and query, encoded as the client sent them.
    sender: who sends it, as JSON in ASCII; see `Sender` in gateway.api.forwarding.
    seconds: in which the answer must begin; also the limit for a pause in its body.
    """

    method: str
    target: str
    sender: str
    body: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class HolderAnswer:
    """The answer of the node that holds a stream. body: raises GatewayError if it breaks off."""

    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]


class ClusterQueries(Protocol):
    """The requests that a node can send to other nodes."""

    @property
    def node(self) -> str:
        """The id of this node; "" if it is the only node."""

    def forward(self, id: str, request: ForwardedRequest) -> AbstractAsyncContextManager[HolderAnswer | None]:
        """Sends a request to the node that holds a channel's stream; None if no other node holds it.

        Raises HolderUnavailable if that node does not answer. Raises StoreUnavailable or AtCapacity if the lookup of
        the node fails.
        """

    async def ask_all(self, operation: str) -> NodeAnswers:
        """Returns the answers of all other nodes with streams, at most about a second old.

        operation: its name, possibly with a path (`history/24/<channel>`, `told/<channel>`).
        """

    async def changed(self, id: str) -> None:
        """Reports a changed or deleted channel.

        Returns when the node with its stream is notified. Other nodes are notified in the background.
        """

    async def nodes(self) -> Sequence[Node]:
        """Returns all live nodes, including this one. If the registry is unavailable: the last known list."""

    async def gone(self) -> Sequence[Node]:
        """Returns the nodes that ended without leaving, unless a live node has their address."""


class SingleNode:
    """The ClusterQueries of a single node."""

    node = ""

    @asynccontextmanager
    async def forward(self, id: str, request: ForwardedRequest) -> AsyncIterator[HolderAnswer | None]:
        yield None

    async def ask_all(self, operation: str) -> NodeAnswers:
        return NodeAnswers()

    async def changed(self, id: str) -> None:
        """Does nothing, because there is no other node."""

    async def nodes(self) -> Sequence[Node]:
        return ()

    async def gone(self) -> Sequence[Node]:
        return ()
