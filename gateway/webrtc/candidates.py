"""ICE candidates of the endpoint (RFC 8839 §5.1, RFC 6544 §4): values of `a=candidate` lines."""

import ipaddress
from collections.abc import Iterable
from typing import Final

MAX_ADDRESSES: Final = 16  # candidates of a machine with more addresses would delay clients
_UDP_PREFERENCE: Final = 126  # RFC 8445 §5.1.2.2: of a host candidate
# RFC 6544 §4.2: UDP should be preferred, so TCP has a lower type preference.
_TCP_PREFERENCE: Final = 90
_TCP_PASSIVE: Final = 4  # direction preference of a passive host candidate
_COMPONENT: Final = 1  # RTP and RTCP share one component (RFC 8843)


def candidate_lines(addresses: Iterable[str], port: int) -> list[str]:
    """Returns a UDP and a TCP candidate of each address, the UDP ones first. addresses: best first, IPv4 or IPv6."""
    chosen = list(dict.fromkeys(addresses))[:MAX_ADDRESSES]
    udp, tcp = [], []
    for number, address in enumerate(chosen):
        local = 65_535 - number
        priority = _UDP_PREFERENCE << 24 | local << 8 | 256 - _COMPONENT
        udp.append(f"u{number} {_COMPONENT} udp {priority} {address} {port} typ host")
        local = (_TCP_PASSIVE << 13) + 8_191 - number
        priority = _TCP_PREFERENCE << 24 | local << 8 | 256 - _COMPONENT
        tcp.append(f"t{number} {_COMPONENT} tcp {priority} {address} {port} typ host tcptype passive")
    return udp + tcp


def usable_address(text: str) -> str | None:
    """Returns an address in its normal form; None if it is a name, or no client can send to it.

    Removes brackets, the zone, and the IPv6 form of an IPv4 address.
    """
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_unspecified or address.is_multicast or (address.version == 6 and address.is_link_local):
        return None
    return str(address)
