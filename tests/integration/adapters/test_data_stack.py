"""The stores work on the data stack of deploy/aws, which MiniStack's CloudFormation creates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.adapters.aws.broadcast_server_table import BroadcastServerTable
from gateway.adapters.stores import Stores, open_aws, open_registry, open_stores
from gateway.ports.events import StoredEvent
from gateway.ports.jobs import VOD, StoredJob
from gateway.ports.nodes import Node, NodeRole
from gateway.ports.stores import EventQuery
from gateway.settings import Settings, load
from tests.integration.adapters.conftest import dynamodb

TEMPLATE = Path(__file__).parents[3] / "deploy" / "aws" / "data.yaml"


@pytest.fixture
def outputs(ministack: str) -> dict[str, str]:
    """Returns the outputs of the stack, in an account without other resources."""
    import boto3

    for name in dynamodb().list_tables()["TableNames"]:
        dynamodb().delete_table(TableName=name)
    client = boto3.client("cloudformation", region_name="eu-central-1")
    client.create_stack(StackName="millrace-data", TemplateBody=TEMPLATE.read_text())
    client.get_waiter("stack_create_complete").wait(
        StackName="millrace-data", WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    (stack,) = client.describe_stacks(StackName="millrace-data")["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


@pytest.fixture
def settings(outputs: dict[str, str], tmp_path: Path) -> Settings:
    return load(
        environ={
            "MILLRACE_DATA": str(tmp_path),
            "MILLRACE_CHANNELS": f"dynamodb://{outputs['ChannelsTable']}",
            "MILLRACE_REGISTRY": f"dynamodb://{outputs['RegistryTable']}",
            "MILLRACE_VOD__JOBS": f"dynamodb://{outputs['JobsTable']}",
            "MILLRACE_VOD__FILMS": f"dynamodb://{outputs['FilmsTable']}",
            "MILLRACE_EVENTS__STORE": f"dynamodb://{outputs['EventsTable']}",
            "MILLRACE_ADMIN__STORE": f"dynamodb://{outputs['ConsoleTable']}",
            "MILLRACE_OBJECTS": f"s3://{outputs['MediaBucket']}",
        }
    )


@pytest_asyncio.fixture
async def stores(settings: Settings) -> AsyncIterator[Stores]:
    async with open_stores(settings) as opened:
        yield opened


async def test_channels_jobs_and_the_console_are_stored_and_found(stores: Stores) -> None:
    await stores.channels.add({"id": "foyer", "key": "1-a"})
    assert (await stores.channels.get("foyer")).item["key"] == "1-a"
    job = StoredJob("1700000000000-aa", VOD, "a.mp4", 1.0, 1.0)
    await stores.jobs.add(job)
    assert await stores.jobs.newest(10) == [job]
    await stores.console.put("user", "eva", {"name": "eva"})
    assert await stores.console.list("user") == {"eva": {"name": "eva"}}


async def test_events_are_stored_and_found_by_channel(stores: Stores) -> None:
    events = [StoredEvent(f"{n:024x}", "stream.started", 1.0 + n, f"c{n % 2}", "n1", {}) for n in range(4)]
    await stores.events.append(events)
    assert await stores.events.newest(EventQuery(10)) == events[::-1]
    assert await stores.events.newest(EventQuery(10, "c1")) == [events[3], events[1]]


async def test_nodes_are_registered_and_found(settings: Settings) -> None:
    async with open_registry(settings) as registry:
        assert registry is not None
        await registry.join(Node("0a1b2c.1", NodeRole.GATEWAY, "10.0.0.5:8080"))
        assert [node.address for node in await registry.nodes()] == ["10.0.0.5:8080"]


async def test_the_table_of_servers_can_be_read_before_anything_is_in_it(outputs: dict[str, str]) -> None:
    async with open_aws("this test") as session:
        assert await BroadcastServerTable(session, outputs["ServersTable"]).servers() == []


@pytest.mark.parametrize("key", ["films/a.mp4", "B.MP4"])
async def test_the_bucket_reports_new_films_to_the_queue(stores: Stores, outputs: dict[str, str], key: str) -> None:
    import boto3

    from gateway.adapters.aws.s3_events import created_objects

    boto3.client("s3").put_object(Bucket=outputs["MediaBucket"], Key="notes.txt", Body=b"-")
    boto3.client("s3").put_object(Bucket=outputs["MediaBucket"], Key=key, Body=b"-")
    queue = boto3.client("sqs", region_name="eu-central-1")
    told: list[tuple[str, str]] = []
    while not told:  # S3 tests a new queue with its own message
        messages = queue.receive_message(QueueUrl=outputs["FilmsQueue"], WaitTimeSeconds=5).get("Messages", [])
        assert messages, "nothing was told"
        for message in messages:
            told += created_objects(message["Body"])
            queue.delete_message(QueueUrl=outputs["FilmsQueue"], ReceiptHandle=message["ReceiptHandle"])
    assert told == [(outputs["MediaBucket"], key)]
