"""The address of a pull over UDP: `udp://[source@]address:port` or `rtp://…`, with numeric addresses."""

import ipaddress
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from gateway.lib.egress import UDP

Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

LOWEST_PORT: Final = 1024  # the ports below belong to services of the system


@dataclass(frozen=True, slots=True)
class UdpAddress:
    """Where the datagrams arrive: a multicast group, or a local address.

    source: the only sender whose datagrams are taken; None: any.
    """

    is_rtp: bool
    address: Ip
    port: int
    source: Ip | None


def parse_udp_address(url: str) -> UdpAddress:
    """Returns the parts of an address. Raises ValueError."""
    parts = urlsplit(url)
    scheme, user = parts.scheme.lower(), parts.netloc.rpartition("@")[0]
    if scheme not in UDP or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"expected {scheme}://[source@]address:port without parameters")
    if parts.port is None or parts.port < LOWEST_PORT:
        raise ValueError(f"{scheme}:// needs a port from {LOWEST_PORT} to 65535")
    try:
        address = ipaddress.ip_address(parts.hostname or "")
        source = ipaddress.ip_address(user.strip("[]")) if user else None
    except ValueError:
        raise ValueError(f"{scheme}:// needs an IP address: that of a multicast group, or a local one") from None
    if source is not None and (source.version != address.version or source.is_multicast):
        raise ValueError("the source before @ is the IP address of the sender")
    return UdpAddress(scheme == "rtp", address, parts.port, source)
