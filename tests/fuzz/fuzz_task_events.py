"""Messages of a queue that tells of ECS tasks: an event with what identifies it, nothing, or ValueError."""

from __future__ import annotations

from gateway.adapters.aws.task_events import read_event
from tests.support.task_events import event

SEEDS = [
    event("a" * 8, "RUNNING", "RUNNING", 4, interface="eni-0123456789abcdef0").encode(),
    event("b" * 8, "RUNNING", "STOPPED", 5, interface="", environment={"CHANNEL_NAME": "c1"}).encode(),
    b'{"source":"aws.ecs","detail-type":"ECS Deployment State Change","detail":{}}',
    b'{"Type":"Notification","Message":"{}"}',
    b'{"id":"1","source":"aws.ecs","detail-type":"ECS Task State Change",'
    b'"detail":{"taskArn":"a","version":1,"attachments":{},"overrides":{"containerOverrides":7}}}',
    b"[" * 5000,
]


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module."""
    try:
        found = read_event(data.decode("utf-8", "replace"))
    except ValueError:
        return
    if found is not None:
        assert found.id and found.task and isinstance(found.version, int)
        assert all(isinstance(text, str) for text in (found.last, found.desired, found.interface, found.group))
