"""Reads S3 notifications of new objects from an SQS queue.

An object is handed over again where SQS repeats the message.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import unquote_plus

from gateway.adapters.aws.session import AwsSession
from gateway.adapters.aws.sqs_reader import SqsReader, UnexpectedMessage, message_json

# take(bucket, key): returns when the work is done. It raises StoreUnavailable to get the object again later.
TakeObject = Callable[[str, str], Awaitable[None]]


class S3Events(SqsReader):
    """Reads the queue at `url` and hands over the objects whose keys end in one of `suffixes`, in any case.

    later: seconds until a message that could not be handled is delivered again (see SqsReader).
    """

    def __init__(
        self, session: AwsSession, url: str, suffixes: Sequence[str], take: TakeObject, *, later: int = 30
    ) -> None:
        super().__init__(session, url, later=later)
        self._suffixes = tuple(s.lower() for s in suffixes)
        self._take_object = take

    async def take(self, body: str) -> None:
        for bucket, key in created(body):
            if key.lower().endswith(self._suffixes):
                await self._take_object(bucket, key)


def created(body: str) -> list[tuple[str, str]]:
    """Returns the bucket and key of each object that an event says was created.

    Returns none for S3's test event and for other kinds of event. Accepts S3's own notifications, with or without SNS
    around them, and EventBridge's. Raises UnexpectedMessage for anything else.
    """
    event = message_json(body)
    if event.get("Event") == "s3:TestEvent":
        return []
    if event.get("source") == "aws.s3" and isinstance(event.get("detail"), dict):
        if event.get("detail-type") != "Object Created":
            return []
        return [_named(event["detail"])]  # EventBridge does not encode keys
    records = event.get("Records")
    if not isinstance(records, list):
        raise UnexpectedMessage("neither records nor a detail")
    found = []
    for record in records:
        if not isinstance(record, dict) or not isinstance(record.get("s3"), dict):
            raise UnexpectedMessage("a record without s3")
        if str(record.get("eventName", "")).removeprefix("s3:").startswith("ObjectCreated:"):
            bucket, key = _named(record["s3"])
            found.append((bucket, unquote_plus(key)))
    return found


def _named(reply: dict[str, Any]) -> tuple[str, str]:
    bucket, item = reply.get("bucket"), reply.get("object")
    name = bucket.get("name") if isinstance(bucket, dict) else None
    key = item.get("key") if isinstance(item, dict) else None
    if not isinstance(name, str) or not isinstance(key, str) or not name or not key:
        raise UnexpectedMessage("no bucket or no key")
    return name, key
