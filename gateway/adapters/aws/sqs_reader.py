"""Reads an SQS queue and hands over each message until it is done, or cannot be done."""

from __future__ import annotations

import abc
import asyncio
import json
from typing import Any, Final

import structlog
from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, error_code
from gateway.lib.backoff import Backoff
from gateway.ports.errors import StoreUnavailable

log = structlog.get_logger(__name__)

_WAIT: Final = 20  # seconds of a long poll; SQS's maximum
_BATCH: Final = 10
_HANDLING: Final = 120  # seconds for which SQS hides a message from other readers
_TRIES: Final = 5  # attempts after which a message that raises an unexpected error is deleted


class UnexpectedMessage(ValueError):
    """The message does not belong in this queue; the text says why."""


def message_json(body: str) -> dict[str, Any]:
    """Returns the JSON object of a message, with or without SNS around it. Raises UnexpectedMessage."""
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
        raise UnexpectedMessage("no object")
    return value


class SqsReader(abc.ABC):
    """Reads the queue at `url`, and gives each message to `take`.

    A message is deleted when it is done, or when it can never be done.

    An unreadable message is deleted at once. One that raises an unexpected error is deleted after five attempts. A
    redrive policy of the queue may move it away earlier.

    later: seconds until a message that could not be handled is delivered again.
    """

    def __init__(self, session: AwsSession, url: str, *, later: int = 30) -> None:
        self._session = session
        self._url = url
        self._name = url.rpartition("/")[2]
        self._again = later

    @abc.abstractmethod
    async def take(self, body: str) -> None:
        """Returns when the work of a message is done.

        Raises StoreUnavailable to get the message again later, and UnexpectedMessage for one that can never be handled.
        """

    async def run(self) -> None:
        """Runs until cancelled."""
        backoff = Backoff(1, 60)
        away = False
        while True:
            try:
                messages = await self._receive()
                backoff.reset()
                away = False
            except StoreUnavailable as error:
                if not away:
                    log.warning("events cannot be read now", queue=self._name, reason=str(error))
                away = True
                await asyncio.sleep(backoff.next())
                continue
            for message in messages:
                await self._handle(message)

    async def _receive(self) -> list[dict[str, Any]]:
        async with self._session.calling("sqs", f"queue {self._name}", wait=_WAIT) as client:
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
            await self.take(body)
        except UnexpectedMessage as error:
            log.warning("a message that is no event was dropped", queue=self._name, reason=str(error), body=body[:200])
        except StoreUnavailable as away:
            log.info("an event has to wait", queue=self._name, reason=str(away))
            await self._later(message)
            return
        except Exception as error:
            # An error in one event must not stop the reading of all others.
            count = int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))
            log.error("an event could not be taken", queue=self._name, tries=count, body=body[:200], exc_info=error)
            if count < _TRIES:
                await self._later(message)
                return
        await self._delete(message)

    async def _delete(self, message: dict[str, Any]) -> None:
        await self._tell("delete_message", message)

    async def _later(self, message: dict[str, Any]) -> None:
        await self._tell("change_message_visibility", message, VisibilityTimeout=self._again)

    async def _tell(self, what: str, message: dict[str, Any], **more: Any) -> None:
        """Changes a message in the queue.

        Where this fails, the message comes again and is handled again without harm.
        """
        try:
            async with self._session.calling("sqs", f"queue {self._name}") as client:
                try:
                    await getattr(client, what)(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"], **more)
                except ClientError as error:
                    if "ReceiptHandle" not in error_code(error) and "MessageNotInflight" not in error_code(error):
                        raise
        except StoreUnavailable as away:
            log.info("the queue was not told", queue=self._name, reason=str(away))
