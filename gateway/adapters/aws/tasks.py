"""Tasks on Amazon ECS: RunTask starts them, `startedBy` finds them again, StopTask ends them."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from botocore.exceptions import ClientError

from gateway.adapters.aws.network_interfaces import members
from gateway.adapters.aws.session import AwsSession, error_code
from gateway.adapters.aws.task_metadata import own_task
from gateway.ports.errors import OutputError, StoreUnavailable
from gateway.ports.stores import RunningTask, TaskRequest
from gateway.settings.models import EcsSettings

log = structlog.get_logger(__name__)

# GW-2: CPU units and MiB of memory.
SIZES: Final = {
    "micro": (256, 512),
    "small": (512, 1024),
    "medium": (1024, 2048),
    "large": (2048, 4096),
    "xlarge": (4096, 8192),
}
CHANNEL, KIND, ADDRESS = "CHANNEL_NAME", "TASK_TYPE", "ADDRESS"

_MAX_STARTED: Final = 10  # tasks in one RunTask
_MAX_DESCRIBED: Final = 100  # tasks in one DescribeTasks
_CACHE_SECONDS: Final = 8.0  # seconds for which the last DescribeTasks counts as current
_SETTLED: Final = 30.0  # seconds after which a started task is listed: ECS is only eventually consistent
_STARTED_BY: Final = re.compile(r"[A-Za-z0-9_/-]{1,128}", re.ASCII)
# Errors that an operator has to fix. Others pass by themselves.
_WRONG: Final = frozenset(
    {
        *("ClientException", "InvalidParameterException", "ClusterNotFoundException", "UnsupportedFeatureException"),
        *("PlatformUnknownException", "PlatformTaskDefinitionIncompatibilityException", "AccessDeniedException"),
        *("BlockedException", "ResourceNotFoundException"),
    }
)


@dataclass(slots=True)
class _KnownTask:
    """A task that Millrace started. since: monotonic seconds, when it was first seen."""

    arn: str
    kind: str
    address: str
    since: float
    state: str = "PROVISIONING"


@dataclass(slots=True)
class _ChannelTasks:
    """The tasks of one channel. tokens: client token and count of a RunTask whose answer was lost, by kind of task."""

    tasks: dict[str, _KnownTask] = field(default_factory=dict)
    listed: bool = False
    tokens: dict[str, tuple[str, int]] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class EcsTasks:
    """A TaskRunner. Tasks carry their channel in `startedBy`, so that a restarted gateway finds them.

    Needs ecs:RunTask, ecs:ListTasks, ecs:DescribeTasks, ecs:StopTask, and iam:PassRole for the task definition's roles.
    """

    def __init__(self, session: AwsSession, settings: EcsSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._session = session
        self._settings = settings
        self._clock = clock
        self._cluster = settings.cluster
        self._groups: dict[str, _ChannelTasks] = {}
        self._described = -_CACHE_SECONDS
        self._describing = asyncio.Lock()

    # ---- TaskRunner ----

    async def keep(self, order: TaskRequest) -> list[RunningTask]:
        group = self._groups.setdefault(order.channel, _ChannelTasks())
        async with group.lock:
            if not group.listed:
                await self._find(order.channel, group)
            await self._refresh()
            mine = [task for task in group.tasks.values() if task.kind == order.kind]
            fitting = sorted((t for t in mine if t.address == order.address), key=lambda t: (t.since, t.arn))
            for task in mine:
                if task not in fitting[: order.count]:
                    await self._end(group, task, "not needed any more")
            missing = order.count - len(fitting)
            while missing > 0:
                started = await self._start(order, group, min(missing, _MAX_STARTED))
                missing -= started
                if not started:
                    break
            return [RunningTask(t.arn, t.state) for t in group.tasks.values() if t.kind == order.kind]

    async def stop(self, channel: str, kind: str, address: str, reason: str) -> None:
        group = self._groups.setdefault(channel, _ChannelTasks())
        async with group.lock:
            await self._find(channel, group)  # also tasks whose RunTask was never answered
            for task in [t for t in group.tasks.values() if t.kind == kind and t.address == address]:
                await self._end(group, task, reason)
            group.tokens.pop(kind, None)
            if not group.tasks and not group.tokens:
                self._groups.pop(channel, None)

    # ---- running tasks ----

    async def _find(self, channel: str, group: _ChannelTasks) -> None:
        """Takes over the tasks that an earlier process or another gateway started for the channel."""
        arns: list[str] = []
        page: dict[str, Any] = {}
        while True:
            answer = await self._call("list_tasks", startedBy=started_by(channel), desiredStatus="RUNNING", **page)
            arns += answer.get("taskArns", ())
            if not (token := answer.get("nextToken")):
                break
            page = {"nextToken": token}
        now = self._clock()
        for described in await self._describe(arns):
            environment = environment_of(described)
            if environment.get(CHANNEL) != channel or described.get("desiredStatus") == "STOPPED":
                continue  # two channel ids can have the same startedBy
            arn = str(described["taskArn"])
            task = group.tasks.setdefault(
                arn, _KnownTask(arn, environment.get(KIND, ""), environment.get(ADDRESS, ""), now)
            )
            task.state = str(described.get("lastStatus", ""))
        group.listed = True

    async def _refresh(self) -> None:
        """Updates the state of all tasks of all channels, in few calls. Tasks that have ended are forgotten."""
        async with self._describing:
            now = self._clock()
            if now - self._described < _CACHE_SECONDS:
                return
            known = {task.arn: (group, task) for group in self._groups.values() for task in group.tasks.values()}
            described = {str(t["taskArn"]): t for t in await self._describe(known)}
            for arn, (group, task) in known.items():
                state = described.get(arn)
                if state is None:
                    if now - task.since > _SETTLED:
                        self._over(group, task, "nobody knows it any more")
                elif state.get("desiredStatus") == "STOPPED" or state.get("lastStatus") == "STOPPED":
                    self._over(group, task, str(state.get("stoppedReason") or state.get("stopCode") or "stopped"))
                else:
                    task.state = str(state.get("lastStatus", task.state))
            self._described = now

    @staticmethod
    def _over(group: _ChannelTasks, task: _KnownTask, reason: str) -> None:
        if group.tasks.pop(task.arn, None) is not None:
            log.warning("a task has ended", task=task.arn, kind=task.kind, reason=reason[:300])

    async def _describe(self, arns: Iterable[str]) -> list[dict[str, Any]]:
        wanted, found = list(arns), list[dict[str, Any]]()
        for first in range(0, len(wanted), _MAX_DESCRIBED):
            answer = await self._call("describe_tasks", tasks=wanted[first : first + _MAX_DESCRIBED])
            found += answer.get("tasks", ())  # `failures` lists the tasks that ECS does not know (any more)
        return found

    # ---- starting and ending ----

    async def _start(self, order: TaskRequest, group: _ChannelTasks, count: int) -> int:
        """Starts up to `count` tasks and returns the number that were started.

        A call whose answer was lost is repeated with its token, so that no task is started twice.
        """
        token, count = group.tokens.setdefault(order.kind, (secrets.token_hex(16), count))
        try:
            answer = await self._call("run_task", clientToken=token, count=count, **_request(order, self._settings))
        except _TokenInUse:
            del group.tokens[order.kind]  # the token belongs to a different order: its tasks are found by listing
            group.listed = False
            raise StoreUnavailable("ecs (run_task): an earlier order is still under way") from None
        except OutputError:
            del group.tokens[order.kind]
            raise
        del group.tokens[order.kind]
        now = self._clock()
        started = [str(task["taskArn"]) for task in answer.get("tasks", ())]
        for arn in started:
            group.tasks[arn] = _KnownTask(arn, order.kind, order.address, now)
            log.info("task started", task=arn, kind=order.kind, channel=order.channel, size=order.size)
        failures = [f"{f.get('reason', '')} {f.get('detail') or ''}".strip() for f in answer.get("failures", ())]
        if failures:
            why = "; ".join(dict.fromkeys(failures))[:300]
            if not started:
                raise OutputError(f"ECS starts no task: {why}")
            log.warning("not all tasks were started", channel=order.channel, kind=order.kind, reason=why)
        return len(started)

    async def _end(self, group: _ChannelTasks, task: _KnownTask, reason: str) -> None:
        try:
            await self._call("stop_task", task=task.arn, reason=reason[:255])
        except OutputError as gone:
            log.info("a task was over already", task=task.arn, reason=str(gone))
        else:
            log.info("task ended", task=task.arn, kind=task.kind, reason=reason)
        group.tasks.pop(task.arn, None)

    # ---- calls ----

    async def _call(self, operation: str, **arguments: Any) -> Any:
        cluster = await self._own_cluster()
        async with self._session.calling("ecs", operation) as client:
            try:
                return await getattr(client, operation)(cluster=cluster, **arguments)
            except ClientError as error:
                code = error_code(error)
                said = " ".join(str(error.response.get("Error", {}).get("Message") or code).split())[:300]
                if code == "ConflictException":
                    raise _TokenInUse from None
                if code in _WRONG:  # also for missing capacity, which ECS reports as ClientException
                    raise OutputError(f"ECS says no ({operation}): {said}") from None
                raise

    async def _own_cluster(self) -> str:
        if not self._cluster:
            task = await own_task()
            if task is None or not task.cluster:
                raise OutputError("ecs.cluster is not set, and this process is in no ECS task")
            self._cluster = task.cluster
        return self._cluster


class _TokenInUse(Exception):
    """The client token was used for a different request."""


def _request(order: TaskRequest, settings: EcsSettings) -> dict[str, Any]:
    """Returns RunTask's parameters except cluster, count and token."""
    cpu, memory = SIZES[order.size]
    environment = {**order.environment, CHANNEL: order.channel, KIND: order.kind}
    if order.address:
        environment[ADDRESS] = order.address
    container: dict[str, Any] = {
        "name": settings.container,
        "environment": [{"name": name, "value": value} for name, value in sorted(environment.items())],
    }
    if order.command:
        container["command"] = list(order.command)
    request: dict[str, Any] = {
        "taskDefinition": settings.task,
        "startedBy": started_by(order.channel),
        "overrides": {"containerOverrides": [container], "cpu": str(cpu), "memory": str(memory)},
    }
    if settings.capacity_provider:
        request["capacityProviderStrategy"] = [{"capacityProvider": settings.capacity_provider, "weight": 1}]
    elif settings.launch_type:
        request["launchType"] = settings.launch_type
    if settings.subnets:
        request["networkConfiguration"] = {
            "awsvpcConfiguration": {
                "subnets": list(settings.subnets),
                "securityGroups": list(settings.security_groups),
                "assignPublicIp": "ENABLED" if settings.public_ip else "DISABLED",
            }
        }
    return request


def started_by(channel: str) -> str:
    """Returns the `startedBy` of a channel's tasks: its id, or a short hash where ECS does not accept the id."""
    if _STARTED_BY.fullmatch(channel):
        return channel
    return f"millrace-{hashlib.sha256(channel.encode()).hexdigest()[:27]}"


def environment_of(described: Mapping[str, Any]) -> dict[str, str]:
    """Returns the environment variables that RunTask set for a described task's containers."""
    return dict(_variables(described))


def _variables(described: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for container in members(described.get("overrides"), "containerOverrides"):
        for variable in members(container, "environment"):
            if isinstance(variable, Mapping):
                yield str(variable.get("name")), str(variable.get("value"))
