"""Events of EventBridge about an ECS task on Fargate, as AWS documents them."""

from __future__ import annotations

import json
from typing import Any

CLUSTER = "arn:aws:ecs:us-east-1:123456789012:cluster/ivs-cluster"


def event(
    task: str,
    last: str,
    desired: str,
    version: int,
    *,
    interface: str,
    id: str = "",
    cluster: str = CLUSTER,
    group: str = "service:ivs-transwrap",
    environment: dict[str, str] | None = None,
    minute: int = 0,
) -> str:
    """Returns an event of the task with this id. The event id is derived from task and version by default."""
    arn = f"arn:aws:ecs:us-east-1:123456789012:task/{cluster.rpartition('/')[2]}/{task}"
    override: dict[str, Any] = {"name": "transwrap"}
    if environment:
        override["environment"] = [{"name": name, "value": value} for name, value in environment.items()]
    return json.dumps(
        {
            "version": "0",
            "id": id or f"3317b2af-7005-947d-b652-{task[:4]}{version:08d}",
            "detail-type": "ECS Task State Change",
            "source": "aws.ecs",
            "account": "123456789012",
            "time": f"2026-01-23T17:{minute:02d}:00Z",
            "region": "us-east-1",
            "resources": [arn],
            "detail": {
                "attachments": [
                    {
                        "id": "1789bcae-ddfb-4d10-8ebe-8ac87ddba5b8",
                        "type": "eni",
                        "status": "ATTACHED",
                        "details": [
                            {"name": "subnetId", "value": "subnet-abcd1234"},
                            {"name": "networkInterfaceId", "value": interface},
                            {"name": "macAddress", "value": "0a:98:eb:a7:29:ba"},
                            {"name": "privateIPv4Address", "value": "10.0.0.139"},
                        ],
                    }
                ],
                "availabilityZone": "us-east-1c",
                "clusterArn": cluster,
                "containers": [{"containerArn": f"{arn}/c", "lastStatus": last, "name": "transwrap", "taskArn": arn}],
                "createdAt": "2026-01-23T17:00:00.103Z",
                "launchType": "FARGATE",
                "cpu": "256",
                "memory": "512",
                "desiredStatus": desired,
                "group": group,
                "lastStatus": last,
                "overrides": {"containerOverrides": [override]},
                "updatedAt": "2026-01-23T17:57:38.389Z",
                "taskArn": arn,
                "taskDefinitionArn": "arn:aws:ecs:us-east-1:123456789012:task-definition/ivs-transwrap:1",
                "version": version,
                "platformVersion": "1.4.0",
            },
        }
    )
