"""Handles ECS task events, which EventBridge sends to an SQS queue: updates the table of broadcast servers."""

from gateway.adapters.aws.broadcast_server_table import BroadcastServerTable, TaskEvent
from gateway.adapters.aws.network_interfaces import interface_of
from gateway.adapters.aws.sqs_reader import UnexpectedMessage, message_json
from gateway.adapters.aws.tasks import CHANNEL, environment_of
from gateway.settings.models import EcsSettings


class TaskEvents:
    """Handles the messages of the queue `ecs.events`. Several gateways may read it concurrently.

    Ignores tasks of other clusters, and tasks of other services if `ecs.service` is set. Also ignores the tasks that
    gateways start for one channel.
    """

    def __init__(self, settings: EcsSettings, servers: BroadcastServerTable) -> None:
        self._cluster = settings.cluster.rpartition("/")[2]
        self._service = settings.service
        self._servers = servers

    async def handle(self, body: str) -> None:
        """The handler for SqsReader."""
        event = read_event(body)
        if event is not None and self._is_broadcast_server(event):
            await self._servers.apply(event)

    def _is_broadcast_server(self, event: TaskEvent) -> bool:
        if event.for_channel or (self._cluster and event.cluster.rpartition("/")[2] != self._cluster):
            return False
        return not self._service or event.group == f"service:{self._service}"


def read_event(body: str) -> TaskEvent | None:
    """Returns the event of a message, also inside an SNS message. Returns None for other kinds of events.

    Raises UnexpectedMessage if the message is not an event.
    """
    event = message_json(body)
    detail = event.get("detail")
    if not isinstance(event.get("source"), str) or not isinstance(detail, dict):
        raise UnexpectedMessage("the event has no source or no detail")
    if (event["source"], event.get("detail-type")) != ("aws.ecs", "ECS Task State Change"):
        return None
    id, task, version = event.get("id"), detail.get("taskArn"), detail.get("version")
    if not isinstance(id, str) or not id or not isinstance(task, str) or not task:
        raise UnexpectedMessage("the event has no id or no task")
    if isinstance(version, bool) or not isinstance(version, int):
        raise UnexpectedMessage("the event has no version")
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
        for_channel=CHANNEL in environment_of(detail),
    )
