"""A strict double of the task operations of Amazon ECS: it refuses invalid requests, and tokens are idempotent.

It has rules that moto lacks: `clientToken`, `count`, `failures`, lengths, sizes of Fargate, eventual consistency. Tasks
can be real processes: `launch` gets the environment and the command of a container.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import botocore.session
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore.validate import ParamValidator

from tests.support.time_outs import at_most

REGION: Final = "eu-central-1"
ACCOUNT: Final = "123456789012"
CLUSTER: Final = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/video-streaming"
_TARGET = "AmazonEC2ContainerServiceV20141113."
_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[A-Z0-9]+/[0-9]{8}/[a-z0-9-]+/ecs/aws4_request, "
    r"SignedHeaders=\S+, Signature=[0-9a-f]{64}"
)
# Fargate's CPU units and the memory (MiB) that each allows, for the sizes that Millrace uses.
FARGATE = {
    256: {512, 1024, 2048},
    512: set(range(1024, 4097, 1024)),
    1024: set(range(2048, 8193, 1024)),
    2048: set(range(4096, 16385, 1024)),
    4096: set(range(8192, 30721, 1024)),
}


class Refusal(Exception):
    """An error of the service: its code, its message and other members of the body."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.code = code
        self.more = more


@dataclass
class Task:
    arn: str
    request: dict[str, Any]
    last: str = "PROVISIONING"
    desired: str = "RUNNING"
    reason: str = ""
    born: int = 0  # number of calls before the task started
    running: asyncio.Task[None] | None = None

    @property
    def environment(self) -> dict[str, str]:
        (container,) = self.request["overrides"]["containerOverrides"]
        return {v["name"]: v["value"] for v in container["environment"]}

    def shown(self) -> dict[str, Any]:
        return {
            "taskArn": self.arn,
            "clusterArn": CLUSTER,
            "taskDefinitionArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{self.request['taskDefinition']}:1",
            "lastStatus": self.last,
            "desiredStatus": self.desired,
            "startedBy": self.request.get("startedBy", ""),
            "group": "family:millrace-worker",
            "overrides": self.request.get("overrides", {}),
            "version": 1,
            **({"stoppedReason": self.reason} if self.reason else {}),
        }


# launch(environment, command): runs as long as the container would.
Launch = Callable[[Mapping[str, str], list[str]], Awaitable[None]]


