"""The ports of a gateway or an edge. Opens them once for all worker processes."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.channels.addresses import OpenPorts
from gateway.lib.sockets import listen, listen_shared, port_of
from gateway.settings import Settings

EDGE_LISTENERS: Final = frozenset({"rtmp", "rtmps", "http", "https", "admin"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A listener. first: True if only the first worker has it."""

    name: str
    host: str
    port: int
    first: bool = False


def gateway_endpoints(settings: Settings) -> list[Endpoint]:
    """Returns the listeners of a gateway."""
    return [Endpoint(one.name, one.host, one.port, one.name == "admin") for one in settings.listeners()]


def edge_endpoints(settings: Settings) -> list[Endpoint]:
    """Returns the listeners of an edge: those of a gateway without the ones that only take pushes."""
    return [one for one in gateway_endpoints(settings) if one.name in EDGE_LISTENERS]


@dataclass(slots=True)
class OpenSockets:
    """The listening sockets of all workers.

    They stay open while workers are replaced, so a client that connects meanwhile waits.
    """

    ports: OpenPorts
    _sockets: Mapping[str, list[list[socket.socket]]] = field(repr=False)

    @classmethod
    def open(cls, endpoints: Sequence[Endpoint], workers: int) -> OpenSockets:
        """Opens all listeners. Raises ListenError; then nothing is open."""
        sockets: dict[str, list[list[socket.socket]]] = {}
        opened = cls(OpenPorts(), sockets)
        try:
            for one in endpoints:
                if one.first:
                    sockets[one.name] = [listen(one.name, one.host, one.port)]
                else:
                    sockets[one.name] = listen_shared(one.name, one.host, one.port, workers)
        except BaseException:
            opened.close()
            raise
        opened.ports = OpenPorts(**{name: port_of(found[0]) for name, found in sockets.items()})
        return opened

    def of(self, number: int) -> dict[str, tuple[int, ...]]:
        """Returns the descriptors of one slot's sockets, by listener. number: of the slot, from 1."""
        return {
            name: tuple(one.fileno() for one in sockets[number - 1])
            for name, sockets in self._sockets.items()
            if number <= len(sockets)
        }

    def close(self) -> None:
        for one in (one for slots in self._sockets.values() for found in slots for one in found):
            one.close()
