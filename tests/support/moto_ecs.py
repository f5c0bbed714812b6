"""ECS on a moto server, with workarounds for its quirks."""

from __future__ import annotations

from typing import Any

import boto3
import requests

from tests.support.time_outs import at_most

REGION = "eu-central-1"


def cluster(url: str) -> tuple[str, str]:
    """Creates a cluster `video-streaming`, a task definition `millrace-worker`, a subnet and a security group.

    It switches off that each DescribeTasks call advances tasks to their end. RunTask fails if the VPC has no DNS host
    names or a container has no memory.
    """
    requests.post(
        f"{url}/moto-api/state-manager/set-transition",
        json={"model_name": "ecs::task", "transition": {"progression": "manual", "times": 1_000_000}},
        timeout=at_most(10),
    ).raise_for_status()
    ec2, ecs = boto3.client("ec2", region_name=REGION), client()
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.2.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="tasks", Description="tasks", VpcId=vpc)["GroupId"]
    ecs.create_cluster(clusterName="video-streaming")
    ecs.register_task_definition(
        family="millrace-worker",
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        containerDefinitions=[{"name": "worker", "image": "millrace", "memory": 512}],
    )
    return subnet, group


def client() -> Any:
    return boto3.client("ecs", region_name=REGION)
