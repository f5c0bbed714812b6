"""The interface of a peer's handler, and the reasons for which a peer ends."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol


class PeerEnd(StrEnum):
    """Why a peer ended."""

    CLOSED = "closed"  # by us
    CLOSED_BY_PEER = "closed_by_peer"
    CONNECT_TIMEOUT = "connect_timeout"  # no finished handshake in time
    REPLACED = "replaced"  # no finished handshake when another client needed the place
    CONSENT_EXPIRED = "consent_expired"  # no answer to our checks, see `Peer`
    HANDSHAKE_FAILED = "handshake_failed"
    WRONG_FINGERPRINT = "wrong_fingerprint"  # the certificate is not that of the offer
    HANDLER_FAILED = "handler_failed"  # its handler raised an exception
    SHUTDOWN = "shutdown"  # of the endpoint


class PeerHandler(Protocol):
    """Gets the events of one peer, on the event loop. No method may block."""

    @property
    def is_patient(self) -> bool:
        """Whether its packets may come up to 50 ms late."""

    def connected(self) -> None:
        """The handshake is finished, the fingerprint is right, and packets can be sent."""

    def rtp(self, packets: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """Authentic RTP packets, decrypted, in the order in which they came. arrivals: monotonic seconds of each."""

    def rtcp(self, packet: bytes, now: float) -> None:
        """An authentic compound RTCP packet, decrypted. now: monotonic seconds."""

    def closed(self, reason: PeerEnd) -> None:
        """The end, once, whoever caused it. The peer has left the endpoint already."""
