"""The egress policy: the addresses to which the gateway may connect for a channel (relays, pictures) or an alarm.

The check follows the DNS look-up. Public addresses are allowed. Loopback, private, link-local, cloud metadata and
similar addresses are refused, except if `allow` lists them. The caller must connect to the checked addresses: a second
look-up could return others (DNS rebinding).
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from gateway.lib.scheduled_reads import ReadScheduler

Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

HTTP: Final = ("http", "https")
RTMP: Final = ("rtmp", "rtmps")
RTSP: Final = ("rtsp", "rtsps")
SRT: Final = ("srt",)
UDP: Final = ("udp", "rtp")
SMTP: Final = ("smtp",)
MOQ: Final = ("https", "moq", "moqt")
# The usual port of each scheme; 0: none, so an address needs its port.
PORTS: Final = {
    "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443, "rtsp": 554, "rtsps": 322, "smtp": 25,
    "moq": 443, "moqt": 443, "srt": 0, "udp": 0, "rtp": 0,
}  # fmt: skip
_MAX_URL: Final = 2_048
_DNS_SECONDS: Final = 10.0

# Listed here, because `is_global` of the module ipaddress changed between patch releases of Python.
# Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries; RFC 4291, 3056, 6052.
# The first address is the metadata service of AWS. It stands before the private network fc00::/7, which contains it,
# because a name must never allow it (_NEVER_BY_NAME).
_SPECIAL: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ipaddress.ip_network(network), kind)
    for kind, networks in (
        ("a link-local", ("fd00:ec2::254/128", "169.254.0.0/16", "fe80::/10")),
        ("an unspecified", ("0.0.0.0/8", "::/128")),
        ("a loopback", ("127.0.0.0/8", "::1/128")),
        ("a private", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10")),
        ("a carrier's private", ("100.64.0.0/10",)),
        ("a documentation", ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")),
        ("a benchmark", ("198.18.0.0/15",)),
        ("a multicast", ("224.0.0.0/4", "ff00::/8")),
        ("a reserved", ("192.0.0.0/24", "192.88.99.0/24", "240.0.0.0/4", "2001::/23")),
    )
    for network in networks
)
_PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")  # all global unicast addresses that IANA has allocated
_6TO4: Final = ipaddress.IPv6Network("2002::/16")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# Only an entry of `allow` with a network allows these kinds, because a host name could lead to a metadata service.
_NEVER_BY_NAME: Final = ("a link-local", "a multicast", "an unspecified")
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*", re.ASCII)


class EgressRefused(Exception):
    """The policy forbids this address. The message is one line without keys, for logs and for the channel's owner."""


@dataclass(frozen=True, slots=True)
class Address:
    """An allowed address to connect to.

    host: the numeric address.
    name: the host in the URL (for SNI and Host).
    """

    family: socket.AddressFamily
    host: str
    port: int
    name: str


@dataclass(frozen=True, slots=True)
class _Prefix:
    """An allowed URL prefix."""

    scheme: str
    host: str
    port: int
    path: str  # no slash at the end

    def covers(self, scheme: str, host: str, port: int, path: str) -> bool:
        if (scheme, host, port) != (self.scheme, self.host, self.port):
            return False
        plain = unquote(path)
        if any(part in (".", "..") for part in re.split(r"[/\\]", plain)):
            return False  # such a path could leave the prefix
        return not self.path or plain == self.path or plain.startswith(self.path + "/")


