"""Endpoints: the ports of a gateway, and opening them once for all of its workers."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.hub.addresses import Ports
from gateway.servers.listen import listen, listen_shared, port_of
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A listener. first: only the first worker has it."""

    name: str
    host: str
    port: int
    first: bool = False


def of_gateway(settings: Settings) -> list[Endpoint]:
    """What a gateway opens, by the names of Ports."""
    rtmp, http, ws, admin = settings.rtmp, settings.http, settings.ws, settings.admin
    found = [
        Endpoint("rtmp", rtmp.host, rtmp.port),
        Endpoint("http", http.host, http.port),
        Endpoint("ws", ws.host, ws.port),
    ]
    if settings.has_tls:
        found += [
            Endpoint("rtmps", rtmp.host, settings.rtmps.port),
            Endpoint("https", http.host, settings.https.port),
            Endpoint("wss", ws.host, settings.wss.port),
        ]
    return [*found, Endpoint("admin", admin.host, admin.port, first=True)]


def of_edge(settings: Settings) -> list[Endpoint]:
    """What an edge opens: the same but for pushes from browsers."""
    return [one for one in of_gateway(settings) if one.name not in ("ws", "wss")]


@dataclass(slots=True)
class Opened:
    """The listening sockets of all workers. They stay open while workers come and go: who connects meanwhile waits."""

    ports: Ports
    _shares: Mapping[str, list[list[socket.socket]]] = field(repr=False)

    @classmethod
    def open(cls, endpoints: Sequence[Endpoint], workers: int) -> Opened:
        """Raises ListenError; then nothing is open."""
        shares: dict[str, list[list[socket.socket]]] = {}
        opened = cls(Ports(), shares)
        try:
            for one in endpoints:
                if one.first:
                    shares[one.name] = [listen(one.name, one.host, one.port)]
                else:
                    shares[one.name] = listen_shared(one.name, one.host, one.port, workers)
        except BaseException:
            opened.close()
            raise
        opened.ports = Ports(**{name: port_of(found[0]) for name, found in shares.items()})
        return opened

    def of(self, number: int) -> dict[str, tuple[int, ...]]:
        """The descriptors of one slot's sockets, by listener."""
        return {
            name: tuple(one.fileno() for one in shares[number - 1])
            for name, shares in self._shares.items()
            if number <= len(shares)
        }

    def close(self) -> None:
        for share in (share for shares in self._shares.values() for share in shares):
            for one in share:
                one.close()
