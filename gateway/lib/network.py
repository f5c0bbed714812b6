"""Groups client addresses into networks for limits by address."""

import ipaddress
from functools import lru_cache


def client_network(address: str) -> str:
    """Returns the key under which the uses of an address are counted.

    IPv4: the address itself, also if it is mapped into IPv6. IPv6: its /64, because a subscriber has at least one
    (RFC 6177). A zone (`%eth0`) is removed.
    """
    return address if ":" not in address else _of_ipv6(address)


@lru_cache(maxsize=4096)
def _of_ipv6(address: str) -> str:
    """Returns the network of an IPv6 address. Returns other text unchanged."""
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))


def url_host(host: str) -> str:
    """Returns a host as URLs have it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def own_listener(host: str) -> str:
    """Returns the address at which this machine reaches its listener on a host. One on `::` accepts IPv4, too."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: a loopback address or localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
