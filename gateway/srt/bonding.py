"""The listener's part of SRTLA: groups of links, each of which carries one caller of SRT."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from gateway.listeners.datagrams import Address
from gateway.listeners.udp_listener import UdpClient
from gateway.protocols.srt.packets import HEAD_SIZE, ControlType
from gateway.protocols.srt.srtla import ACK_EVERY, NO_GROUP, REG3, GroupIds, SrtlaType, acknowledge, type_of
from gateway.protocols.srt.statistics import LinkPath
from gateway.srt.link import PATH_SECONDS
from gateway.srt.listener_sessions import SrtServer, SrtSession

log = structlog.get_logger(__name__)

MAX_LINKS: Final = 8  # of one group
GONE_SECONDS: Final = 60.0  # for which a link that ended is still shown as down
GROUP_SECONDS: Final = 10.0  # without a packet of any link, or after its last connection: then the group ends
_SHARE_SECONDS: Final = 5  # over which the shares of links are told
_ANSWERS: Final = frozenset((0x8000 | ControlType.ACK, 0x8000 | ControlType.NAK))  # go to all links


@dataclass(slots=True, eq=False)
class BondedLink:
    """One address of a group. heard, joined: monotonic times of its last and of its first packet.

    An address may be forged, so it gets no more bytes than came from it.
    """

    client: UdpClient
    heard: float
    joined: float
    credit: int = 0  # bytes received minus bytes sent
    second_bytes: deque[int] = field(
        default_factory=lambda: deque([0], maxlen=_SHARE_SECONDS)
    )  # by second, the newest last
    _numbers: list[bytes] = field(default_factory=list)  # of data packets that are not acknowledged

    def send(self, datagrams: Sequence[bytes]) -> int:
        """Sends what the credit allows. Returns the number of datagrams."""
        allowed: list[bytes] = []
        for datagram in datagrams:
            if self.credit < len(datagram):
                break
            self.credit -= len(datagram)
            allowed.append(datagram)
        return self.client.send(allowed) if allowed else 0

    def note(self, datagram: bytes) -> None:
        """Notes a packet of SRT, and acknowledges ten data packets at once. Hot path."""
        if datagram[0] < 0x80:
            self._numbers.append(datagram[:4])
            if len(self._numbers) == ACK_EVERY:
                self.send((acknowledge(self._numbers),))
                self._numbers.clear()

    def is_up(self, now: float) -> bool:
        return now - self.heard < PATH_SECONDS


class BondedGroup:
    """A caller that uses several links. Implements SrtPeer.

    session: its connections. links: by the client of each address. unused_since: monotonic time of the end of its last
    connection, or of the first refusal; infinite: it has a connection, or nobody has called yet.
    """

    def __init__(self, server: BondingServer, id: bytes, first: UdpClient) -> None:
        self._server = server
        self._id = id
        self._is_accepted = False
        self.address = first.address
        self.unused_since = float("inf")
        self.links: dict[UdpClient, BondedLink] = {}
        self._gone: deque[BondedLink] = deque(maxlen=MAX_LINKS)  # links that ended
        self._last: BondedLink | None = None  # sent the last packet of SRT
        self.session = SrtSession(server.srt, self, ("srtla", id), self.shares)

    def join(self, client: UdpClient) -> bool:
        """Adds a link. Returns False if there are too many."""
        if len(self.links) >= MAX_LINKS:
            return False
        now = time.monotonic()
        self.links[client] = BondedLink(client, now, now)
        if self._is_accepted:
            client.accept()
        return True

    def leave(self, client: UdpClient, reason: str) -> None:
        """Removes a link. Without links, the group ends."""
        link = self.links.pop(client, None)
        if link is not None:
            self._gone.append(link)
        if link is self._last:
            self._last = None
        if not self.links:
            self._server.forget(self._id)
            self.session.closed(reason)

    def receive(self, link: BondedLink, datagrams: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """Takes packets of SRT. Hot path."""
        self._last = link
        self.session.receive(datagrams, arrivals)

    def end(self, reason: str) -> None:
        """Forgets the links."""
        for client in tuple(self.links):
            client.close(reason)

    # ---- SrtPeer ----

    def accept(self) -> None:
        self._is_accepted = True
        self.unused_since = float("inf")
        for client in self.links:
            client.accept()

    def send(self, datagrams: Sequence[bytes]) -> int:
        """Sends acknowledgements and requests on all links that are up, and other packets on the last one."""
        now, last = time.monotonic(), self._last
        to_all = [datagram for datagram in datagrams if int.from_bytes(datagram[:2], "big") in _ANSWERS]
        for link in self.links.values():
            if link is not last and to_all and link.is_up(now):
                link.send(to_all)
        return last.send(datagrams) if last is not None else 0

    def close(self, reason: str) -> None:
        """Keeps the links: a caller comes back on them. Their sender would notice the end only after seconds."""
        self.unused_since = min(self.unused_since, time.monotonic())  # refusals do not prolong it

    def shares(self, now: float) -> tuple[LinkPath, ...]:
        """Returns the state of each link. One that is gone stays for GONE_SECONDS, unless its address came again."""
        lately = [*self.links.values(), *(link for link in self._gone if now - link.heard < GONE_SECONDS)]
        shown = [link for link in lately if not self._is_replaced(link, now)]
        sizes = {link: sum(link.second_bytes) if link.is_up(now) else 0 for link in shown}
        total = sum(sizes.values()) or 1
        # Only the sender of the links measures their round trips.
        return tuple(
            LinkPath(link.client.address, round(100 * size / total, 1), None, "up" if link.is_up(now) else "down")
            for link, size in sizes.items()
        )

    def _is_replaced(self, link: BondedLink, now: float) -> bool:
        """Whether a link is down, and the sender came again from its address, on another port."""
        same = (other for other in self.links.values() if other.client.address == link.client.address)
        return not link.is_up(now) and any(other.joined > link.heard for other in same)


class BondedLinkSession:
    """One address of a group. Implements UdpSession."""

    def __init__(self, server: BondingServer, client: UdpClient) -> None:
        self._server = server
        self._client = client
        self._group: BondedGroup | None = None

    def receive(self, datagrams: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """Hot path."""
        link = self._group.links.get(self._client) if self._group is not None else None
        packets: list[bytes] = []
        times: list[float] = []
        for datagram, arrival in zip(datagrams, arrivals, strict=True):
            if link is not None:
                link.credit += len(datagram)
                link.second_bytes[-1] += len(datagram)
                link.heard = arrival
            kind = type_of(datagram)
            if kind:
                self._control(kind, datagram, link)
            elif link is not None and len(datagram) >= HEAD_SIZE:
                link.note(datagram)
                packets.append(datagram)
                times.append(arrival)
        if packets and link is not None and self._group is not None:
            self._group.receive(link, packets, times)

    def _control(self, kind: int, datagram: bytes, link: BondedLink | None) -> None:
        if kind == SrtlaType.KEEPALIVE and link is not None:
            link.send((datagram,))
        elif kind == SrtlaType.REG2:
            self._register(datagram)

    def _register(self, datagram: bytes) -> None:
        group = self._group or self._server.group_of(datagram, self._client)
        if group is None:
            self._client.send((NO_GROUP,))
            return
        if self._group is None and not group.join(self._client):
            self._client.close("too many links")
            return
        self._group = group
        self._client.send((REG3,))

    def tick(self, now: float) -> None:
        """Called once a second."""
        group = self._group
        if group is None:
            return
        link = group.links.get(self._client)
        if link is None:
            return
        link.second_bytes.append(0)
        if now - max(other.heard for other in group.links.values()) > GROUP_SECONDS:
            group.end("nothing received for too long")
        elif now - group.unused_since > GROUP_SECONDS:
            group.end("no connection for too long")

    def closed(self, reason: str) -> None:
        group, self._group = self._group, None
        if group is not None:
            group.leave(self._client, reason)


class BondingServer:
    """The groups of one process. Implements UdpProtocol. srt: takes the connections."""

    def __init__(self, srt: SrtServer) -> None:
        self.srt = srt
        self._ids = GroupIds()
        self._groups: dict[bytes, BondedGroup] = {}

    def opens(self, datagram: bytes, address: Address) -> bool:
        return self._id_of(datagram) is not None

    def answer(self, datagram: bytes, address: Address) -> bytes | None:
        return self._ids.answer(datagram, time.monotonic())

    def session(self, client: UdpClient, address: Address) -> BondedLinkSession:
        return BondedLinkSession(self, client)

    def group_of(self, datagram: bytes, client: UdpClient) -> BondedGroup | None:
        """Returns the group of a REG2, perhaps a new one; None for an id that we did not make."""
        id = self._id_of(datagram)
        if id is None:
            return None
        group = self._groups.get(id)
        if group is None:
            group = self._groups[id] = BondedGroup(self, id, client)
        return group

    def forget(self, id: bytes) -> None:
        self._groups.pop(id, None)

    def _id_of(self, datagram: bytes) -> bytes | None:
        """Returns the id in a REG2. That of a group is valid while the group lives: a lost link comes back with it."""
        id = datagram[2:]
        if type_of(datagram) == SrtlaType.REG2 and id in self._groups:
            return id
        return self._ids.id_of(datagram, time.monotonic())
