"""Egress policy: to which addresses the gateway may connect for a channel (relays, pictures), checked after DNS.

Public addresses are open; loopback, private, link-local, cloud metadata and their like are not, unless `allow` names
them. Whoever connects uses the very addresses that were checked: a second look-up could give others (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import contextvars
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

HTTP: Final = ("http", "https")
RTMP: Final = ("rtmp", "rtmps")
_PORTS: Final = {"http": 80, "https": 443, "rtmp": 1935, "rtmps": 443}
_LONGEST: Final = 2_048
_DNS_SECONDS: Final = 10.0

# Written out, not asked of ipaddress: its idea of "global" changed between Python's patch releases.
# Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries; RFC 4291, 3056, 6052.
_SPECIAL: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ipaddress.ip_network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "an unspecified"),
        ("10.0.0.0/8", "a private"),
        ("100.64.0.0/10", "a carrier's private"),
        ("127.0.0.0/8", "a loopback"),
        ("169.254.0.0/16", "a link-local"),
        ("172.16.0.0/12", "a private"),
        ("192.0.0.0/24", "a reserved"),
        ("192.0.2.0/24", "a documentation"),
        ("192.88.99.0/24", "a reserved"),
        ("192.168.0.0/16", "a private"),
        ("198.18.0.0/15", "a benchmark"),
        ("198.51.100.0/24", "a documentation"),
        ("203.0.113.0/24", "a documentation"),
        ("224.0.0.0/4", "a multicast"),
        ("240.0.0.0/4", "a reserved"),
        ("::/128", "an unspecified"),
        ("::1/128", "a loopback"),
        ("fd00:ec2::254/128", "a link-local"),  # the metadata service of AWS: never opened by a name (see below)
        ("fc00::/7", "a private"),
        ("fe80::/10", "a link-local"),
        ("fec0::/10", "a private"),
        ("ff00::/8", "a multicast"),
        ("2001::/23", "a reserved"),
        ("2001:db8::/32", "a documentation"),
        ("3fff::/20", "a documentation"),
    )
)
_PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")  # all that IANA has given out as global unicast
_6TO4: Final = ipaddress.IPv6Network("2002::/16")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# Only an entry with the network itself opens these; the name of a host must not lead to a metadata service.
_NEVER_BY_NAME: Final = ("a link-local", "a multicast", "an unspecified")
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*", re.ASCII)


class EgressRefused(Exception):
    """The policy forbids this address. The message is one line without keys, fit for logs and for a channel's owner."""


@dataclass(frozen=True, slots=True)
class Address:
    """A permitted place to connect to. host: a numeric address; name: the host as the URL spells it (for SNI, Host)."""

    family: socket.AddressFamily
    host: str
    port: int
    name: str


@dataclass(frozen=True, slots=True)
class _Prefix:
    """An allowed URL and what lies below it."""

    scheme: str
    host: str
    port: int
    path: str  # no slash at the end

    def covers(self, scheme: str, host: str, port: int, path: str) -> bool:
        if (scheme, host, port) != (self.scheme, self.host, self.port):
            return False
        plain = unquote(path)
        if any(part in (".", "..") for part in re.split(r"[/\\]", plain)):
            return False  # it might leave the prefix
        return not self.path or plain == self.path or plain.startswith(self.path + "/")


