"""Receives a transport stream over UDP or RTP: from a multicast group, or at a local port."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Sequence
from typing import Final

from gateway.channels.udp_address import UdpAddress, parse_udp_address
from gateway.inputs.descriptor import InputContext, InputServices
from gateway.inputs.pull.program_output import ProgramOutput
from gateway.inputs.pull.pull_parts import peer_of
from gateway.lib.egress import EgressRefused
from gateway.lib.outgoing import os_error_text
from gateway.listeners.datagrams import MAX_DATAGRAM, Address
from gateway.listeners.udp_socket import UdpSocket
from gateway.ports.errors import OutputError
from gateway.protocols.rtp.packets import PacketOrder, parse_packet

_TRANSPORT_STREAM: Final = 33  # the payload type (RFC 3551 §6)
_SSRC: Final = slice(8, 12)
_SENDER_SECONDS: Final = 1.0  # without a datagram of the sender, after which another one is taken
# linux/in.h; socket has no names for them.
_MCAST_JOIN_GROUP: Final = 42
_MCAST_JOIN_SOURCE_GROUP: Final = 46


async def pull_udp(url: str, services: InputServices, context: InputContext) -> None:
    """Receives until nothing arrives any more. Raises OutputError, EgressRefused."""
    try:
        address = parse_udp_address(url)
    except ValueError as error:
        raise OutputError(str(error)) from None
    if not services.egress.lists(url):
        raise EgressRefused(f"{address.address}: receiving there is not allowed (egress.allow)")
    async with ProgramOutput(services, context, peer_of(url)) as output:
        receiver = _Receiver(address, output)
        udp = UdpSocket(_open(address), receiver.receive)
        udp.start()
        try:
            await receiver.until_lost()
        finally:
            udp.close()


def _open(address: UdpAddress) -> socket.socket:
    """Returns a bound socket, which has joined the group. Raises OutputError."""
    is_v6, text = address.address.version == 6, str(address.address)
    opened = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        if address.address.is_multicast:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # several channels may take one group
        opened.bind((text, address.port))  # not the wildcard: then other groups of this port would arrive, too
        if address.address.is_multicast:
            _join(opened, address)
    except OSError as error:
        opened.close()
        if error.errno == errno.ENODEV:
            raise OutputError(f"no network interface has a route to {text}") from None
        raise OutputError(f"{text}:{address.port} cannot be received: {os_error_text(error)}") from None
    return opened


def _join(opened: socket.socket, address: UdpAddress) -> None:
    """Joins the group on the interface of its route. With a source, only for this source (RFC 3678 §5.1)."""
    level = socket.IPPROTO_IPV6 if address.address.version == 6 else socket.IPPROTO_IP
    request = struct.pack("@I4x", 0) + _sockaddr(address.address)
    if address.source is None:
        opened.setsockopt(level, _MCAST_JOIN_GROUP, request)
    else:
        opened.setsockopt(level, _MCAST_JOIN_SOURCE_GROUP, request + _sockaddr(address.source))


def _sockaddr(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    """Returns a `sockaddr_storage` without a port."""
    if ip.version == 6:
        return struct.pack("@HHI16sI100x", socket.AF_INET6, 0, 0, ip.packed, 0)
    return struct.pack("@HH4s120x", socket.AF_INET, 0, ip.packed)


class _Receiver:
    """Takes the datagrams of one sender at a time. Others could follow when it has been silent for a second."""

    def __init__(self, address: UdpAddress, output: ProgramOutput) -> None:
        self._source = None if address.source is None else str(address.source)
        self._output = output
        self._order = _RtpOrder() if address.is_rtp else None
        self._sender: Address | None = None
        self._heard = float("-inf")
        self._is_unusable = False  # datagrams came, but none of them had media

    async def until_lost(self) -> None:
        """Waits until the media end. Raises OutputError."""
        try:
            await self._output.until_lost()
        except OutputError:
            if self._is_unusable:
                raise OutputError("its packets are no RTP with MPEG-TS (payload type 33)") from None
            raise

    def receive(self, udp: UdpSocket, address: Address, datagrams: Sequence[bytes], arrivals: Sequence[float]) -> bool:
        """Takes datagrams of one address. Hot path."""
        if not self._takes(address, arrivals):
            return True
        if any(len(datagram) == MAX_DATAGRAM for datagram in datagrams):
            self._is_unusable = False
            self._output.lose(f"its datagrams are too long: send at most {MAX_DATAGRAM - 1} bytes")
            return True
        data = b"".join(datagrams) if self._order is None else self._order.receive(datagrams)
        if not data:
            self._is_unusable = self._order is not None and not self._order.has_media
            return True
        self._is_unusable = False
        self._output.receive(data, arrivals[-1])
        return True

    def _takes(self, address: Address, arrivals: Sequence[float]) -> bool:
        if self._source is not None and address[0] != self._source:
            return False
        if address != self._sender:
            if arrivals[0] - self._heard < _SENDER_SECONDS:
                return False
            self._sender = address
        self._heard = arrivals[-1]
        return True


class _RtpOrder:
    """Puts RTP packets of a transport stream in order. has_media: whether there were any."""

    def __init__(self) -> None:
        self.has_media = False
        self._ssrc = b""
        self._order = PacketOrder()

    def receive(self, datagrams: Sequence[bytes]) -> bytes:
        """Returns the payloads that are in order now. Hot path."""
        ready: list[bytes] = []
        for datagram in datagrams:
            packet = parse_packet(datagram, empty=True)
            if packet is None or packet.payload_type != _TRANSPORT_STREAM:
                continue
            self.has_media = True
            if datagram[_SSRC] != self._ssrc:  # another sender, or a new start
                self._ssrc, self._order = datagram[_SSRC], PacketOrder()
            ready.extend(found.payload for found in self._order.push(packet))
        return b"".join(ready)
