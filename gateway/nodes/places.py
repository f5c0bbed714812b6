"""Places: how to reach the node that holds a stream, and who knows that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from gateway.hub.errors import HubError

UNIX: Final = "unix:"


@dataclass(frozen=True, slots=True)
class Place:
    """A node that holds a stream. address: `host:port`, or `unix:/path` of a process on this machine. claim: of the
    registry, where one told it. cluster: edges of its own were started for the stream. edge: this is one of them, which
    has the stream from its holder."""

    node: str
    address: str
    claim: str = ""
    cluster: bool = False
    edge: bool = False

    @property
    def socket(self) -> str:
        """The path of the Unix socket; "" where it is another machine's."""
        return self.address.removeprefix(UNIX) if self.address.startswith(UNIX) else ""

    @property
    def host_port(self) -> tuple[str, int]:
        """Of a TCP address. Raises ValueError."""
        host, _, port = self.address.rpartition(":")
        return host.removeprefix("[").removesuffix("]"), int(port)

    @property
    def base(self) -> str:
        """The beginning of its URLs."""
        return "http://localhost" if self.socket else f"http://{self.address}"


class Whereabouts(Protocol):
    """Who knows which node holds a stream."""

    def known(self, name: str) -> Place | None:
        """From memory."""
        ...

    async def find(self, name: str) -> Place | None:
        """None: nobody holds it. Raises StoreAway, AtCapacity."""
        ...

    def lost(self, name: str, place: Place) -> None:
        """It was not there, or did not answer: look again next time."""
        ...


class PeerAway(HubError):
    """A node does not answer. refused: nobody listens at its address, so it is dead."""

    def __init__(self, place: Place, reason: str, *, refused: bool = False) -> None:
        super().__init__(f"node {place.node} at {place.address}: {reason}")
        self.refused = refused


class PeerRefused(HubError):
    """A node answers, and says no. status: of HTTP; `words`: its own."""

    def __init__(self, place: Place, status: int, words: str) -> None:
        super().__init__(f"node {place.node} at {place.address}: {status} {words}")
        self.status = status
        self.words = words
