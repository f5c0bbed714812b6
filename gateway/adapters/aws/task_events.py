"""Reads ECS task events, which EventBridge sends to an SQS queue, into the table of broadcast servers."""

from __future__ import annotations

from gateway.adapters.aws.broadcast_server_table import BroadcastServerTable, TaskEvent
from gateway.adapters.aws.network_interfaces import interface_of
from gateway.adapters.aws.session import AwsSession
from gateway.adapters.aws.sqs_reader import SqsReader, UnexpectedMessage, message_json
from gateway.adapters.aws.tasks import CHANNEL, environment_of
from gateway.settings.models import EcsSettings


class TaskEvents(SqsReader):
    """Reads the queue `ecs.events`. Several gateways may read it at the same time.

    Ignores tasks of other clusters, and of other services where `ecs.service` is set. Also ignores the tasks that
    gateways start for one channel.

    later: seconds until a message that could not be handled is delivered again (see SqsReader).
    """

    def __init__(
        self, session: AwsSession, settings: EcsSettings, servers: BroadcastServerTable, *, later: int = 30
    ) -> None:
        super().__init__(session, settings.events, later=later)
        self._cluster = settings.cluster.rpartition("/")[2]
        self._service = settings.service
        self._servers = servers

    async def take(self, body: str) -> None:
        event = read_event(body)
        if event is not None and self._concerns(event):
            await self._servers.take(event)

    def _concerns(self, event: TaskEvent) -> bool:
        if event.ours or (self._cluster and event.cluster.rpartition("/")[2] != self._cluster):
            return False
        return not self._service or event.group == f"service:{self._service}"


def read_event(body: str) -> TaskEvent | None:
    """Returns the event of a message, with or without SNS around it. Returns None for events of another kind.

    Raises UnexpectedMessage where the message is not an event.
    """
    event = message_json(body)
    detail = event.get("detail")
    if not isinstance(event.get("source"), str) or not isinstance(detail, dict):
        raise UnexpectedMessage("neither source nor detail")
    if (event["source"], event.get("detail-type")) != ("aws.ecs", "ECS Task State Change"):
        return None
    id, task, version = event.get("id"), detail.get("taskArn"), detail.get("version")
    if not isinstance(id, str) or not id or not isinstance(task, str) or not task:
        raise UnexpectedMessage("no id or no task")
    if isinstance(version, bool) or not isinstance(version, int):
        raise UnexpectedMessage("no version")
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
