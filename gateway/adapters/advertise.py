"""How other nodes reach this process: the `host:port` that it writes into the registry."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping

import structlog

from gateway.adapters.aws import task
from gateway.adapters.local.host import shown_host
from gateway.hub.addresses import Ports
from gateway.hub.errors import StoreAway
from gateway.settings import Settings

log = structlog.get_logger(__name__)


async def advertised(settings: Settings, ports: Ports, environ: Mapping[str, str] | None = None) -> str:
    """`host:port` of this process's playback listener, an IPv6 address in brackets.

    `http.advertise` where it is set. Else the one address or name that the listener is bound to; on ECS the task's
    private address; else the address that this machine's packets carry, and without a network its name. ports: what is
    open; environ: default os.environ. Never raises for a service that is away.
    """
    if settings.http.advertise:
        return settings.http.advertise
    port = ports.http or settings.http.port
    return f"{_bracketed(await _host(settings.http.host, environ))}:{port}"


def host_of(address: str) -> str:
    """Of a `host:port`; an IPv6 address without its brackets."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")


async def _host(bound: str, environ: Mapping[str, str] | None) -> str:
    if not _everywhere(bound):
        return shown_host(bound)
    try:
        own = await task.own_task(environ)
    except StoreAway as away:
        log.warning("this task's address is not known: this machine's own is used", reason=str(away))
        own = None
    if own is not None and own.address:
        return own.address
    host = shown_host(bound)
    return await _name() if _loopback(host) else host


async def _name() -> str:
    """This machine's name where it means something here, else loopback."""
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


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
