"""Counters of one endpoint. The metrics read them."""

from collections import Counter
from enum import StrEnum


class Dropped(StrEnum):
    """Why a packet was dropped."""

    MALFORMED = "malformed"  # no STUN, DTLS, SRTP or SRTCP, or an invalid one
    UNKNOWN_ADDRESS = "unknown_address"  # not a check, and the address has no peer
    UNAUTHORIZED = "unauthorized"  # a check with wrong credentials
    ADDRESS_IN_USE = "address_in_use"  # a check from the address of another peer
    EARLY = "early"  # SRTP before the keys exist
    SRTP = "srtp"  # forged, repeated or too old
    RTCP = "rtcp"  # above the limit of its peer
    HANDSHAKES = "handshakes"  # too many handshakes wait
    SEND_BUFFER = "send_buffer"  # outgoing: the buffer of the kernel or connection is full, or no route
    UNVERIFIED = "unverified"  # outgoing: too many bytes for an address that is not verified
    UNSENDABLE = "unsendable"  # outgoing: too old to be sent again, or too long
    NOT_CONNECTED = "not_connected"  # outgoing: no keys or no path


class EndpointCounters:
    """The counters of an endpoint.

    datagrams_in, bytes_in: all received.
    datagrams_out, bytes_out: media and RTCP that were sent.
    dropped: packets, by `Dropped`. refused: peers that were not opened, and TCP connections that were not accepted or
    were closed for others.
    """

    __slots__ = ("bytes_in", "bytes_out", "connected", "datagrams_in", "datagrams_out", "dropped", "ended", "refused")

    def __init__(self) -> None:
        self.datagrams_in = 0
        self.bytes_in = 0
        self.datagrams_out = 0
        self.bytes_out = 0
        self.connected = 0  # handshakes that were finished
        self.refused = 0
        self.dropped: Counter[Dropped] = Counter()
        self.ended: Counter[str] = Counter()  # peers, by PeerEnd
