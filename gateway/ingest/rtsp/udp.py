"""The two UDP ports of a process for RTP and RTCP, which all sessions of RTSP share."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from gateway.http.forwarded import plain_address
from gateway.listeners.datagrams import Address, reached_from
from gateway.listeners.udp_socket import UdpSocket


@dataclass(slots=True, eq=False)
class UdpTrack:
    """One track of a session over UDP.

    host: the address of the client's connection. Only it gets packets, and only its packets are read.
    ports: of the client, for RTP and RTCP. If a NAT changes them, they become those from which its packets come.
    payload_type: of the packets that the client sends; None: it sends none.
    take: gets each datagram, and whether it is RTCP.
    own: our address that the client has called, from which it expects packets; "": any.
    addresses: those to which the last packets went, as sockets take them.
    """

    host: str
    ports: list[int]
    payload_type: int | None
    take: Callable[[bytes, bool], None]
    own: str = ""
    addresses: list[Address] = field(default_factory=lambda: [(), ()], init=False)


class RtspUdp:
    """Two bound ports on each address of a host. The sessions close before it.

    A client is found by its address and port. A packet of another port of the same address belongs to the first track
    of this address from whose port nothing came yet: its client is behind a NAT. port: of RTP; RTCP has the next one.
    """

    def __init__(self, rtp: Sequence[socket.socket], rtcp: Sequence[socket.socket], port: int) -> None:
        self.port = port
        self._sockets = [
            [UdpSocket(opened, partial(self._receive, which)) for opened in sockets]
            for which, sockets in enumerate((rtp, rtcp))
        ]
        self._is_ipv6 = [opened.family == socket.AF_INET6 for opened in rtp]
        # Tracks from whose port nothing came yet, in order, by which port of ours and the client's address.
        self._waiting: dict[tuple[int, str], dict[UdpTrack, None]] = {}
        self._clients: dict[tuple[int, str, int], UdpTrack] = {}  # by which port of ours, the client's address and port

    def start(self) -> None:
        """Begins to read."""
        for sockets in self._sockets:
            for udp in sockets:
                udp.start()

    async def finish(self) -> None:
        for sockets in self._sockets:
            for udp in sockets:
                udp.close()

    def add(self, track: UdpTrack) -> bool:
        """Begins to receive. Returns False if another track of the address has one of these ports."""
        keys = self._keys(track)
        if any(key in self._clients for key in keys):
            return False
        self._clients |= dict.fromkeys(keys, track)
        for which in (0, 1):
            self._waiting.setdefault((which, track.host), {})[track] = None
        return True

    def remove(self, track: UdpTrack) -> None:
        """Ends receiving. It was added."""
        for key in self._keys(track):
            del self._clients[key]
            self._confirm(track, key[0])

    def _confirm(self, track: UdpTrack, which: int) -> None:
        """Ends the wait for a track's first packet."""
        waiting = self._waiting.get((which, track.host))
        if waiting is not None:
            waiting.pop(track, None)
            if not waiting:
                del self._waiting[which, track.host]

    @staticmethod
    def _keys(track: UdpTrack) -> list[tuple[int, str, int]]:
        return [(which, track.host, port) for which, port in enumerate(track.ports)]

    def send(self, track: UdpTrack, which: int, packets: Sequence[bytes]) -> None:
        """Sends packets: 0: of RTP, 1: of RTCP. What the kernel does not take is lost. Hot path."""
        udp, mapped = self._socket_for(which, track.host)
        address, port = track.addresses[which], track.ports[which]
        if not address or address[1] != port:
            address = mapped + track.host, port
            address = reached_from(address, mapped + track.own) if track.own else address
            track.addresses[which] = address
        udp.send(packets, address)

    def _socket_for(self, which: int, host: str) -> tuple[UdpSocket, str]:
        """Returns the socket of the address family of a client, and what is before addresses there."""
        wants_ipv6 = ":" in host
        for udp, is_ipv6 in zip(self._sockets[which], self._is_ipv6, strict=True):
            if is_ipv6 == wants_ipv6:
                return udp, ""
        return self._sockets[which][0], "" if wants_ipv6 else "::ffff:"

    def _receive(
        self, which: int, udp: UdpSocket, address: Address, datagrams: Sequence[bytes], arrivals: Sequence[float]
    ) -> bool:
        """Gives datagrams to the track of their sender. Those of unknown senders cost nothing. Hot path."""
        track = self._track_of(which, plain_address(address[0]), address[1], datagrams[0])
        if track is not None:
            for datagram in datagrams:
                track.take(datagram, which == 1)
        return True

    def _track_of(self, which: int, host: str, port: int, datagram: bytes) -> UdpTrack | None:
        track = self._clients.get((which, host, port))
        if track is None:
            track = next((t for t in self._waiting.get((which, host), ()) if _may_be_of(t, which, datagram)), None)
            if track is None:
                return None
            del self._clients[which, host, track.ports[which]]
            track.ports[which] = port
            self._clients[which, host, port] = track
        if self._waiting:
            self._confirm(track, which)
        return track


def _may_be_of(track: UdpTrack, which: int, datagram: bytes) -> bool:
    """Whether a datagram of another port may be the first of a track. A player opens its NAT with any bytes."""
    known = which == 0 and track.payload_type is not None
    return not known or (len(datagram) > 1 and datagram[1] & 0x7F == track.payload_type)
