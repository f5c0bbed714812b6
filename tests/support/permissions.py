"""What a role of the templates allows, and what the clients of AWS ask for while a test runs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest

from gateway.adapters.aws.session import AwsSession

# An action of IAM, and the kind of its resource: a table, an index, "bucket", "object", or "" for another one.
Permission = tuple[str, str]
_ACTIONS = {
    "s3:HeadObject": "s3:GetObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:CopyObject": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:UploadPartCopy": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
}
# What IAM asks for besides the action of the operation.
_IMPLIED = {
    "s3:CopyObject": ["s3:GetObject"],
    "s3:UploadPartCopy": ["s3:GetObject"],
    "ecs:RunTask": ["ecs:TagResource", "iam:PassRole"],
    "ivs:CreateChannel": ["ivs:CreateStreamKey"],
    "ivs:DeleteChannel": ["ivs:DeleteStreamKey"],
}
_OF_INDEXES = ("dynamodb:Query", "dynamodb:Scan")
_KINDS = {"s3:ListBucket": "bucket"}


def needed(service: str, operation: str, parameters: Mapping[str, Any]) -> Iterator[Permission]:
    """Yields the permissions for a call."""
    if service == "dynamodb":
        yield from _of_tables(operation, parameters)
        return
    called = f"{service}:{operation}"
    for action in (_ACTIONS.get(called, called), *_IMPLIED.get(called, ())):
        yield action, _KINDS.get(action, "object" if service == "s3" else "")


def _of_tables(operation: str, parameters: Mapping[str, Any]) -> Iterator[Permission]:
    if operation == "TransactWriteItems":
        for write in parameters["TransactItems"]:
            for kind, request in write.items():
                yield f"dynamodb:{kind}Item", request["TableName"]
    elif operation in ("BatchGetItem", "BatchWriteItem"):
        for table in parameters["RequestItems"]:
            yield f"dynamodb:{operation}", table
    else:
        index = parameters.get("IndexName", "")
        yield f"dynamodb:{operation}", parameters["TableName"] + (f"/index/{index}" if index else "")


def granted(statements: Iterable[Mapping[str, Any]]) -> Iterator[Permission]:
    """Yields what statements of a policy allow."""
    for statement in statements:
        actions, resources = statement["Action"], statement["Resource"]
        for action in [actions] if isinstance(actions, str) else actions:
            for resource in [resources] if isinstance(resources, str) else resources:
                kind = _kind(action, resource)
                if "/index/" not in kind or action in _OF_INDEXES:  # a statement may name a table and its index
                    yield action, kind


def _kind(action: str, resource: str) -> str:
    if action.startswith("dynamodb:"):
        return resource.partition(":table/")[2]
    return "object" if action.startswith("s3:") and "/" in resource else _KINDS.get(action, "")


def record(patch: pytest.MonkeyPatch) -> set[Permission]:
    """Returns the set of permissions that every later call of a client of the gateway needs."""
    found: set[Permission] = set()
    open_client: Callable[..., Any] = AwsSession.client

    def note(params: Mapping[str, Any], model: Any, **_: Any) -> None:
        found.update(needed(model.service_model.endpoint_prefix, model.name, params))

    async def client(self: AwsSession, *given: Any, **options: Any) -> Any:
        made = await open_client(self, *given, **options)
        made.meta.events.register("before-parameter-build", note, unique_id="permissions")
        return made

    patch.setattr(AwsSession, "client", client)
    return found