class Egress:
    """The egress policy. Raises ValueError for an entry of `allow` that is not valid.

    allow: networks ("10.0.0.0/8", "::1"), hosts ("relay.lan") and URL prefixes ("http://10.1.2.3/pics/") that are
    allowed in addition to public addresses (`egress.allow`).
    reads: schedules the reads of all connections to these addresses.
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        entries = [_entry(text) for text in allow]
        self._networks = tuple(e for e in entries if isinstance(e, ipaddress.IPv4Network | ipaddress.IPv6Network))
        self._hosts = frozenset(e for e in entries if isinstance(e, str))
        self._prefixes = tuple(e for e in entries if isinstance(e, _Prefix))
        self.reads = ReadScheduler()

    async def check(self, url: str, schemes: Sequence[str] = HTTP) -> list[Address]:
        """Resolves the host of the URL and returns its allowed addresses, at least one, in the order of the resolver.

        schemes: schemes that the caller supports, of http, https, rtmp, rtmps, rtsp, rtsps, srt, smtp, moq, moqt.
        Raises EgressRefused. Raises OSError if the name cannot be resolved now.
        """
        parts = _split(url)
        if parts is None or parts.scheme not in schemes:
            raise unsupported(schemes)
        assert parts.hostname is not None, "_split checks it"
        return await self.check_host(parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme], parts.path)

    def lists(self, url: str) -> bool:
        """Whether `allow` lists this address: by prefix, by host, or by the network of a numeric host."""
        parts = _split(url)
        if parts is None or parts.hostname is None:
            return False
        name, port = _plain_host(parts.hostname), parts.port or PORTS[parts.scheme]
        if name in self._hosts or any(p.covers(parts.scheme, name, port, parts.path) for p in self._prefixes):
            return True
        try:
            ip = ipaddress.ip_address(name)
        except ValueError:
            return False
        return any(ip in network for network in self._networks if network.version == ip.version)

    async def check_host(self, scheme: str, host: str, port: int, path: str) -> list[Address]:
        """Like `check`, for the parts of a URL."""
        name = _plain_host(host)
        named = name in self._hosts or any(p.covers(scheme, name, port, path) for p in self._prefixes)
        permitted: list[Address] = []
        refused = ""
        for family, ip in await _resolve(name, port):
            kind = self._refused_kind(ip, named)
            if not kind:
                permitted.append(Address(family, str(ip), port, host))
            elif not refused:
                refused = f"{ip} is {kind} address"
        if not permitted:
            subject = refused if refused.startswith(f"{name} ") else f"{name}: {refused}"
            raise EgressRefused(f"{subject}: connecting there is not allowed (egress.allow)")
        return permitted

    def _refused_kind(self, ip: Ip, named: bool) -> str:
        """Returns the kind of an address that is not allowed, with its article; "" for an allowed address."""
        forms = _forms(ip)
        if any(form in network for form in forms for network in self._networks if form.version == network.version):
            return ""
        for form in forms:
            kind = _kind(form)
            if kind and not (named and kind not in _NEVER_BY_NAME):
                return kind
        return ""


def unsupported(schemes: Sequence[str]) -> EgressRefused:
    """Returns the refusal of a URL without a host or with another scheme."""
    return EgressRefused(f"expected an address with {' or '.join(f'{s}://' for s in schemes)} and a host")


async def _resolve(name: str, port: int) -> list[tuple[socket.AddressFamily, Ip]]:
    """Returns all addresses of a name or of a numeric host. Raises OSError."""
    try:
        async with asyncio.timeout(_DNS_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise OSError(f"{name}: the name could not be resolved within {_DNS_SECONDS:.0f} s") from None
    except (OSError, UnicodeError, ValueError) as error:  # UnicodeError and ValueError: the name is not valid
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no such name"
        raise OSError(f"{name}: {reason}") from None
    addresses = [
        (socket.AddressFamily(family), ipaddress.ip_address(address[0]))
        for family, _, _, _, address in found
        if family in (socket.AF_INET, socket.AF_INET6)
    ]
    if not addresses:
        raise OSError(f"{name}: the name has no address")
    return addresses


def _forms(ip: Ip) -> tuple[Ip, ...]:
    """Returns an address and the IPv4 address inside it, if any. Both must be allowed."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return (ip.ipv4_mapped,)  # the system connects to this IPv4 address
        if ip in _6TO4:
            return ip, ipaddress.IPv4Address(int(ip) >> 80 & 0xFFFFFFFF)
        if ip in _NAT64:
            return ip, ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return (ip,)


def _kind(ip: Ip) -> str:
    """Returns the kind of a special address, with its article; "" for a public address."""
    for network, kind in _SPECIAL:
        if ip.version == network.version and ip in network:
            return kind
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _PUBLIC_V6 and ip not in _NAT64:
        return "a reserved"
    return ""


def _split(url: str) -> SplitResult | None:
    """Returns the parts of a URL with a host and a valid port, its own or the usual one; None for other text."""
    if len(url) > _MAX_URL or not url.isprintable() or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        port = PORTS.get(parts.scheme) if parts.port is None else parts.port
        return parts if parts.scheme in PORTS and parts.hostname and port else None
    except ValueError:
        return None


def _plain_host(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")


def _entry(text: str) -> Network | str | _Prefix:
    """Parses one entry of `allow`. Raises ValueError."""
    text = text.strip()
    if "://" in text:
        parts = _split(text)
        if parts is None or parts.query or parts.fragment or parts.username is not None:
            raise ValueError(f"{text!r} is not a URL prefix")
        assert parts.hostname is not None, "_split checks it"
        host, path = _plain_host(parts.hostname), unquote(parts.path).rstrip("/")
        return _Prefix(parts.scheme, host, parts.port or PORTS[parts.scheme], path)
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return ipaddress.ip_network(bare)
    except ValueError:
        name = _plain_host(text)
        # If the last part has only digits, it is a mistyped address: host names do not end like this.
        if not _NAME.fullmatch(name) or name.rpartition(".")[2].isdigit():
            raise ValueError(f"{text!r} is not a network, host or URL prefix") from None
        return name
