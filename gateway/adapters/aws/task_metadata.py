"""Reads the ECS task of this process from the ECS agent's metadata endpoint (version 4). It needs no SDK."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.lib.backoff import Backoff
from gateway.ports.errors import StoreUnavailable

if TYPE_CHECKING:
    import aiohttp

METADATA: Final = "ECS_CONTAINER_METADATA_URI_V4"
_MAX_ATTEMPTS: Final = 4  # the endpoint limits its rate, and all containers of a task use it at start
_TIMEOUT: Final = 2.0  # seconds for one attempt; the agent is on this machine
_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class EcsTask:
    """A running task. address: its private address if it has its own network interface (awsvpc), else ""."""

    arn: str
    cluster: str
    family: str
    address: str


async def own_task(environ: Mapping[str, str] | None = None) -> EcsTask | None:
    """Returns this process's task; None outside ECS.

    Raises StoreUnavailable if the agent sends no valid answer.
    """
    base = (os.environ if environ is None else environ).get(METADATA, "")
    if not base:
        return None
    import aiohttp

    backoff = Backoff(0.2, 2)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as http:
        for remaining in reversed(range(_MAX_ATTEMPTS)):
            try:
                async with http.get(f"{base.rstrip('/')}/task", allow_redirects=False) as answer:
                    answer.raise_for_status()
                    return read_task(await _json(answer))
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                if not remaining:
                    reason = str(error) or type(error).__name__
                    raise StoreUnavailable(f"the task's metadata cannot be read: {reason[:200]}") from error
            await asyncio.sleep(backoff.next())
    raise AssertionError("the last attempt returns or raises")


async def _json(answer: aiohttp.ClientResponse) -> Any:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(1 << 16):
        body += chunk
        if len(body) > _MAX_BYTES:
            raise ValueError("too large for the metadata of a task")
    return json.loads(body)


def read_task(reply: Any) -> EcsTask:
    """Returns the task of a metadata answer. Raises ValueError if the answer does not describe a task."""
    if not isinstance(reply, dict):
        raise ValueError("not a JSON object")
    arn = reply.get("TaskARN")
    if not isinstance(arn, str) or not arn:
        raise ValueError("no TaskARN")
    return EcsTask(arn, str(reply.get("Cluster", "")), str(reply.get("Family", "")), _address(reply))


def _address(reply: Mapping[str, Any]) -> str:
    """Returns the task's private address, preferably IPv4, or "". All containers of an awsvpc task share it."""
    of_containers = (_objects(container.get("Networks")) for container in _objects(reply.get("Containers")))
    networks = [network for found in of_containers for network in found if network.get("NetworkMode") == "awsvpc"]
    for kind in ("IPv4Addresses", "IPv6Addresses"):
        for network in networks:
            addresses = network.get(kind)
            for address in addresses if isinstance(addresses, list) else ():
                with contextlib.suppress(ValueError):
                    return str(ipaddress.ip_address(str(address)))
    return ""


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
