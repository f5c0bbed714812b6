"""Finds the public name of an ECS task: ECS does not return it, so EC2 is asked for the task's network interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, error_code


class NetworkInterfaces:
    """Network interfaces of tasks. Raises StoreUnavailable where AWS does not answer or refuses.

    Needs `ec2:DescribeNetworkInterfaces`.
    """

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    async def public_name(self, interface: str) -> str:
        """Returns the public DNS name of a network interface (eni-…), else its public address.

        Returns "" where the interface has neither or no longer exists.
        """
        async with self._session.calling("ec2", f"interface {interface}") as client:
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


def interface_of(reply: Any) -> str:
    """Returns the id of a task's network interface, from DescribeTasks or an event; "" where it has none."""
    for attachment in members(reply, "attachments"):
        # "ElasticNetworkInterface" to DescribeTasks, "eni" in events.
        if isinstance(attachment, Mapping) and attachment.get("type") in ("ElasticNetworkInterface", "eni"):
            for detail in members(attachment, "details"):
                if isinstance(detail, Mapping) and detail.get("name") == "networkInterfaceId":
                    return str(detail.get("value") or "")
    return ""


def members(reply: Any, name: str) -> list[Any]:
    """Returns the list `name` of a JSON object; empty where there is none."""
    found = reply.get(name) if isinstance(reply, Mapping) else None
    return found if isinstance(found, list) else []
