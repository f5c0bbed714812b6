"""Reading an SQS queue: long polling and the handling of a message."""

from __future__ import annotations

import asyncio

import boto3
import structlog

from gateway.adapters.aws.session import AwsSession
from gateway.adapters.aws.sqs_reader import SqsReader
from gateway.lib.tasks import Tasks
from tests.support.time_outs import at_most

REGION = "eu-central-1"


async def test_waiting_at_an_empty_queue_is_no_error(aws: str) -> None:
    """A long poll lasts 20 s, longer than the limit of any other call."""
    sqs = boto3.client("sqs", region_name=REGION)
    queue = sqs.create_queue(QueueName="quiet")["QueueUrl"]
    came = asyncio.Event()

    async def handle(body: str) -> None:
        assert body == "late"
        came.set()

    with structlog.testing.capture_logs() as logs:
        async with AwsSession() as session, Tasks("messages") as tasks:
            tasks.start(SqsReader(session, queue, handle).run())
            await asyncio.sleep(7)  # beyond what any other call gets
            await asyncio.to_thread(sqs.send_message, QueueUrl=queue, MessageBody="late")
            async with asyncio.timeout(at_most(10)):
                await came.wait()
    assert [entry for entry in logs if entry["log_level"] != "debug"] == []
