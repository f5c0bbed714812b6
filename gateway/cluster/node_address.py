"""The address of the node that holds a stream, and the interface to look it up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from gateway.ports.errors import GatewayError

UNIX: Final = "unix:"


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node that holds a stream.

    address: `host:port`, or `unix:/path` for a process on this machine.
    claim: the claim in the registry; "" if it is not known.
    cluster: whether edges were started for this stream alone.
    edge: whether this node is one of those edges, which has the stream from its holder.
    """

    node: str
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
        """The first part of its URLs."""
        return "http://localhost" if self.socket else f"http://{self.address}"


class StreamLocator(Protocol):
    """Finds the node that holds a stream."""

    def known(self, name: str) -> NodeAddress | None:
        """Returns the address from memory; None if it is not known."""
        ...

    async def find(self, name: str) -> NodeAddress | None:
        """Returns the address; None if no node holds the stream. Raises StoreUnavailable, AtCapacity."""
        ...

    def lost(self, name: str, place: NodeAddress) -> None:
        """Notes that the stream was not at `place`, or that the node did not answer. The next look-up asks again."""
        ...


class PeerUnavailable(GatewayError):
    """A node does not answer.

    refused: nothing listens at its address, so the node is dead.
    """

    def __init__(self, place: NodeAddress, reason: str, *, refused: bool = False) -> None:
        super().__init__(f"node {place.node} at {place.address}: {reason}")
        self.refused = refused


class PeerRefused(GatewayError):
    """A node answers with a refusal.

    status: the HTTP status. words: the text of the node.
    """

    def __init__(self, place: NodeAddress, status: int, words: str) -> None:
        super().__init__(f"node {place.node} at {place.address}: {status} {words}")
        self.status = status
        self.words = words
