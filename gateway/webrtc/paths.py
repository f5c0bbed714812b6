"""Paths to a peer: a remote address and the transport to it. Limits the bytes to an address that is not verified."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal


class Path(ABC):
    """One way to send to a peer.

    A sender may forge its source address. So a path gets no more bytes than came from it, until the receiver has
    shown that it reads them: it answered our check, finished the DTLS handshake, or it has a TCP connection. For a
    client with a key, the first check counts twice.

    address: of the peer, without a zone; IPv4 also if the socket is an IPv6 socket.
    verified: whether the receiver has shown this.
    heard: monotonic time of the peer's last authentic check or answer.
    proved: monotonic time at which the receiver showed it last; of an unverified path, time of its first check.
    """

    __slots__ = (
        "_surplus", "address", "check", "check_pause", "check_sent", "check_tries", "heard", "port", "proved",
        "verified",
    )  # fmt: skip

    protocol: ClassVar[Literal["udp", "tcp"]]

    def __init__(self, address: str, port: int, now: float) -> None:
        self.address = address
        self.port = port
        self.heard = self.proved = now
        self.verified = False
        self.check = b""  # transaction of our check that waits for its answer; empty: none
        self.check_sent = -math.inf
        self.check_pause = 0.0  # seconds from the last check to the next one, if the path is verified
        self.check_tries = 0
        self._surplus = 0  # bytes received minus bytes sent, while the path is not verified

    def received(self, size: int) -> None:
        """Counts bytes of the peer."""
        self._surplus += size

    def allows(self, size: int) -> bool:
        """Whether `size` bytes may be sent now."""
        return self.verified or self._surplus >= size

    def send(self, datagrams: Sequence[bytes]) -> int:
        """Sends datagrams. Returns how many the transport took; the rest are dropped. Hot path."""
        if not self.verified:
            allowed: list[bytes] = []
            for datagram in datagrams:
                if self._surplus < len(datagram):
                    break
                self._surplus -= len(datagram)
                allowed.append(datagram)
            datagrams = allowed
        return self._write(datagrams) if datagrams else 0

    def send_run(self, run: memoryview, size: int) -> int:
        """Sends datagrams of `size` bytes, the last one maybe shorter. Returns how many were taken. Hot path.

        The path must be verified. The bytes of `run` change after this call.
        """
        return self._write([bytes(run[at : at + size]) for at in range(0, len(run), size)])

    @abstractmethod
    def _write(self, datagrams: Sequence[bytes]) -> int:
        """Gives datagrams to the transport. Returns how many it took."""
