"""Opens the ports of WebRTC: UDP and TCP with the same number."""

import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Self

import structlog

from gateway.lib.sockets import ListenError, listen, port_of

log = structlog.get_logger(__name__)

DEFAULT_PORT: Final = 8189
_ATTEMPTS: Final = 16  # to find a port that is free for UDP and TCP


@dataclass(frozen=True, slots=True)
class WebRtcSockets:
    """Bound UDP sockets and listening TCP sockets, one of each for each address of the host, all on `port`.

    default_error: why the default port is not used; empty if it is used or was not requested.
    """

    udp: tuple[socket.socket, ...]
    tcp: tuple[socket.socket, ...]
    port: int
    default_error: str = ""

    @classmethod
    def of(cls, sockets: Iterable[socket.socket]) -> Self:
        """Returns the sockets that another process opened. sockets: what its `all` returned."""
        udp = tuple(opened for opened in sockets if opened.type == socket.SOCK_DGRAM)
        tcp = tuple(opened for opened in sockets if opened.type == socket.SOCK_STREAM)
        return cls(udp, tcp, port_of(list(tcp)))

    @property
    def all(self) -> list[socket.socket]:
        return [*self.tcp, *self.udp]

    def warn(self) -> None:
        """Logs that the port is not the default one. Call it last, so that a failed start logs only its error."""
        if self.default_error:
            text = "the default port of WebRTC is in use, so another one is open"
            log.warning(text, port=self.port, reason=self.default_error)

    def close(self) -> None:
        for opened in self.all:
            opened.close()


def open_sockets(host: str, port: int) -> WebRtcSockets:
    """Opens the sockets of an address. port: 0 means any free one. Raises ListenError."""
    for attempt in range(1, _ATTEMPTS + 1):
        tcp = listen("webrtc", host, port)
        chosen = port_of(tcp)
        try:
            udp = listen("webrtc", host, chosen, "udp")
        except ListenError:
            for opened in tcp:
                opened.close()
            if port == 0 and attempt < _ATTEMPTS:
                continue  # free for TCP, in use for UDP
            raise
        return WebRtcSockets(tuple(udp), tuple(tcp), chosen)
    raise AssertionError("the last attempt returns or raises")


def open_port(host: str, port: int, number: int = 0) -> WebRtcSockets:
    """Opens the sockets of one process. number: of the process, from 0; each has a port of its own.

    If the default port is in use, another one is opened: several gateways may run on one machine, and clients learn the
    port from the answer to their offer. Call `warn` of the result. Raises ListenError.
    """
    try:
        return open_sockets(host, port and port + number)
    except ListenError as error:
        if port != DEFAULT_PORT:
            raise
        return replace(open_sockets(host, 0), default_error=str(error))
