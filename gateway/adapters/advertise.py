"""The `host:port` at which other nodes reach this process. The registry stores it."""

import asyncio
import ipaddress
import socket
from collections.abc import Mapping

import structlog

from gateway.adapters.aws import task_metadata
from gateway.adapters.local.host import shown_host
from gateway.channels.addresses import OpenPorts
from gateway.lib.network import is_loopback, url_host
from gateway.ports.errors import StoreUnavailable
from gateway.settings import Settings

log = structlog.get_logger(__name__)


async def advertised_address(settings: Settings, ports: OpenPorts, environ: Mapping[str, str] | None = None) -> str:
    """Returns `host:port` of this process's playback listener, with brackets around an IPv6 address.

    This is `http.advertise` if it is set, else the single address or name that the listener is bound to. For a listener
    on all addresses, this is the task's private address on ECS. Elsewhere this is the machine's outgoing address, or
    the machine's name if there is no network.

    ports: the open ports. environ: default os.environ. The function does not raise if ECS is unavailable.
    """
    if settings.http.advertise:
        return settings.http.advertise
    port = ports["http"] or settings.http.port
    return f"{url_host(await _host(settings.http.host, environ))}:{port}"


def host_of(address: str) -> str:
    """Returns the host of a `host:port`, without the brackets of an IPv6 address."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")


async def _host(bind: str, environ: Mapping[str, str] | None) -> str:
    if not _is_unspecified(bind):
        return shown_host(bind)
    try:
        task = await task_metadata.own_task(environ)
    except StoreUnavailable as error:
        log.warning("the address of this ECS task is unknown; using the address of this machine", reason=str(error))
        task = None
    if task is not None and task.address:
        return task.address
    host = shown_host(bind)
    return await _host_name() if is_loopback(host) else host


async def _host_name() -> str:
    """Returns this machine's name if it can be resolved here, else loopback."""
    name = socket.gethostname()
    try:
        await asyncio.get_running_loop().getaddrinfo(name, None)
    except OSError:
        return "127.0.0.1"
    return name


def _is_unspecified(bind: str) -> bool:
    try:
        return ipaddress.ip_address(bind).is_unspecified
    except ValueError:
        return False
