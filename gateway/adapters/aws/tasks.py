"""Tasks on Amazon ECS: RunTask starts them, a list by `startedBy` finds them, StopTask stops them."""

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import structlog
from botocore.exceptions import ClientError

from gateway.adapters.aws.network_interfaces import list_field
from gateway.adapters.aws.session import AwsSession, call, error_code, pages
from gateway.adapters.aws.task_metadata import own_task
from gateway.ports.errors import OutputError, StoreUnavailable
from gateway.ports.stores import RunningTask, TaskRequest
from gateway.settings.models import EcsSettings

log = structlog.get_logger(__name__)

# CPU units (1,024 are one vCPU) and MiB of memory of each size, such as the value of the channel field `codecSize`.
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
_CACHE_SECONDS: Final = 8.0  # for which the result of DescribeTasks is cached
_CONSISTENCY_SECONDS: Final = 30.0  # until ECS surely lists a started task, because it is eventually consistent
_STARTED_BY: Final = re.compile(r"[A-Za-z0-9_/-]{1,128}", re.ASCII)
# Errors that an operator must fix. All others are temporary.
_PERMANENT_CODES: Final = frozenset(
    {
        *("ClientException", "InvalidParameterException", "ClusterNotFoundException", "UnsupportedFeatureException"),
        *("PlatformUnknownException", "PlatformTaskDefinitionIncompatibilityException", "AccessDeniedException"),
        *("BlockedException", "ResourceNotFoundException"),
    }
)


@dataclass(slots=True)
class _KnownTask:
    """A task that Millrace started. first_seen: monotonic seconds."""

    arn: str
    kind: str
    address: str
    first_seen: float
    state: str = "PROVISIONING"


