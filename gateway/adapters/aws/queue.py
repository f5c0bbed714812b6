"""S3Events: objects that a bucket tells an SQS queue of, each once, as often as the queue repeats itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import unquote_plus

from gateway.adapters.aws.messages import Messages, NoEvent, told
from gateway.adapters.aws.session import AwsSession

# take(bucket, key): returns where all is done that has to be; raises StoreAway to be asked again.
Take = Callable[[str, str], Awaitable[None]]


class S3Events:
    """Reads the queue at `url` and hands over the objects whose keys end in one of `suffixes`, in any case.

    later: as of Messages.
    """

    def __init__(self, session: AwsSession, url: str, suffixes: Sequence[str], take: Take, *, later: int = 30) -> None:
        self._messages = Messages(session, url, self._told, later=later)
        self._suffixes = tuple(s.lower() for s in suffixes)
        self._take = take

    async def run(self) -> None:
        """Until cancelled."""
        await self._messages.run()

    async def _told(self, body: str) -> None:
        try:
            objects = created(body)
        except ValueError as error:
            raise NoEvent(str(error)) from None
        for bucket, key in objects:
            if key.lower().endswith(self._suffixes):
                await self._take(bucket, key)


def created(body: str) -> list[tuple[str, str]]:
    """Bucket and key of each object that an event says was created; none for S3's test event and other kinds of event.

    S3's own notifications, with or without SNS around them, and EventBridge's. Raises ValueError for anything else.
    """
    event = told(body)
    if event.get("Event") == "s3:TestEvent":
        return []
    if event.get("source") == "aws.s3" and isinstance(event.get("detail"), dict):
        if event.get("detail-type") != "Object Created":
            return []
        return [_named(event["detail"])]  # EventBridge does not encode keys
    records = event.get("Records")
    if not isinstance(records, list):
        raise ValueError("neither records nor a detail")
    found = []
    for record in records:
        if not isinstance(record, dict) or not isinstance(record.get("s3"), dict):
            raise ValueError("a record without s3")
        if str(record.get("eventName", "")).removeprefix("s3:").startswith("ObjectCreated:"):
            bucket, key = _named(record["s3"])
            found.append((bucket, unquote_plus(key)))
    return found


def _named(told: dict[str, Any]) -> tuple[str, str]:
    bucket, item = told.get("bucket"), told.get("object")
    name = bucket.get("name") if isinstance(bucket, dict) else None
    key = item.get("key") if isinstance(item, dict) else None
    if not isinstance(name, str) or not isinstance(key, str) or not name or not key:
        raise ValueError("no bucket or no key")
    return name, key
