"""A sender of SRTLA: one caller of SRT on several links."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

_REG1, _REG2, _REG3, _KEEPALIVE, _ACK, _NO_GROUP = (
    bytes.fromhex(text) for text in ("9200", "9201", "9202", "9000", "9100", "9211")
)
_LEAST_WINDOW, _FIRST_WINDOW, _MOST_WINDOW = 1.0, 20.0, 60.0
_SILENT = 4.0  # seconds after which a link is registered again
MAINTAIN_SECONDS = 0.5


@dataclass(eq=False)
class _Bonded:
    """A link of the sender, by its source address. window: packets that may be in flight.

    carried: when it carried a packet last, by the number of each that SRT has not acknowledged.
    """

    address: str
    window: float = _FIRST_WINDOW
    flying: set[int] = field(default_factory=set)
    carried: dict[int, float] = field(default_factory=dict)
    heard: float = 0.0
    carried_at: float = 0.0
    is_up: bool = False

    @property
    def score(self) -> tuple[float, float]:
        return self.window / (len(self.flying) + 1), -self.carried_at


class SrtlaBonding:
    """Bonds links for one caller of SRT, after the description in BELABOX's README. It does no I/O.

    A data packet goes on the link with the most room; among equal links, on the one that rested longest. A packet that
    is repeated goes on the link that did not carry it, or longest ago: the link with the most room may have died.
    The receiver acknowledges packets of a link, and a full window grows then. A request for a packet makes the window
    of the link smaller that carried it.
    links: by address. to_links: datagrams to send, each with the address of its link. to_caller: datagrams for the
    caller. The owner takes both after each call, and calls `maintain` every MAINTAIN_SECONDS.
    """

    def __init__(self, *addresses: str) -> None:
        self.to_links: list[tuple[str, bytes]] = []
        self.to_caller: list[bytes] = []
        self.links = {address: _Bonded(address) for address in addresses}
        self._half, self._id = os.urandom(256), b""

    def maintain(self, now: float) -> None:
        """Registers the links that are down, and keeps the others."""
        for link in self.links.values():
            if now - link.heard > _SILENT:
                link.is_up = False
                link.flying.clear()
                link.carried.clear()
            if not self._id:
                self._send(link, _REG1 + self._half)
                return
            self._send(link, _KEEPALIVE if link.is_up else _REG2 + self._id)

    def receive(self, address: str, data: bytes, now: float) -> None:
        """Takes a datagram that came on a link."""
        link = self.links[address]
        link.heard = now
        kind = data[:2]
        if kind == _REG2 and not self._id:
            self._id = data[2:]
            for each in self.links.values():
                self._send(each, _REG2 + self._id)
        elif kind == _REG3:
            link.is_up, link.window = True, _FIRST_WINDOW
        elif kind == _NO_GROUP:
            self._id = b""
        elif kind == _ACK:
            for (number,) in struct.iter_unpack(">I", data[4:]):
                full = len(link.flying) >= link.window
                if number in link.flying and full:
                    link.window = min(_MOST_WINDOW, link.window + 1 / 3)
                link.flying.discard(number)
                for each in self.links.values():
                    if each.is_up and each.window < _FIRST_WINDOW:
                        each.window = min(_FIRST_WINDOW, each.window + 1 / 30)
        elif kind != _KEEPALIVE:
            self._answer(data)

    def forward(self, data: bytes, now: float) -> None:
        """Sends a datagram of the caller on the best link. Without a link it is lost."""
        up = [link for link in self.links.values() if link.is_up]
        if not up:
            return
        number = int.from_bytes(data[:4], "big")  # of a data packet
        link = max(up, key=lambda link: (-link.carried.get(number, 0.0), *link.score))
        if data[0] < 0x80:
            link.flying.add(number)
            link.carried[number] = link.carried_at = now
        self._send(link, data)

    def _answer(self, data: bytes) -> None:
        """Passes an answer of SRT on. It also tells what has come, and what is missing."""
        kind = data[:2]
        if kind == b"\x80\x02" and len(data) >= 20:
            number = int.from_bytes(data[16:20], "big")
            for link in self.links.values():
                for passed in [n for n in link.carried if 0 < (number - n) & 0x7FFF_FFFF < 1 << 30]:
                    del link.carried[passed]
                    link.flying.discard(passed)
        elif kind == b"\x80\x03":
            missing = {word & 0x7FFF_FFFF for (word,) in struct.iter_unpack(">I", data[16:])}
            for link in self.links.values():
                for number in missing & link.flying:
                    link.flying.remove(number)
                    link.window = max(_LEAST_WINDOW, link.window - 1)
        self.to_caller.append(data)

    def _send(self, link: _Bonded, data: bytes) -> None:
        self.to_links.append((link.address, data))


class SrtlaSender:
    """`SrtlaBonding` on sockets, in a thread. Each link has a socket of its own source address.

    target: port of the listener. listen: port for the caller; 0: any. port: the one it got. down: addresses of this
    host whose links carry nothing.
    """

    def __init__(self, target: int, *addresses: str, listen: int = 0) -> None:
        self._local = _bound("127.0.0.1", listen)
        self.port: int = self._local.getsockname()[1]
        self.down: set[str] = set()
        self._target = ("127.0.0.1", target)
        self._bonding = SrtlaBonding(*addresses)
        self._links = {address: _bound(address, 0) for address in addresses}
        self._caller: tuple[str, int] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> SrtlaSender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for opened in (self._local, *self._links.values()):
            opened.close()

    def _run(self) -> None:
        maintain_at = 0.0
        addresses = {opened: address for address, opened in self._links.items()}
        while not self._over.is_set():
            ready, _, _ = select.select([self._local, *addresses], [], [], 0.02)
            now = time.monotonic()
            for opened in ready:
                for data, sender in _arrived(opened):
                    if opened is self._local:
                        self._caller = sender
                        self._bonding.forward(data, now)
                    elif addresses[opened] not in self.down:
                        self._bonding.receive(addresses[opened], data, now)
            if now >= maintain_at:
                maintain_at = now + MAINTAIN_SECONDS
                self._bonding.maintain(now)
            self._flush()

    def _flush(self) -> None:
        bonding = self._bonding
        to_links, bonding.to_links = bonding.to_links, []
        for address, data in to_links:
            if address not in self.down:
                with contextlib.suppress(OSError):
                    self._links[address].sendto(data, self._target)
        to_caller, bonding.to_caller = bonding.to_caller, []
        for data in to_caller:
            if self._caller is not None:
                with contextlib.suppress(OSError):
                    self._local.sendto(data, self._caller)


def _bound(host: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setblocking(False)
    opened.bind((host, port))
    return opened


def _arrived(opened: socket.socket) -> Iterator[tuple[bytes, tuple[str, int]]]:
    with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
        for _ in range(64):
            yield opened.recvfrom(2048)