@dataclass(slots=True)
class _ChannelTasks:
    """The tasks of one channel.

    is_listed: whether `_find` has added the tasks that other processes started.
    tokens: by kind of task, the client token and count of an unanswered RunTask.
    """

    tasks: dict[str, _KnownTask] = field(default_factory=dict)
    is_listed: bool = False
    tokens: dict[str, tuple[str, int]] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class EcsTasks:
    """A TaskRunner. `startedBy` of a task contains its channel, so that a restarted gateway finds it.

    Needs ecs:RunTask, ecs:ListTasks, ecs:DescribeTasks, ecs:StopTask, and iam:PassRole for the task definition's roles.
    """

    def __init__(self, session: AwsSession, settings: EcsSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._session, self._settings, self._clock = session, settings, clock
        self._cluster = settings.cluster
        self._channels: dict[str, _ChannelTasks] = {}
        self._described_at = -_CACHE_SECONDS
        self._describe_lock = asyncio.Lock()

    # ---- TaskRunner ----

    async def reconcile(self, request: TaskRequest) -> list[RunningTask]:
        group = self._channels.setdefault(request.channel, _ChannelTasks())
        async with group.lock:
            if not group.is_listed:
                await self._find(request.channel, group)
            await self._refresh()
            same_kind = [task for task in group.tasks.values() if task.kind == request.kind]
            matching = [task for task in same_kind if task.address == request.address]
            matching.sort(key=lambda task: (task.first_seen, task.arn))
            for task in same_kind:
                if task not in matching[: request.count]:
                    await self._end(group, task, "not needed any more")
            missing = request.count - len(matching)
            while missing > 0:
                started = await self._start(request, group, min(missing, _MAX_STARTED))
                missing -= started
                if not started:
                    break
            return [RunningTask(t.arn, t.state) for t in group.tasks.values() if t.kind == request.kind]

    async def stop(self, channel: str, kind: str, address: str, reason: str) -> None:
        group = self._channels.setdefault(channel, _ChannelTasks())
        async with group.lock:
            await self._find(channel, group)  # also tasks of an unanswered RunTask
            for task in [t for t in group.tasks.values() if t.kind == kind and t.address == address]:
                await self._end(group, task, reason)
            group.tokens.pop(kind, None)
            if not group.tasks and not group.tokens:
                self._channels.pop(channel, None)

    # ---- running tasks ----

    async def _find(self, channel: str, group: _ChannelTasks) -> None:
        """Lists the channel's tasks that another process or gateway started."""
        ask = partial(self._call, "list_tasks", startedBy=started_by(channel), desiredStatus="RUNNING")
        arns = [arn async for answer in pages(ask, "nextToken") for arn in answer.get("taskArns", ())]
        now = self._clock()
        for described in await self._describe(arns):
            environment = environment_of(described)
            if environment.get(CHANNEL) != channel or described.get("desiredStatus") == "STOPPED":
                continue  # two channel ids can have the same startedBy
            arn = str(described["taskArn"])
            found = _KnownTask(arn, environment.get(KIND, ""), environment.get(ADDRESS, ""), now)
            task = group.tasks.setdefault(arn, found)
            task.state = str(described.get("lastStatus", ""))
        group.is_listed = True

    async def _refresh(self) -> None:
        """Updates all tasks of all channels with few calls. Removes ended tasks."""
        async with self._describe_lock:
            now = self._clock()
            if now - self._described_at < _CACHE_SECONDS:
                return
            known = {task.arn: (group, task) for group in self._channels.values() for task in group.tasks.values()}
            described = {str(t["taskArn"]): t for t in await self._describe(known)}
            for arn, (group, task) in known.items():
                state = described.get(arn)
                if state is None:
                    if now - task.first_seen > _CONSISTENCY_SECONDS:
                        self._remove_ended(group, task, "ECS no longer lists it")
                elif state.get("desiredStatus") == "STOPPED" or state.get("lastStatus") == "STOPPED":
                    reason = str(state.get("stoppedReason") or state.get("stopCode") or "stopped")
                    self._remove_ended(group, task, reason)
                else:
                    task.state = str(state.get("lastStatus", task.state))
            self._described_at = now

    @staticmethod
    def _remove_ended(group: _ChannelTasks, task: _KnownTask, reason: str) -> None:
        if group.tasks.pop(task.arn, None) is not None:
            log.warning("a task has ended", task=task.arn, kind=task.kind, reason=reason[:300])

    async def _describe(self, arns: Iterable[str]) -> list[dict[str, Any]]:
        wanted, found = list(arns), list[dict[str, Any]]()
        for first in range(0, len(wanted), _MAX_DESCRIBED):
            answer = await self._call("describe_tasks", tasks=wanted[first : first + _MAX_DESCRIBED])
            found += answer.get("tasks", ())  # `failures` lists unknown tasks
        return found

    # ---- starting and ending ----

    async def _start(self, request: TaskRequest, group: _ChannelTasks, count: int) -> int:
        """Starts up to `count` tasks. Returns the number of started tasks.

        An unanswered call is repeated with its token, so that no task is started twice.
        """
        token, count = group.tokens.setdefault(request.kind, (secrets.token_hex(16), count))
        try:
            answer = await self._call("run_task", clientToken=token, count=count, **_request(request, self._settings))
        except _TokenInUse:
            del group.tokens[request.kind]  # another request used the token; listing finds its tasks
            group.is_listed = False
            raise StoreUnavailable("ecs (run_task): an earlier request is still running") from None
        except OutputError:
            del group.tokens[request.kind]
            raise
        del group.tokens[request.kind]
        now = self._clock()
        started = [str(task["taskArn"]) for task in answer.get("tasks", ())]
        for arn in started:
            group.tasks[arn] = _KnownTask(arn, request.kind, request.address, now)
            log.info("task started", task=arn, kind=request.kind, channel=request.channel, size=request.size)
        failures = [f"{f.get('reason', '')} {f.get('detail') or ''}".strip() for f in answer.get("failures", ())]
        if failures:
            reason = "; ".join(dict.fromkeys(failures))[:300]
            if not started:
                raise OutputError(f"ECS starts no task: {reason}")
            log.warning("not all tasks were started", channel=request.channel, kind=request.kind, reason=reason)
        return len(started)

    async def _end(self, group: _ChannelTasks, task: _KnownTask, reason: str) -> None:
        try:
            await self._call("stop_task", task=task.arn, reason=reason[:255])
        except OutputError as error:
            log.info("a task had already ended", task=task.arn, reason=str(error))
        else:
            log.info("task ended", task=task.arn, kind=task.kind, reason=reason)
        group.tasks.pop(task.arn, None)

    # ---- calls ----

    async def _call(self, operation: str, **arguments: Any) -> Any:
        cluster = await self._own_cluster()
        client = self._session.client_for("ecs", operation, errors=partial(_rejected, operation))
        return await call(client, operation, cluster=cluster, **arguments)

    async def _own_cluster(self) -> str:
        if not self._cluster:
            task = await own_task()
            if task is None or not task.cluster:
                raise OutputError("ecs.cluster is not set, and this process does not run in an ECS task")
            self._cluster = task.cluster
        return self._cluster


class _TokenInUse(Exception):
    """Another request used the client token."""


def _rejected(operation: str, error: ClientError) -> Exception | None:
    """Returns the error if ECS rejected an operation permanently, otherwise None. See ErrorMap."""
    code = error_code(error)
    if code == "ConflictException":
        return _TokenInUse()
    # Missing capacity passes by itself, but has the code ClientException. So it counts as permanent too.
    if code not in _PERMANENT_CODES:
        return None
    message = " ".join(str(error.response.get("Error", {}).get("Message") or code).split())[:300]
    return OutputError(f"ECS rejected {operation}: {message}")


def _request(request: TaskRequest, settings: EcsSettings) -> dict[str, Any]:
    """Returns RunTask's parameters except cluster, count and token."""
    cpu, memory = SIZES[request.size]
    environment = {**request.environment, CHANNEL: request.channel, KIND: request.kind}
    if request.address:
        environment[ADDRESS] = request.address
    variables = [{"name": name, "value": value} for name, value in sorted(environment.items())]
    container: dict[str, Any] = {"name": settings.container, "environment": variables}
    if request.command:
        container["command"] = list(request.command)
    parameters: dict[str, Any] = {
        "taskDefinition": settings.task,
        "startedBy": started_by(request.channel),
        "overrides": {"containerOverrides": [container], "cpu": str(cpu), "memory": str(memory)},
    }
    if settings.capacity_provider:
        parameters["capacityProviderStrategy"] = [{"capacityProvider": settings.capacity_provider, "weight": 1}]
    elif settings.launch_type:
        parameters["launchType"] = settings.launch_type
    if settings.subnets:
        groups = {"subnets": list(settings.subnets), "securityGroups": list(settings.security_groups)}
        public_ip = "ENABLED" if settings.public_ip else "DISABLED"
        parameters["networkConfiguration"] = {"awsvpcConfiguration": {**groups, "assignPublicIp": public_ip}}
    return parameters


def started_by(channel: str) -> str:
    """Returns the `startedBy` value: the channel id, or a hash if ECS does not accept the id."""
    if _STARTED_BY.fullmatch(channel):
        return channel
    return f"millrace-{hashlib.sha256(channel.encode()).hexdigest()[:27]}"


def environment_of(described: Mapping[str, Any]) -> dict[str, str]:
    """Returns the environment variables that RunTask set for a described task's containers."""
    containers = list_field(described.get("overrides"), "containerOverrides")
    variables = [variable for container in containers for variable in list_field(container, "environment")]
    return {str(v.get("name")): str(v.get("value")) for v in variables if isinstance(v, Mapping)}
