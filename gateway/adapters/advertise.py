"""The `host:port` by which other nodes reach this process, and which it writes into the registry."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping

import structlog

from gateway.adapters.aws import task_metadata
from gateway.adapters.local.host import shown_host
from gateway.channels.addresses import OpenPorts
from gateway.lib.network import is_loopback
from gateway.ports.errors import StoreUnavailable
from gateway.settings import Settings

log = structlog.get_logger(__name__)


async def advertised(settings: Settings, ports: OpenPorts, environ: Mapping[str, str] | None = None) -> str:
    """Returns `host:port` of this process's playback listener, an IPv6 address in brackets.

    Uses `http.advertise` where it is set, else the single address or name that the listener is bound to. A listener on
    all addresses uses the task's private address on ECS. Elsewhere it uses the machine's outgoing address, or without a
    network its name.

    ports: the ports that are open. environ: default os.environ. An unavailable service never makes it raise.
    """
    if settings.http.advertise:
        return settings.http.advertise
    port = ports["http"] or settings.http.port
    return f"{_bracketed(await _host(settings.http.host, environ))}:{port}"


def host_of(address: str) -> str:
    """Returns the host of a `host:port`, an IPv6 address without its brackets."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")


async def _host(bound: str, environ: Mapping[str, str] | None) -> str:
    if not _everywhere(bound):
        return shown_host(bound)
    try:
        own = await task_metadata.own_task(environ)
    except StoreUnavailable as away:
        log.warning("this task's address is not known: this machine's own is used", reason=str(away))
        own = None
    if own is not None and own.address:
        return own.address
    host = shown_host(bound)
    return await _name() if is_loopback(host) else host


async def _name() -> str:
    """Returns this machine's name where it can be resolved here, else loopback."""
    name = socket.gethostname()
    try:
        await asyncio.get_running_loop().getaddrinfo(name, None)
    except OSError:
        return "127.0.0.1"
    return name


def _everywhere(bound: str) -> bool:
    try:
        return ipaddress.ip_address(bound).is_unspecified
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
