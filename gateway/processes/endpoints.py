"""Opens the ports of a gateway or an edge once for all processes of the node."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from gateway.channels.addresses import OpenPorts
from gateway.lib.sockets import ListenError, listen, listen_shared, port_of
from gateway.settings import Settings
from gateway.settings.models import ListenAddress, PortSharing
from gateway.webrtc.sockets import WebRtcSockets, open_port

_MAX_PORT: Final = 65_535


def edge_endpoints(settings: Settings) -> list[ListenAddress]:
    """Returns the listeners of an edge: those of a gateway except listeners that only accept pushes."""
    return [address for address in settings.listeners() if address.is_for_edges]


@dataclass(slots=True)
class OpenSockets:
    """The listening sockets of all slots. Each slot has one process of the node.

    The sockets stay open while the processes are replaced.
    """

    ports: OpenPorts
    _sockets: Mapping[str, list[list[socket.socket]]] = field(repr=False)
    _webrtc: list[WebRtcSockets] = field(default_factory=list, repr=False)
    _shared: set[socket.socket] = field(default_factory=set, repr=False)  # the sockets on ports that all slots share

    @classmethod
    def open(cls, addresses: Sequence[ListenAddress], workers: int) -> OpenSockets:
        """Opens all listeners. Raises ListenError if one cannot be opened; then closes the others."""
        sockets: dict[str, list[list[socket.socket]]] = {}
        opened = cls(OpenPorts(), sockets)
        try:
            for address in addresses:
                name, host, port = address.name, address.host, address.port
                match address.sharing:
                    case PortSharing.OWN_PORTS:
                        if port + workers - 1 > _MAX_PORT:
                            raise ListenError(f"{name}: {name}.port + serve.workers - 1 is above {_MAX_PORT}")
                        sockets[name] = []
                        for number in range(workers):
                            bound = open_port(host, port, number)
                            opened._webrtc.append(bound)
                            sockets[name].append(bound.all)
                    case PortSharing.FIRST:
                        sockets[name] = [listen(name, host, port)]
                    case PortSharing.ONE_PORT:
                        sockets[name] = listen_shared(name, host, port, workers, address.transports[0])
                        opened._shared.update(sock for slot in sockets[name] for sock in slot)
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
        """Takes the TCP sockets of a slot out of their SO_REUSEPORT groups. The slot's next process listens again.

        The kernel then gives new connections to the other slots. Connections that wait in these sockets are reset.
        UDP sockets stay in their groups. Otherwise the clients of the other slots would change their processes too.
        """
        for slots in self._sockets.values():
            for sock in slots[number - 1] if len(slots) > 1 else ():
                if sock in self._shared and sock.type == socket.SOCK_STREAM:
                    with suppress(OSError):  # the socket does not listen
                        sock.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        for slots in self._sockets.values():
            for sockets in slots:
                for sock in sockets:
                    sock.close()
