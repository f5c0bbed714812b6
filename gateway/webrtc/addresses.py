"""Finds the addresses of this machine, and those of the names and URLs that an operator advertises."""

import asyncio
import fcntl
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from gateway.webrtc.candidates import usable_address

log = structlog.get_logger(__name__)

_SIOCGIFADDR: Final = 0x8915  # netdevice(7): the IPv4 address of an interface
_RESOLVE_SECONDS: Final = 5.0
_MAX_ANSWER: Final = 100  # bytes; an address has at most 45
_PROBE_TARGET_V6: Final = "2001:db8::1"  # addresses for documentation (RFC 3849, RFC 5737): nothing is sent
_PROBE_TARGET_V4: Final = "192.0.2.1"


def machine_addresses(ipv6: bool) -> list[str]:
    """Returns the addresses of this machine without loopback; those of default routes first."""
    found = [_source(socket.AF_INET, _PROBE_TARGET_V4), *_ipv4_addresses()]
    if ipv6:
        found += [_source(socket.AF_INET6, _PROBE_TARGET_V6), *_ipv6_addresses()]
    usable = (usable_address(address) for address in found if address)
    return [address for address in dict.fromkeys(usable) if address and not address.startswith("127.")]


async def resolve(names: Iterable[str]) -> list[str]:
    """Returns the addresses of names and URLs, in their order. Addresses stay unchanged; failures are left out.

    A URL answers with the address of its client, which is this machine.
    """
    found: list[str] = []
    for name in names:
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                entries = [await _answer(name)] if "://" in name else await _lookup(name)
        except (OSError, TimeoutError, UnicodeError) as error:
            log.warning("webrtc.advertise has a name without address", name=name, reason=str(error) or "no answer")
            continue
        found += [address for entry in entries if (address := usable_address(entry))]
    return list(dict.fromkeys(found))


async def _lookup(name: str) -> list[str]:
    entries = await asyncio.get_running_loop().getaddrinfo(name.strip("[]"), None, type=socket.SOCK_DGRAM)
    return [str(entry[4][0]) for entry in entries]


async def _answer(url: str) -> str:
    """Returns the address in the answer of a URL. Raises OSError if it has none."""
    import aiohttp  # imported here, because a process without webhooks and API requests does without its 8 MB

    # Through a proxy of the environment, the answer would be the address of the proxy.
    try:
        async with aiohttp.ClientSession(trust_env=False) as http, http.get(url) as reply:
            text = (await reply.content.read(_MAX_ANSWER)).decode("ascii", "replace").strip()
    except aiohttp.ClientError as error:
        raise OSError(str(error)) from error
    if reply.status != 200 or usable_address(text) is None:
        raise OSError(f"the answer, status {reply.status}, is no address")
    return text


def _source(family: int, target: str) -> str:
    """Returns the address from which this machine would send to `target`, without sending; "" without a route."""
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((target, 9))
        return str(probe.getsockname()[0])
    return ""


def _ipv4_addresses() -> list[str]:
    addresses = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without IPv4
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                addresses.append(socket.inet_ntoa(answer[20:24]))
    return addresses


def _ipv6_addresses() -> list[str]:
    """Returns the global addresses of /proc/net/if_inet6 (proc(5)); none on other systems."""
    addresses = []
    with suppress(OSError):
        for row in Path("/proc/net/if_inet6").read_text().splitlines():
            digits, _, _, scope, *_ = row.split()
            if scope == "00":  # global
                addresses.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)))
    return addresses