class Egress:
    """The policy. allow: networks ("10.0.0.0/8", "::1"), hosts ("relay.lan") and URL prefixes ("http://10.1.2.3/pics/")
    that are permitted besides public addresses (`egress.allow`). Raises ValueError for an entry that is none of them.
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        entries = [_entry(text) for text in allow]
        self._networks = tuple(e for e in entries if isinstance(e, ipaddress.IPv4Network | ipaddress.IPv6Network))
        self._hosts = frozenset(e for e in entries if isinstance(e, str))
        self._prefixes = tuple(e for e in entries if isinstance(e, _Prefix))

    async def check(self, url: str, schemes: Sequence[str] = HTTP) -> list[Address]:
        """The permitted addresses of the URL's host, resolved now, in the resolver's order; never empty.

        schemes: those that the caller speaks, of http, https, rtmp, rtmps.
        Raises EgressRefused, and OSError where the name cannot be resolved (now).
        """
        parts = _split(url)
        if parts is None or parts.scheme not in schemes:
            raise EgressRefused(f"expected an address with {' or '.join(f'{s}://' for s in schemes)} and a host")
        assert parts.hostname is not None, "_split sees to it"
        return await self._check(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], parts.path)

    def names(self, url: str) -> bool:
        """Whether `allow` itself names this address: its prefix, its host, or the network of a numeric host."""
        parts = _split(url)
        if parts is None or parts.hostname is None:
            return False
        name, port = _plain_host(parts.hostname), parts.port or _PORTS[parts.scheme]
        if name in self._hosts or any(p.covers(parts.scheme, name, port, parts.path) for p in self._prefixes):
            return True
        try:
            ip = ipaddress.ip_address(name)
        except ValueError:
            return False
        return any(ip in network for network in self._networks if network.version == ip.version)

    def connector(self, schemes: Sequence[str] = HTTP, **options: Any) -> aiohttp.TCPConnector:
        """A connector for an aiohttp session: each request, and each redirect, goes to permitted addresses only.

        A refusal comes out of the request as EgressRefused. Connections are not kept: what one URL may do, another on
        the same host may not. options: as of TCPConnector (`ssl`, `limit`).
        """
        return _Connector(self, schemes, **options)

    async def _check(self, scheme: str, host: str, port: int, path: str) -> list[Address]:
        name = _plain_host(host)
        named = name in self._hosts or any(p.covers(scheme, name, port, path) for p in self._prefixes)
        permitted: list[Address] = []
        refused = ""
        for family, ip in await _resolve(name, port):
            kind = self._refuses(ip, named)
            if not kind:
                permitted.append(Address(family, str(ip), port, host))
            elif not refused:
                refused = f"{ip} is {kind} address"
        if not permitted:
            where = refused if refused.startswith(f"{name} ") else f"{name}: {refused}"
            raise EgressRefused(f"{where}: connecting there is not allowed (egress.allow)")
        return permitted

    def _refuses(self, ip: Ip, named: bool) -> str:
        """What kind of address it is, with its article, where it is not permitted; else nothing."""
        forms = _forms(ip)
        if any(form in network for form in forms for network in self._networks if form.version == network.version):
            return ""
        for form in forms:
            kind = _kind(form)
            if kind and not (named and kind not in _NEVER_BY_NAME):
                return kind
        return ""


class _Resolver(AbstractResolver):
    """Gives aiohttp what the connector has just checked for the request in hand."""

    def __init__(self) -> None:
        self.checked: contextvars.ContextVar[list[Address]] = contextvars.ContextVar("checked addresses")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=a.host, port=port, family=a.family, proto=0, flags=socket.AI_NUMERICHOST)
            for a in self.checked.get()
        ]

    async def close(self) -> None:
        """Nothing is held."""


class _Connector(aiohttp.TCPConnector):
    def __init__(self, egress: Egress, schemes: Sequence[str], **options: Any) -> None:
        self._own_resolver = _Resolver()
        super().__init__(resolver=self._own_resolver, use_dns_cache=False, force_close=True, **options)
        self._egress, self._schemes = egress, schemes

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109
        if req.proxy:
            raise EgressRefused("a proxy would look the address up by itself, past the policy")
        url = req.url
        if url.scheme not in self._schemes or not url.raw_host:
            raise EgressRefused(f"expected an address with {' or '.join(f'{s}://' for s in self._schemes)} and a host")
        port = url.port or _PORTS[url.scheme]
        try:
            checked = await self._egress._check(url.scheme, url.raw_host, port, url.raw_path)
        except OSError as error:
            raise aiohttp.ClientConnectorDNSError(req.connection_key, error) from error
        token = self._own_resolver.checked.set(checked)
        try:
            return await super().connect(req, traces, timeout)
        finally:
            self._own_resolver.checked.reset(token)


async def _resolve(name: str, port: int) -> list[tuple[socket.AddressFamily, Ip]]:
    """All addresses of a name, or the one that it spells. OSError."""
    try:
        async with asyncio.timeout(_DNS_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise OSError(f"{name}: the name could not be resolved within {_DNS_SECONDS:.0f} s") from None
    except (OSError, UnicodeError, ValueError) as error:  # the last two: no such name can be
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no such name"
        raise OSError(f"{name}: {reason}") from None
    addresses = [
        (socket.AddressFamily(family), ipaddress.ip_address(place[0]))
        for family, _, _, _, place in found
        if family in (socket.AF_INET, socket.AF_INET6)
    ]
    if not addresses:
        raise OSError(f"{name}: the name has no address")
    return addresses


def _forms(ip: Ip) -> tuple[Ip, ...]:
    """An address and the IPv4 address inside it, where there is one: both have to be permitted."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return (ip.ipv4_mapped,)  # the system connects to that one
        if ip in _6TO4:
            return ip, ipaddress.IPv4Address(int(ip) >> 80 & 0xFFFFFFFF)
        if ip in _NAT64:
            return ip, ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return (ip,)


def _kind(ip: Ip) -> str:
    """What is special about an address, with its article; nothing for a public one."""
    for network, kind in _SPECIAL:
        if ip.version == network.version and ip in network:
            return kind
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _PUBLIC_V6 and ip not in _NAT64:
        return "a reserved"
    return ""


def _split(url: str) -> SplitResult | None:
    """The parts of an address with a host and a usable port; None where it is none."""
    if len(url) > _LONGEST or not url.isprintable() or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        return parts if parts.scheme in _PORTS and parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _plain_host(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")


def _entry(text: str) -> Network | str | _Prefix:
    """One entry of `allow`. Raises ValueError."""
    text = text.strip()
    if "://" in text:
        parts = _split(text)
        if parts is None or parts.query or parts.fragment or parts.username is not None:
            raise ValueError(f"{text!r} is no URL prefix")
        assert parts.hostname is not None, "_split sees to it"
        host, path = _plain_host(parts.hostname), unquote(parts.path).rstrip("/")
        return _Prefix(parts.scheme, host, parts.port or _PORTS[parts.scheme], path)
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return ipaddress.ip_network(bare)
    except ValueError:
        name = _plain_host(text)
        # A last part of digits alone is a mistyped address, which no host is called like.
        if not _NAME.fullmatch(name) or name.rpartition(".")[2].isdigit():
            raise ValueError(f"{text!r} is no network, host or URL prefix") from None
        return name
