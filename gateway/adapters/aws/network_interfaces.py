"""Finds the public name of an ECS task. ECS does not return it, so this asks EC2 for the network interface."""

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, error_code


async def public_name(session: AwsSession, interface: str) -> str:
    """Returns the public DNS name of a network interface (eni-…), else its public address.

    interface: "" for a task without one. Returns "" if the interface has neither or does not exist. Raises
    StoreUnavailable if AWS does not answer or rejects the request. Needs `ec2:DescribeNetworkInterfaces`.
    """
    if not interface:
        return ""
    async with session.client_for("ec2", f"interface {interface}") as client:
        try:
            answer = await client.describe_network_interfaces(NetworkInterfaceIds=[interface])
        except ClientError as error:
            if not error_code(error).startswith("InvalidNetworkInterfaceI"):  # …ID.NotFound, …Id.Malformed
                raise
            return ""
    for found in answer.get("NetworkInterfaces", ()):
        association = found.get("Association") or {}
        if name := association.get("PublicDnsName") or association.get("PublicIp"):
            return str(name)
    return ""


def interface_of(task: Any) -> str:
    """Returns the id of a task's network interface, or "" if it has none.

    task: one of the tasks in an answer of DescribeTasks, or the `detail` of a task event.
    """
    for attachment in list_field(task, "attachments"):
        # "ElasticNetworkInterface" in DescribeTasks, "eni" in events.
        if isinstance(attachment, Mapping) and attachment.get("type") in ("ElasticNetworkInterface", "eni"):
            for detail in list_field(attachment, "details"):
                if isinstance(detail, Mapping) and detail.get("name") == "networkInterfaceId":
                    return str(detail.get("value") or "")
    return ""


def list_field(value: Any, name: str) -> list[Any]:
    """Returns the list `name` of a JSON object, or an empty list."""
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, list) else []
