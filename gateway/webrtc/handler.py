"""The interface of a peer's handler, and the reasons for which a peer ends."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol


class PeerEnd(StrEnum):
    """Why a peer ended."""

    CLOSED = "closed"  # we closed it
    CLOSED_BY_PEER = "closed_by_peer"
    CONNECT_TIMEOUT = "connect_timeout"  # no finished handshake in time
    REPLACED = "replaced"  # no finished handshake when another client needed the place
    CONSENT_EXPIRED = "consent_expired"  # no answer to our checks, see `Peer`
    HANDSHAKE_FAILED = "handshake_failed"
    WRONG_FINGERPRINT = "wrong_fingerprint"  # the certificate does not match the offer
    HANDLER_FAILED = "handler_failed"  # its handler raised an exception
    SHUTDOWN = "shutdown"  # the endpoint shuts down


class PeerHandler(Protocol):
    """Gets the events of one peer, on the event loop. No method may block."""

    @property
    def tolerates_delay(self) -> bool:
        """Whether its packets may come up to 50 ms late."""

    def connected(self) -> None:
        """Called when the handshake is finished and the fingerprint is right: packets can be sent."""

    def receive_rtp(self, packets: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """Takes authentic, decrypted RTP packets in order of arrival. arrivals: monotonic seconds of each."""

    def receive_rtcp(self, packet: bytes, now: float) -> None:
        """Takes an authentic, decrypted compound RTCP packet. now: monotonic seconds."""

    def closed(self, reason: PeerEnd) -> None:
        """Called once at the end, whoever caused it. The endpoint has already forgotten the peer."""
