"""Reads an SQS queue. Handles each message until it succeeds or cannot succeed."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, error_code
from gateway.lib.backoff import Backoff
from gateway.ports.errors import StoreUnavailable

log = structlog.get_logger(__name__)

_WAIT: Final = 20  # seconds of a long poll; SQS's maximum
_BATCH: Final = 10
_VISIBILITY_SECONDS: Final = 120  # for which SQS hides a message from other readers
_MAX_ATTEMPTS: Final = 5  # then a message that raises unexpected errors is deleted


class UnexpectedMessage(ValueError):
    """The message does not belong in this queue. The text has the reason."""


def message_json(body: str) -> dict[str, Any]:
    """Returns the JSON object of a message, also if it is inside an SNS message. Raises UnexpectedMessage."""
    event = _object(body)
    if event.get("Type") == "Notification" and isinstance(event.get("Message"), str):
        return _object(event["Message"])
    return event


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError:
        raise UnexpectedMessage("nested too deeply") from None
    except ValueError as error:
        raise UnexpectedMessage(str(error)) from None
    if not isinstance(value, dict):
        raise UnexpectedMessage("not a JSON object")
    return value


class SqsReader:
    """Reads the queue at `url`. Calls `handle` with the body of each message.

    A handled message is deleted. An unreadable message is deleted at once. A message that raises unexpected errors is
    deleted after five attempts. A redrive policy of the queue may remove it earlier.

    handle: returns when a message is processed. Raises StoreUnavailable to receive the message again, and
    UnexpectedMessage if it can never be processed.
    retry_seconds: time until a message that could not be handled is delivered again.
    room: awaited before each read of at most ten messages; it returns when the handler can accept them.
    """

    def __init__(
        self,
        session: AwsSession,
        url: str,
        handle: Callable[[str], Awaitable[None]],
        *,
        retry_seconds: int = 30,
        room: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._session = session
        self._url = url
        self._name = url.rpartition("/")[2]
        self._handle_body, self._retry_seconds, self._room = handle, retry_seconds, room

    async def run(self) -> None:
        """Runs until cancelled."""
        backoff = Backoff(1, 60)
        failing = False
        while True:
            if self._room is not None:
                await self._room()
            try:
                messages = await self._receive()
                backoff.reset()
                failing = False
            except StoreUnavailable as error:
                if not failing:
                    log.warning("events cannot be read now", queue=self._name, reason=str(error))
                failing = True
                await asyncio.sleep(backoff.next())
                continue
            for message in messages:
                await self._handle(message)

    async def _receive(self) -> list[dict[str, Any]]:
        async with self._session.client_for("sqs", f"queue {self._name}", wait=_WAIT) as client:
            answer = await client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=_BATCH,
                WaitTimeSeconds=_WAIT,
                VisibilityTimeout=_VISIBILITY_SECONDS,
                AttributeNames=["ApproximateReceiveCount"],
            )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    async def _handle(self, message: dict[str, Any]) -> None:
        body = str(message.get("Body", ""))
        try:
            await self._handle_body(body)
        except UnexpectedMessage as error:
            text = "a message that is not an event was dropped"
            log.warning(text, queue=self._name, reason=str(error), body=body[:200])
        except StoreUnavailable as error:
            log.info("an event must wait", queue=self._name, reason=str(error))
            await self._deliver_later(message)
            return
        except Exception as error:
            # An error in one event must not stop the reader.
            count = int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))
            log.error("an event could not be handled", queue=self._name, tries=count, body=body[:200], exc_info=error)
            if count < _MAX_ATTEMPTS:
                await self._deliver_later(message)
                return
        await self._change("delete_message", message)

    async def _deliver_later(self, message: dict[str, Any]) -> None:
        await self._change("change_message_visibility", message, VisibilityTimeout=self._retry_seconds)

    async def _change(self, operation: str, message: dict[str, Any], **parameters: Any) -> None:
        """Changes a message in the queue. If this fails, the message is delivered and handled again without harm."""
        request = {"QueueUrl": self._url, "ReceiptHandle": message["ReceiptHandle"], **parameters}
        try:
            async with self._session.client_for("sqs", f"queue {self._name}") as client:
                try:
                    await getattr(client, operation)(**request)
                except ClientError as error:
                    if "ReceiptHandle" not in error_code(error) and "MessageNotInflight" not in error_code(error):
                        raise
        except StoreUnavailable as error:
            log.info("a message could not be changed in the queue", queue=self._name, reason=str(error))
