"""UdpPath: a path to a peer over one of the endpoint's UDP sockets. Peers share these sockets."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from gateway.http.forwarded import plain_address
from gateway.listeners.datagrams import Address
from gateway.listeners.udp_socket import UdpSocket
from gateway.webrtc.paths import Path


class UdpPath(Path):
    """A path over UDP."""

    __slots__ = ("_socket", "_to")

    protocol: ClassVar[Literal["udp", "tcp"]] = "udp"

    def __init__(self, udp: UdpSocket, address: Address, now: float) -> None:
        super().__init__(plain_address(address[0]), address[1], now)
        self._socket = udp
        self._to = address

    @property
    def key(self) -> tuple[UdpSocket, Address]:
        """Identifies the path among those of the endpoint."""
        return self._socket, self._to

    def send_run(self, run: memoryview, size: int) -> int:
        return self._socket.send_run(run, size, self._to)

    def _write(self, datagrams: Sequence[bytes]) -> int:
        return self._socket.send(datagrams, self._to)
