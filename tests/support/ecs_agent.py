"""A strict double of the endpoints of the ECS agent in a task: metadata version 4 and task protection."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.time_outs import at_most

ARN = "arn:aws:ecs:eu-central-1:123456789012:task/video-streaming/158d1c8083dd49d6b527399fd6414f5c"
CLUSTER = "arn:aws:ecs:eu-central-1:123456789012:cluster/video-streaming"
ID = "b5b5d1c1-2a9c-4d7e-9a11-6f0a5f1a4a3e-1234"


def metadata(address: str = "10.0.2.106", mode: str = "awsvpc") -> dict[str, Any]:
    """The answer of Fargate to `/task`, after AWS's documentation, with the members common to all versions."""
    network: dict[str, Any] = {
        "NetworkMode": mode,
        "IPv4Addresses": [address] if address else [],
        "AttachmentIndex": 0,
        "MACAddress": "0e:10:e2:01:bd:91",
        "IPv4SubnetCIDRBlock": "10.0.2.0/24",
        "PrivateDNSName": "ip-10-0-2-106.eu-central-1.compute.internal",
        "SubnetGatewayIpv4Address": "10.0.2.1/24",
    }
    return {
        "Cluster": CLUSTER,
        "TaskARN": ARN,
        "Family": "millrace-gateway",
        "Revision": "7",
        "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING",
        "Limits": {"CPU": 1, "Memory": 2048},
        "AvailabilityZone": "eu-central-1a",
        "LaunchType": "FARGATE",
        "Containers": [
            {
                "DockerId": "cd189a933e5849daa93386466019ab50-2495160603",
                "Name": "gateway",
                "KnownStatus": "RUNNING",
                "Type": "NORMAL",
                "Networks": [network],
            }
        ],
    }


@dataclass
class Agent:
    """The state of an agent and the requests to it.

    broken: the number of first answers that are HTTP 500. refusal: an error that is returned to all requests.
    """

    url: str = ""
    task: Any = field(default_factory=metadata)
    broken: int = 0
    refusal: dict[str, Any] | None = None
    protected: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)
    looked: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, wanted: Callable[[Agent], bool]) -> None:
        """Waits for a request after which the condition holds."""
        async with asyncio.timeout(at_most(20)):
            while not wanted(self):
                self._changed.clear()
                await self._changed.wait()

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables of a container."""
        return {"ECS_CONTAINER_METADATA_URI_V4": f"{self.url}/v4/{ID}", "ECS_AGENT_URI": f"{self.url}/api/{ID}"}

    def _breaks(self) -> bool:
        self.broken -= 1
        return self.broken >= 0

    async def tell(self, request: web.Request) -> web.Response:
        self.looked += 1
        if self._breaks():
            return web.Response(status=500, text="throttled")
        return web.Response(text=json.dumps(self.task), content_type="application/json")

    async def protect(self, request: web.Request) -> web.Response:
        """PUT …/task-protection/v1/state, as documented: two known members, whole minutes from 1 to 2880."""
        try:
            return await self._answer(request)
        finally:
            self._changed.set()

    async def _answer(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return _error(400, "InvalidParameterException", "no JSON")
        wanted = await request.json()
        self.asked.append(wanted)
        if self._breaks():
            return _error(500, "ServerException", "a failure of the service")
        minutes = wanted.get("ExpiresInMinutes", 120)
        if not isinstance(wanted.get("ProtectionEnabled"), bool) or set(wanted) - {
            "ProtectionEnabled",
            "ExpiresInMinutes",
        }:
            return _error(400, "InvalidParameterException", "does not contain 'ProtectionEnabled', or more than known")
        if not isinstance(minutes, int) or isinstance(minutes, bool) or not 1 <= minutes <= 2880:
            return _error(400, "InvalidParameterException", "expiresInMinutes is 1 to 2880")
        if self.refusal is not None:
            return web.json_response(self.refusal, status=400 if "error" in self.refusal else 200)
        self.protected = wanted["ProtectionEnabled"]
        state: dict[str, Any] = {"ProtectionEnabled": self.protected, "TaskArn": ARN}
        if self.protected:
            until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
            state["ExpirationDate"] = until.strftime("%Y-%m-%dT%H:%M:%SZ")
        return web.json_response({"protection": state})


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"Arn": ARN, "Code": code, "Message": message}}, status=status)


@contextlib.asynccontextmanager
async def agent() -> AsyncIterator[Agent]:
    """Runs an agent on a free port."""
    made = Agent()
    app = web.Application()
    app.router.add_get(f"/v4/{ID}/task", made.tell)
    app.router.add_put(f"/api/{ID}/task-protection/v1/state", made.protect)
    async with TestServer(app, host="127.0.0.1") as server:
        made.url = str(server.make_url("")).rstrip("/")
        yield made
