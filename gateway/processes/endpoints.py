"""Opens the ports of a gateway or an edge once for all worker processes."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from gateway.channels.addresses import OpenPorts
from gateway.lib.sockets import ListenError, listen, listen_shared, port_of
from gateway.settings import Settings
from gateway.webrtc.sockets import WebRtcSockets, open_port

EDGE_LISTENERS: Final = frozenset({"rtmp", "rtmps", "http", "https", "webrtc", "admin"})
WEBRTC: Final = "webrtc"  # each worker has a port of its own, because all packets of a viewer must reach one worker
_MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A listener: its name, host and port. first: True if only the first worker opens it."""

    name: str
    host: str
    port: int
    first: bool = False


def gateway_endpoints(settings: Settings) -> list[Endpoint]:
    """Returns the listeners of a gateway."""
    return [Endpoint(a.name, a.host, a.port, a.name == "admin") for a in settings.listeners()]


def edge_endpoints(settings: Settings) -> list[Endpoint]:
    """Returns the listeners of an edge: those of a gateway except listeners that only accept pushes."""
    return [endpoint for endpoint in gateway_endpoints(settings) if endpoint.name in EDGE_LISTENERS]


@dataclass(slots=True)
class OpenSockets:
    """The listening sockets of all workers.

    They stay open while workers are replaced.
    """

    ports: OpenPorts
    _sockets: Mapping[str, list[list[socket.socket]]] = field(repr=False)
    _webrtc: list[WebRtcSockets] = field(default_factory=list, repr=False)

    @classmethod
    def open(cls, endpoints: Sequence[Endpoint], workers: int) -> OpenSockets:
        """Opens all listeners. Raises ListenError if one cannot be opened; then closes the others."""
        sockets: dict[str, list[list[socket.socket]]] = {}
        opened = cls(OpenPorts(), sockets)
        try:
            for endpoint in endpoints:
                if endpoint.name == WEBRTC:
                    if endpoint.port + workers - 1 > _MAX_PORT:
                        raise ListenError(f"webrtc: webrtc.port + serve.workers - 1 is above {_MAX_PORT}")
                    sockets[endpoint.name] = []
                    for number in range(workers):
                        bound = open_port(endpoint.host, endpoint.port, number)
                        opened._webrtc.append(bound)
                        sockets[endpoint.name].append(bound.all)
                elif endpoint.first:
                    sockets[endpoint.name] = [listen(endpoint.name, endpoint.host, endpoint.port)]
                else:
                    sockets[endpoint.name] = listen_shared(endpoint.name, endpoint.host, endpoint.port, workers)
        except BaseException:
            opened.close()
            raise
        opened.ports = OpenPorts(**{name: port_of(slots[0]) for name, slots in sockets.items()})
        return opened

    def warn(self) -> None:
        """Logs which ports are not the default ones, see WebRtcSockets."""
        for bound in self._webrtc:
            bound.warn()

    def of(self, number: int) -> dict[str, tuple[int, ...]]:
        """Returns the descriptors of the sockets of one slot, by listener. number: of the slot, from 1."""
        return {
            name: tuple(sock.fileno() for sock in slots[number - 1])
            for name, slots in self._sockets.items()
            if number <= len(slots)
        }

    def stop_listening(self, number: int) -> None:
        """Takes the sockets of a slot out of the groups of their ports. Its next worker listens again.

        The kernel then gives new connections to the other slots. Connections that wait in these sockets are reset.
        """
        for name, slots in self._sockets.items():
            if len(slots) > 1 and name != WEBRTC:
                for sock in slots[number - 1]:
                    with suppress(OSError):  # it does not listen
                        sock.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        for slots in self._sockets.values():
            for sockets in slots:
                for sock in sockets:
                    sock.close()