@dataclass
class Ecs:
    """Keeps tasks by ARN in the order of their start.

    room: how many more tasks can be placed. lag: how many calls pass before a new task is listed. lose: how many
    answers to RunTask are lost although the task was started.
    """

    url: str = ""
    families: dict[str, set[str]] = field(default_factory=lambda: {"millrace-worker": {"worker"}})
    tasks: dict[str, Task] = field(default_factory=dict)
    room: int = 1_000
    lag: int = 0
    lose: int = 0
    broken: int = 0  # number of first answers that are HTTP 500
    refuse: tuple[str, str] | None = None  # code and message of every RunTask
    launch: Launch | None = None
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    _tokens: dict[str, tuple[dict[str, Any], list[str]]] = field(default_factory=dict)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    # ---- for tests ----

    def calls(self, operation: str) -> list[dict[str, Any]]:
        return [request for name, request in self.asked if name == operation]

    @property
    def running(self) -> list[Task]:
        return [task for task in self.tasks.values() if task.desired == "RUNNING"]

    def end(self, task: Task, reason: str = "Essential container in task exited") -> None:
        """Ends a task as if its container had ended by itself."""
        task.last = task.desired = "STOPPED"
        task.reason = task.reason or reason
        if task.running is not None:
            task.running.cancel()

    async def until(self, wanted: Callable[[Ecs], bool], seconds: float = 60) -> None:
        async with asyncio.timeout(at_most(seconds)):
            while not wanted(self):
                await asyncio.sleep(0.02)

    # ---- operations ----

    def _run_task(self, request: dict[str, Any]) -> dict[str, Any]:
        self._check_run(request)
        if self.refuse is not None:
            raise Refusal(*self.refuse)
        token = request.get("clientToken")
        if token is None:
            raise Refusal("InvalidParameterException", "this double wants a clientToken: answers can be lost")
        if token in self._tokens:
            before, arns = self._tokens[token]
            if before != request:
                raise Refusal("ConflictException", "The provided clientToken is already in use", resourceIds=arns)
            return {"tasks": [self.tasks[arn].shown() for arn in arns], "failures": []}
        count = request.get("count", 1)
        started = [self._place(request) for _ in range(min(count, self.room))]
        self.room -= len(started)
        failures = [{"reason": "Capacity is unavailable at this time"} for _ in range(count - len(started))]
        self._tokens[token] = (request, [task.arn for task in started])
        return {"tasks": [task.shown() for task in started], "failures": failures}

    def _place(self, request: dict[str, Any]) -> Task:
        arn = f"{CLUSTER.replace(':cluster/', ':task/')}/{next(self._numbers):032x}"
        task = self.tasks[arn] = Task(arn, request, born=len(self.asked))
        if self.launch is not None:
            task.last = "RUNNING"
            (container,) = request["overrides"]["containerOverrides"]
            task.running = asyncio.ensure_future(self._live(task, container.get("command", [])))
        return task

    async def _live(self, task: Task, command: list[str]) -> None:
        assert self.launch is not None
        try:
            await self.launch(task.environment, command)
        finally:
            task.last = task.desired = "STOPPED"
            task.reason = task.reason or "Essential container in task exited"

    def _check_run(self, request: dict[str, Any]) -> None:
        family = request["taskDefinition"].rpartition("/")[2].partition(":")[0]
        if family not in self.families:
            raise Refusal("ClientException", "TaskDefinition not found.")
        if not 1 <= request.get("count", 1) <= 10:
            raise Refusal("InvalidParameterException", "The count parameter must be between 1 and 10.")
        if not re.fullmatch(r"[A-Za-z0-9/_-]{0,128}", request.get("startedBy", "")):
            raise Refusal("InvalidParameterException", "startedBy: letters, digits, hyphens, slashes, underscores")
        if not re.fullmatch(r"[\x21-\x7e]{1,64}", request.get("clientToken", "x")):
            raise Refusal("InvalidParameterException", "clientToken: 1 to 64 characters from 33 to 126")
        if "launchType" in request and "capacityProviderStrategy" in request:
            raise Refusal("InvalidParameterException", "Specify either launch type or capacity provider strategy.")
        overrides = request.get("overrides", {})
        if len(json.dumps(overrides)) > 8192:
            raise Refusal("InvalidParameterException", "Container Overrides length must be at most 8192")
        for container in overrides.get("containerOverrides", ()):
            if container["name"] not in self.families[family]:
                raise Refusal("ClientException", "Override for container named other than those of the definition")
            names = [variable["name"] for variable in container.get("environment", ())]
            if len(set(names)) != len(names) or not all(names):
                raise Refusal("ClientException", "environment variables need names, each once")
        if request.get("launchType") == "FARGATE" or "capacityProviderStrategy" in request:
            self._check_fargate(request, overrides)

    @staticmethod
    def _check_fargate(request: dict[str, Any], overrides: dict[str, Any]) -> None:
        network = request.get("networkConfiguration", {}).get("awsvpcConfiguration")
        if network is None:
            raise Refusal("InvalidParameterException", "Network Configuration must be provided for awsvpc.")
        if not 1 <= len(network["subnets"]) <= 16 or len(network.get("securityGroups", ())) > 5:
            raise Refusal("InvalidParameterException", "1 to 16 subnets, at most 5 security groups")
        cpu, memory = int(overrides.get("cpu", 256)), int(overrides.get("memory", 512))
        if memory not in FARGATE.get(cpu, ()):
            raise Refusal("ClientException", "No Fargate configuration exists for given values.")

    def _list_tasks(self, request: dict[str, Any]) -> dict[str, Any]:
        wanted = request.get("desiredStatus", "RUNNING")
        found = [
            task.arn
            for task in self.tasks.values()
            if task.desired == wanted
            and request.get("startedBy", task.request.get("startedBy")) == task.request.get("startedBy")
            and len(self.asked) - task.born > self.lag
        ]
        first = int(request.get("nextToken", "0"))
        page = request.get("maxResults", 100)
        more = {"nextToken": str(first + page)} if len(found) > first + page else {}
        return {"taskArns": found[first : first + page], **more}

    def _describe_tasks(self, request: dict[str, Any]) -> dict[str, Any]:
        arns = request["tasks"]
        if not 1 <= len(arns) <= 100:
            raise Refusal("InvalidParameterException", "Tasks cannot be empty, and are 100 at most.")
        return {
            "tasks": [self.tasks[arn].shown() for arn in arns if arn in self.tasks],
            "failures": [{"arn": arn, "reason": "MISSING"} for arn in arns if arn not in self.tasks],
        }

    def _stop_task(self, request: dict[str, Any]) -> dict[str, Any]:
        task = self.tasks.get(request["task"])
        if task is None:
            raise Refusal("InvalidParameterException", "The referenced task was not found.")
        if len(request.get("reason", "")) > 1024:
            raise Refusal("InvalidParameterException", "reason is too long")
        if task.desired == "RUNNING":
            task.desired, task.reason = "STOPPED", request.get("reason", "")
            if task.running is not None:
                task.running.cancel()
            else:
                task.last = "STOPPED"
        return {"task": task.shown()}

    # ---- the wire ----

    async def answer(self, request: web.Request) -> web.Response:
        operation = request.headers.get("X-Amz-Target", "").removeprefix(_TARGET)
        body = json.loads(await request.text())
        operations = {
            "RunTask": self._run_task,
            "ListTasks": self._list_tasks,
            "DescribeTasks": self._describe_tasks,
            "StopTask": self._stop_task,
        }
        self.broken -= 1
        try:
            if request.content_type != "application/x-amz-json-1.1":
                raise Refusal("SerializationException", request.content_type)
            if not _SIGNED.fullmatch(request.headers.get("Authorization", "")):
                raise Refusal("MissingAuthenticationTokenException", "not signed")
            if self.broken >= 0:
                return web.json_response({"__type": "ServerException", "message": "broken"}, status=500)
            if operation not in operations:
                raise Refusal("UnknownOperationException", operation)
            problems = ParamValidator().validate(body, _model(operation))
            if problems.has_errors():
                raise Refusal("InvalidParameterException", problems.generate_report())
            if body.get("cluster", "default") not in (CLUSTER, CLUSTER.rpartition("/")[2]):
                raise Refusal("ClusterNotFoundException", "Cluster not found.")
            self.asked.append((operation, body))
            done = operations[operation](body)
        except Refusal as refused:
            said = {"__type": refused.code, "message": str(refused), **refused.more}
            return web.json_response(said, status=400, content_type="application/x-amz-json-1.1")
        if operation == "RunTask":
            self.lose -= 1
            if self.lose >= 0:
                return web.json_response({"__type": "ServerException", "message": "lost"}, status=500)
        return web.json_response(done, content_type="application/x-amz-json-1.1")

    async def close(self) -> None:
        for task in self.tasks.values():
            self.end(task)
        running = [task.running for task in self.tasks.values() if task.running is not None]
        await asyncio.gather(*running, return_exceptions=True)


@cache
def _model(operation: str) -> Any:
    service = botocore.session.get_session().get_service_model("ecs")
    return service.operation_model(operation).input_shape


@contextlib.asynccontextmanager
async def ecs() -> AsyncIterator[Ecs]:
    """Runs ECS on a free port, for AWS_ENDPOINT_URL_ECS."""
    made = Ecs()
    app = web.Application(client_max_size=1 << 20)
    app.router.add_post("/", made.answer)
    async with TestServer(app, host="127.0.0.1") as server:
        made.url = str(server.make_url("")).rstrip("/")
        try:
            yield made
        finally:
            await made.close()


def credentials(url: str, service: str = "ECS", **more: str) -> dict[str, str]:
    """The environment for a process that uses a double."""
    return {
        f"AWS_ENDPOINT_URL_{service}": url,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent/aws",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/aws",
        **more,
    }
