"""Handles S3 notifications of new objects from an SQS queue."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from gateway.adapters.aws.sqs_reader import UnexpectedMessage, message_json
from gateway.ports.bin_keys import in_bin

# handle(bucket, key): returns when the object is processed. It raises StoreUnavailable to receive the object again.
ObjectHandler = Callable[[str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ObjectRule:
    """A handler of new objects, and the keys that it accepts.

    suffixes: in any case; empty: all. prefix: of accepted keys. excluded: a prefix of other keys; "": none.
    also: whether a key is accepted whatever its suffix.
    """

    handle: ObjectHandler
    suffixes: Sequence[str] = ()
    prefix: str = ""
    excluded: str = ""
    also: Callable[[str], bool] = lambda key: False

    def accepts(self, key: str) -> bool:
        if not key.startswith(self.prefix) or (self.excluded and key.startswith(self.excluded)):
            return False
        suffixes = tuple(suffix.lower() for suffix in self.suffixes)
        return not suffixes or key.lower().endswith(suffixes) or self.also(key)


def object_handler(rules: Sequence[ObjectRule]) -> Callable[[str], Awaitable[None]]:
    """Returns the handler for SqsReader. It calls the handlers of all rules that accept a key."""

    async def handle(body: str) -> None:
        for bucket, key in created_objects(body):
            for rule in rules:
                if rule.accepts(key) and not in_bin(key):
                    await rule.handle(bucket, key)

    return handle


def created_objects(body: str) -> list[tuple[str, str]]:
    """Returns the bucket and key of each created object in an event.

    Returns an empty list for S3's test event and for other kinds of event. Accepts S3 notifications, also inside an SNS
    message, and EventBridge events. Raises UnexpectedMessage for other messages.
    """
    event = message_json(body)
    if event.get("Event") == "s3:TestEvent":
        return []
    if event.get("source") == "aws.s3" and isinstance(event.get("detail"), dict):
        if event.get("detail-type") != "Object Created":
            return []
        return [_bucket_and_key(event["detail"])]  # EventBridge does not encode keys
    records = event.get("Records")
    if not isinstance(records, list):
        raise UnexpectedMessage("the message has no Records and no detail")
    objects = []
    for record in records:
        if not isinstance(record, dict) or not isinstance(record.get("s3"), dict):
            raise UnexpectedMessage("a record has no s3")
        if str(record.get("eventName", "")).removeprefix("s3:").startswith("ObjectCreated:"):
            bucket, key = _bucket_and_key(record["s3"])
            objects.append((bucket, unquote_plus(key)))
    return objects


def _bucket_and_key(reply: dict[str, Any]) -> tuple[str, str]:
    bucket, item = reply.get("bucket"), reply.get("object")
    name = bucket.get("name") if isinstance(bucket, dict) else None
    key = item.get("key") if isinstance(item, dict) else None
    if not isinstance(name, str) or not isinstance(key, str) or not name or not key:
        raise UnexpectedMessage("the record has no bucket name or no key")
    return name, key
