"""S3Events: objects that a bucket tells an SQS queue of, each once, as often as the queue repeats itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import unquote_plus

import structlog
from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, error_code
from gateway.hub.errors import StoreAway
from gateway.lib.backoff import Backoff

log = structlog.get_logger(__name__)

_WAIT: Final = 20  # seconds of a long poll, SQS's most
_BATCH: Final = 10
_HANDLING: Final = 120  # seconds for which a message is ours
_TRIES: Final = 5  # times that a message may break us

# take(bucket, key): returns where all is done that has to be; raises StoreAway to be asked again.
Take = Callable[[str, str], Awaitable[None]]


class S3Events:
    """Reads the queue at `url` and hands over the objects whose keys end in one of `suffixes`, in any case.

    A message is deleted when all it tells of was taken, or when it can never be: what cannot be read, at once; what
    breaks us, after a few times. With a redrive policy the queue itself may be faster. later: seconds after which a
    message comes again that nothing could be done about now.
    """

    def __init__(self, session: AwsSession, url: str, suffixes: Sequence[str], take: Take, *, later: int = 30) -> None:
        self._session = session
        self._url = url
        self._what = f"queue {url.rpartition('/')[2]}"
        self._suffixes = tuple(s.lower() for s in suffixes)
        self._take = take
        self._again = later

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(1, 60)
        away = False
        while True:
            try:
                messages = await self._receive()
                backoff.reset()
                away = False
            except StoreAway as error:
                if not away:
                    log.warning("events of the bucket cannot be read now", reason=str(error))
                away = True
                await asyncio.sleep(backoff.next())
                continue
            for message in messages:
                await self._handle(message)

    async def _receive(self) -> list[dict[str, Any]]:
        async with self._session.calling("sqs", self._what, wait=_WAIT) as client:
            answer = await client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=_BATCH,
                WaitTimeSeconds=_WAIT,
                VisibilityTimeout=_HANDLING,
                AttributeNames=["ApproximateReceiveCount"],
            )
        found: list[dict[str, Any]] = answer.get("Messages", [])
        return found

    async def _handle(self, message: dict[str, Any]) -> None:
        body = str(message.get("Body", ""))
        try:
            objects = created(body)
        except ValueError as error:
            log.warning("a message that is no event was dropped", reason=str(error), body=body[:200])
            await self._delete(message)
            return
        try:
            for bucket, key in objects:
                if key.lower().endswith(self._suffixes):
                    await self._take(bucket, key)
        except StoreAway as away:
            log.info("an event has to wait", reason=str(away))
            await self._later(message)
            return
        except Exception as error:
            # Whatever is wrong with one event must not end the reading of all others.
            count = int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))
            log.error("an event could not be taken", tries=count, body=body[:200], exc_info=error)
            if count < _TRIES:
                await self._later(message)
                return
        await self._delete(message)

    async def _delete(self, message: dict[str, Any]) -> None:
        await self._tell("delete_message", message)

    async def _later(self, message: dict[str, Any]) -> None:
        await self._tell("change_message_visibility", message, VisibilityTimeout=self._again)

    async def _tell(self, what: str, message: dict[str, Any], **more: Any) -> None:
        """Where this fails the message comes again, and is taken again without harm."""
        try:
            async with self._session.calling("sqs", self._what) as client:
                try:
                    await getattr(client, what)(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"], **more)
                except ClientError as error:
                    if "ReceiptHandle" not in error_code(error) and "MessageNotInflight" not in error_code(error):
                        raise
        except StoreAway as away:
            log.info("the queue was not told", reason=str(away))


def created(body: str) -> list[tuple[str, str]]:
    """Bucket and key of each object that an event says was created; none for S3's test event and other kinds of event.

    S3's own notifications, with or without SNS around them, and EventBridge's. Raises ValueError for anything else.
    """
    event = _object(body)
    if event.get("Type") == "Notification" and isinstance(event.get("Message"), str):
        event = _object(event["Message"])
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


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def _named(told: dict[str, Any]) -> tuple[str, str]:
    bucket, item = told.get("bucket"), told.get("object")
    name = bucket.get("name") if isinstance(bucket, dict) else None
    key = item.get("key") if isinstance(item, dict) else None
    if not isinstance(name, str) or not isinstance(key, str) or not name or not key:
        raise ValueError("no bucket or no key")
    return name, key
