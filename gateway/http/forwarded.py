"""Decides which `X-Forwarded-…` headers are trusted, and returns the client, scheme and host that they name."""

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_HOPS = 32
# Traefik writes ws and wss for WebSockets.
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


def plain_address(text: str) -> str:
    """Returns an address in its normal form for counts and comparisons. Other text stays unchanged.

    IPv4 in IPv6 becomes IPv4; a zone is removed.
    """
    bare = text.partition("%")[0]
    if ":" not in bare:
        return bare
    try:
        address = ipaddress.IPv6Address(bare)
    except ValueError:
        return bare
    return str(address.ipv4_mapped or address)


class Forwarded:
    """The networks of trusted proxies. It caches the results for the last 4,096 addresses.

    networks: the networks; if there are none, no header is trusted.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        self.networks = tuple(networks)
        self._trusts = lru_cache(maxsize=4096)(self._is_listed)

    def trusts(self, address: str) -> bool:
        """Whether `address` (plain) belongs to a listed proxy."""
        return bool(self.networks) and self._trusts(address)

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """Returns the plain address of the client behind `peer`.

        It is the first untrusted address in `X-Forwarded-For`, from the right. A malformed entry ends the search: then
        the client is the address that forwarded this entry.
        """
        chain = headers.get("x-forwarded-for")
        if chain is None or not self.trusts(peer):
            return peer
        client = peer
        for entry in reversed(chain.rsplit(",", _MAX_HOPS)[-_MAX_HOPS:]):
            address = _entry_address(entry)
            if address is None:
                return client
            client = address
            if not self.trusts(client):
                return client
        return client

    def scheme(self, peer: str, headers: Mapping[str, str], scheme: str) -> str:
        """Returns the scheme that the client uses: http or https of the nearest trusted proxy, otherwise `scheme`."""
        if self.trusts(peer):
            forwarded = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
            return _SCHEMES.get(forwarded, scheme)
        return scheme

    def host(self, peer: str, headers: Mapping[str, str], host: str) -> str:
        """Returns the host that the client asks for: that of the nearest trusted proxy, otherwise `host`."""
        forwarded = headers.get("x-forwarded-host", "") if self.trusts(peer) else ""
        return forwarded.rpartition(",")[2].strip() or host

    def _is_listed(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)


def _entry_address(text: str) -> str | None:
    """Returns the plain address of one entry: `192.0.2.1`, `192.0.2.1:1234`, `2001:db8::1`, `[2001:db8::1]:1234`."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return plain_address(str(ipaddress.ip_address(text.partition("%")[0])))
    except ValueError:
        return None
