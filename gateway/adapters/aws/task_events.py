"""Task events: what EventBridge tells an SQS queue of ECS tasks, read into the table of broadcast servers."""

from __future__ import annotations

from gateway.adapters.aws.interfaces import interface_of
from gateway.adapters.aws.messages import Messages, NoEvent, told
from gateway.adapters.aws.servers import BroadcastServers, TaskEvent
from gateway.adapters.aws.session import AwsSession
from gateway.adapters.aws.tasks import CHANNEL, environment_of
from gateway.settings.models import Ecs


class TaskEvents:
    """Reads the queue `ecs.events`; several gateways may. Other clusters' tasks, other services' where `ecs.service` is
    set, and those that gateways start for one channel are none of its business.

    later: as of Messages.
    """

    def __init__(self, session: AwsSession, settings: Ecs, servers: BroadcastServers, *, later: int = 30) -> None:
        self._messages = Messages(session, settings.events, self._told, later=later)
        self._cluster = settings.cluster.rpartition("/")[2]
        self._service = settings.service
        self._servers = servers

    async def run(self) -> None:
        """Until cancelled."""
        await self._messages.run()

    async def _told(self, body: str) -> None:
        try:
            event = read_event(body)
        except ValueError as error:
            raise NoEvent(str(error)) from None
        if event is not None and self._concerns(event):
            await self._servers.take(event)

    def _concerns(self, event: TaskEvent) -> bool:
        if event.ours or (self._cluster and event.cluster.rpartition("/")[2] != self._cluster):
            return False
        return not self._service or event.group == f"service:{self._service}"


def read_event(body: str) -> TaskEvent | None:
    """The event of a message, with or without SNS around it; None for one that tells of something else than a task.

    Raises ValueError for what is no event.
    """
    event = told(body)
    detail = event.get("detail")
    if not isinstance(event.get("source"), str) or not isinstance(detail, dict):
        raise ValueError("neither source nor detail")
    if (event["source"], event.get("detail-type")) != ("aws.ecs", "ECS Task State Change"):
        return None
    id, task, version = event.get("id"), detail.get("taskArn"), detail.get("version")
    if not isinstance(id, str) or not id or not isinstance(task, str) or not task:
        raise ValueError("no id or no task")
    if isinstance(version, bool) or not isinstance(version, int):
        raise ValueError("no version")
    return TaskEvent(
        id=id,
        time=str(event.get("time", "")),
        task=task,
        cluster=str(detail.get("clusterArn", "")),
        group=str(detail.get("group", "")),
        version=version,
        last=str(detail.get("lastStatus", "")),
        desired=str(detail.get("desiredStatus", "")),
        interface=interface_of(detail),
        ours=CHANNEL in environment_of(detail),
    )
