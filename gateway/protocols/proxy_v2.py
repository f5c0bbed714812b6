"""PROXY protocol v2: a load balancer sends the client's address before the first byte of the connection."""

import ipaddress
from dataclasses import dataclass
from typing import Final

from gateway.protocols.errors import RemoteProtocolError

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
PREFIX_BYTES: Final = 16  # signature, version and command, family and protocol, length
MAX_HEADER: Final = 4096  # addresses and TLVs; typical headers have a few hundred bytes

_ADDRESSES = {0x11: 12, 0x21: 36}  # TCP over IPv4, TCP over IPv6: source, destination, both ports


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """The content of a header.

    local: whether it is a health check of the balancer (LOCAL).
    client: the client's address; None for LOCAL and for families without addresses.
    """

    local: bool
    client: str | None


def remaining(prefix: bytes) -> int:
    """Returns how many bytes follow the first PREFIX_BYTES bytes of a header.

    Raises RemoteProtocolError if the header is not valid.
    """
    if prefix[:12] != SIGNATURE:
        raise RemoteProtocolError("the PROXY v2 header is missing")
    if prefix[12] >> 4 != 2 or prefix[12] & 15 > 1:
        raise RemoteProtocolError(f"PROXY version or command {prefix[12]:#04x}")
    length = int.from_bytes(prefix[14:16], "big")
    if length > MAX_HEADER:
        raise RemoteProtocolError(f"PROXY header of {length} bytes")
    return length


def parse(header: bytes) -> ProxyHeader:
    """Reads a whole header, including its prefix. Skips TLVs. Raises RemoteProtocolError if it is malformed."""
    if len(header) < PREFIX_BYTES or len(header) != PREFIX_BYTES + remaining(header[:PREFIX_BYTES]):
        raise RemoteProtocolError("PROXY header of the wrong length")
    if header[12] & 15 == 0:  # "the connection was established on purpose by the proxy without being relayed"
        return ProxyHeader(local=True, client=None)
    family = header[13]
    address_bytes = _ADDRESSES.get(family)
    if address_bytes is None:  # UNSPEC, UDP, UNIX: "the receiver should ignore the address information"
        return ProxyHeader(local=False, client=None)
    if len(header) < PREFIX_BYTES + address_bytes:
        raise RemoteProtocolError("PROXY header shorter than its addresses")
    size = 4 if family == 0x11 else 16
    address = ipaddress.ip_address(header[PREFIX_BYTES : PREFIX_BYTES + size])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return ProxyHeader(local=False, client=str(mapped or address))
