"""The address of the node that holds a stream, and the interface to look it up."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from gateway.ports.errors import GatewayError

UNIX: Final = "unix:"

# Returns the Unix sockets of the other processes of this host, by node id.
FindSockets: TypeAlias = Callable[[], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """The address of a node, and facts about the stream that is read from it.

    id: of the node.
    address: `host:port`, or `unix:/path` for a process on this machine.
    claim: id of the stream's claim in the registry; "" if it is unknown.
    cluster: whether edges can be started only for the channel of this stream (`StreamClaim.cluster`).
    edge: whether this node is one of those edges. It pulls the stream from the node that holds it.
    """

    id: str
    address: str
    claim: str = ""
    cluster: bool = False
    edge: bool = False

    @property
    def socket(self) -> str:
        """The path of the Unix socket; "" for another machine."""
        return self.address.removeprefix(UNIX) if self.address.startswith(UNIX) else ""

    @property
    def host_port(self) -> tuple[str, int]:
        """Host and port of a TCP address. Raises ValueError."""
        host, _, port = self.address.rpartition(":")
        return host.removeprefix("[").removesuffix("]"), int(port)

    @property
    def base(self) -> str:
        """The beginning of the URLs of this node."""
        return "http://localhost" if self.socket else f"http://{self.address}"


class StreamLocator(Protocol):
    """Finds the node from which a stream can be read."""

    def known(self, name: str) -> NodeAddress | None:
        """Returns the cached address; None if it is unknown."""

    async def find(self, name: str) -> NodeAddress | None:
        """Returns the address; None if no node holds the stream. Raises StoreUnavailable, AtCapacity."""

    def invalidate(self, name: str, node: NodeAddress) -> None:
        """Records that `node` does not have the stream, or did not answer. The next lookup reads the registry."""


class PeerUnavailable(GatewayError):
    """A node does not answer.

    refused: whether it refused the connection. Then nothing listens at its address, so the node is dead.
    """

    def __init__(self, node: NodeAddress, reason: str, *, refused: bool = False) -> None:
        super().__init__(f"node {node.id} at {node.address}: {reason}")
        self.refused = refused


class PeerRefused(GatewayError):
    """A node rejected a request. status: the HTTP status. message: the text of the node."""

    def __init__(self, node: NodeAddress, status: int, message: str) -> None:
        super().__init__(f"node {node.id} at {node.address}: {status} {message}")
        self.status = status
        self.message = message
