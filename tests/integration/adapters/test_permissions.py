"""The roles of the tasks on AWS allow what the gateway and the edge call, on the tables of the stack, and no more.

The calls are recorded from running adapters. `conftest.py` compares the calls of all other tests with the role, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_asyncio

from gateway.adapters.aws import broadcast_server_table
from gateway.adapters.aws.broadcast_server_table import BroadcastServerTable
from gateway.adapters.aws.ivs import AwsIvs
from gateway.adapters.aws.kvs import AwsKvs
from gateway.adapters.aws.network_interfaces import public_name
from gateway.adapters.aws.objects import S3Objects
from gateway.adapters.aws.s3_events import ObjectRule, object_handler
from gateway.adapters.aws.secret_stores import ManagedSecrets
from gateway.adapters.aws.session import AwsSession
from gateway.adapters.aws.sqs_reader import SqsReader
from gateway.adapters.aws.task_events import read_event
from gateway.adapters.aws.tasks import EcsTasks
from gateway.adapters.stores import Stores, open_channels, open_registry, open_stores
from gateway.channels.addresses import PublicDomains
from gateway.lib.tasks import Tasks
from gateway.ports.errors import StoreUnavailable
from gateway.ports.films import Film
from gateway.ports.jobs import VOD, JobState, StoredJob
from gateway.ports.nodes import Node, NodeRole, StreamClaim
from gateway.ports.stores import EventQuery, Registry
from gateway.settings import Settings
from tests.integration.adapters.conftest import BUCKET, dynamodb
from tests.integration.adapters.test_ecs_tasks import ORDER
from tests.integration.adapters.test_ecs_tasks import settings as ecs_settings
from tests.integration.adapters.test_event_store import event as stored_event
from tests.integration.adapters.test_task_events import of
from tests.integration.adapters.test_vod_queue import event as object_event
from tests.support import kvs
from tests.support.ec2 import ec2
from tests.support.ecs import ecs
from tests.support.ivs import ivs_api
from tests.support.permissions import Permission, granted, needed
from tests.support.putmedia import KvsDouble
from tests.support.time_outs import at_most
from tests.unit.deploy.test_aws_templates import containers, data, deployed, settings_of, statements

# What no client of botocore asks for by itself.
_BY_OTHERS = {
    ("ecs:GetTaskProtection", ""): "the agent of ECS asks it for the task",
    ("ecs:UpdateTaskProtection", ""): "the agent of ECS asks it for the task",
}
_SIGNING = "secretsmanager:GetSecretValue"


@pytest.fixture
def stack(aws: str, permitted: set[Permission], monkeypatch: pytest.MonkeyPatch) -> set[Permission]:
    """Creates the tables of the data stack on moto. Returns the permissions that calls from now on need."""
    for name in dynamodb().list_tables()["TableNames"]:
        dynamodb().delete_table(TableName=name)
    for properties in data().of_type("AWS::DynamoDB::Table").values():
        ours = {"TableName", "AttributeDefinitions", "KeySchema", "LocalSecondaryIndexes", "BillingMode"}
        indexes = properties.get("GlobalSecondaryIndexes")
        dynamodb().create_table(
            **{name: value for name, value in properties.items() if name in ours},
            **({"GlobalSecondaryIndexes": indexes} if indexes else {}),
        )
    permitted.clear()
    return permitted


def _stores_of(container: str, folder: Path) -> Settings:
    """The settings of a container with the bucket of the tests. References to secrets are left out."""
    settings = settings_of(containers(deployed())[container])
    assert not settings.objects.startswith("s3:") or container == "gateway"
    return settings.model_copy(update={"data": folder, "objects": f"s3://{BUCKET}" if container == "gateway" else ""})


@pytest_asyncio.fixture
async def stores(stack: set[Permission], tmp_path: Path) -> AsyncIterator[Stores]:
    async with open_stores(_stores_of("gateway", tmp_path)) as opened:
        yield opened


async def _use_channels(stores: Stores) -> None:
    channels = stores.channels
    await channels.check()
    await channels.add({"id": "plain", "key": "1-a"})
    await channels.update("plain", {"videoname": "Foyer"})
    # The claim of a channel that is gone: the transaction checks that channel.
    dynamodb().put_item(TableName="video-metadata", Item={"id": {"S": "slug/lobby"}, "channel": {"S": "gone"}})
    await channels.add({"id": "named", "key": "1-b", "slug": "lobby"})
    await channels.update("named", {"slug": "hall"})
    await channels.list()
    await channels.get_many(["plain", "named"])
    await channels.delete("named", 1.0)
    await channels.list_deleted()
    await channels.remove_deleted("named")


async def _use_registry(registry: Registry) -> None:
    await registry.check()
    for name in ("a.1", "b.1"):
        await registry.join(Node(name, NodeRole.GATEWAY, "10.0.0.5:8080"))
    await registry.beat(Node("a.1", NodeRole.GATEWAY, "10.0.0.5:8080", beat=2))
    await registry.nodes()
    claim = StreamClaim("c1", "a.1", "10.0.0.5:8080", "id1", 1.0)
    await registry.claim(claim, {})
    await registry.find(["c1"])
    await registry.release("c1", "id1", left=True)
    await registry.claim(replace(claim, id="id2"), {})
    await registry.release("c1", "id2")
    await registry.leave("a.1")


async def _use_tables(stores: Stores) -> None:
    job = StoredJob("1700000000000-aa", VOD, "a.mp4", 1.0, 1.0)
    await stores.jobs.add(job)
    await stores.jobs.get(job.id)
    await stores.jobs.change(replace(job, state=JobState.COMPLETE, version=job.version + 1))
    await stores.jobs.trim(0)
    film = Film("a", "A", 1.0)
    await stores.films.add(film)
    await stores.films.get("a")
    await stores.films.newest(10)
    await stores.films.in_state(film.state)
    await stores.films.delete(film)
    await stores.events.append([stored_event(1)])
    await stores.events.newest(EventQuery(10))
    await stores.events.newest(EventQuery(10, "c1"))
    console = stores.console
    await console.put("user", "eva", {})
    await console.get("user", "eva")
    await console.list("user")
    await console.entries()
    await console.delete("user", "eva")
    await stores.domains.get_domains()
    await stores.domains.set_domains(PublicDomains("push.example.com", ""))


async def _use_bucket(stores: Stores, folder: Path, patch: pytest.MonkeyPatch) -> None:
    objects = stores.objects
    await objects.check()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(b"-")
        await objects.put(name, folder / name)
    await objects.move("a.mp4", "c.mp4")
    assert [chunk async for chunk in objects.read("c.mp4")] == [b"-"]
    assert {found.key async for found in objects.list("")} == {"b.mp4", "c.mp4"}
    await objects.delete("b.mp4")
    await objects.delete_many(["c.mp4"])
    await objects.upload("d.mp4", 60)
    assert isinstance(objects, S3Objects) and stores.aws is not None
    # An upload in parts that fails.
    client = await stores.aws.client("s3")
    with patch.context() as patched, (folder / "large.mp4").open("wb") as file:
        file.truncate(20 << 20)
        file.flush()
        patched.setattr(client, "upload_part", None)
        with pytest.raises(TypeError):
            await objects.put("large.mp4", folder / "large.mp4")


async def _use_queue(session: AwsSession) -> None:
    sqs = boto3.client("sqs", region_name="eu-central-1")
    queue = sqs.create_queue(QueueName="films")["QueueUrl"]
    handled = asyncio.Event()
    tries = 0

    async def take(bucket: str, key: str) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise StoreUnavailable("it comes again")
        handled.set()

    sqs.send_message(QueueUrl=queue, MessageBody=object_event("a.mp4"))
    async with Tasks("reader") as tasks:
        tasks.start(SqsReader(session, queue, object_handler([ObjectRule(take)]), retry_seconds=0).run())
        async with asyncio.timeout(at_most(20)):
            await handled.wait()
            while (await _attributes(session, queue))["ApproximateNumberOfMessagesNotVisible"] != "0":
                await asyncio.sleep(0.05)


async def _attributes(session: AwsSession, queue: str) -> dict[str, str]:
    names = ["ApproximateNumberOfMessagesNotVisible"]
    sqs = boto3.client("sqs", region_name="eu-central-1")
    answer = await asyncio.to_thread(sqs.get_queue_attributes, QueueUrl=queue, AttributeNames=names)
    found: dict[str, str] = answer["Attributes"]
    return found


async def _use_services(session: AwsSession, aws: str, patch: pytest.MonkeyPatch) -> None:
    secret = boto3.client("secretsmanager", region_name="eu-central-1")
    secret.create_secret(Name="signing", SecretString="a secret of 24 letters..")
    await ManagedSecrets(session).read("signing")
    async with ec2() as interfaces, ecs() as cluster:
        interfaces.names["eni-" + "a" * 17] = "ec2-3-70-0-1.eu-central-1.compute.amazonaws.com"
        patch.setenv("AWS_ENDPOINT_URL_EC2", interfaces.url)
        patch.setenv("AWS_ENDPOINT_URL_ECS", cluster.url)
        await public_name(session, "eni-" + "a" * 17)
        tasks = EcsTasks(session, ecs_settings())
        await tasks.reconcile(ORDER)
        await tasks.stop(ORDER.channel, ORDER.kind, ORDER.address, "it is over")
    with ivs_api(aws) as api:
        patch.setenv("AWS_ENDPOINT_URL_IVS", api.url)
        ivs = AwsIvs(session)
        made = await ivs.create("cam", "BASIC", "LOW")
        await ivs.ingest(made.arn)
        await ivs.channels()
        await ivs.list()
        await ivs.delete(made.arn)


async def _use_kinesis(patch: pytest.MonkeyPatch) -> None:
    async with KvsDouble() as double:
        double.add("lobby", retention=7)
        kvs.use(double, patch)
        async with AwsSession() as session:
            endpoints = AwsKvs(session, kvs.ROLE)
            await endpoints.put_media("lobby", 0)
            await endpoints.describe("lobby")


async def test_the_role_of_gateways_allows_its_calls_and_no_more(
    aws: str, stack: set[Permission], stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stores.registry is not None and stores.aws is not None
    await _use_channels(stores)
    await _use_registry(stores.registry)
    await _use_tables(stores)
    await _use_bucket(stores, tmp_path, monkeypatch)
    await _use_queue(stores.aws)
    servers = BroadcastServerTable(stores.aws, "video-servers")
    await servers.servers()
    monkeypatch.setattr(broadcast_server_table, "public_name", _name)
    for body in (of("a", "RUNNING", "RUNNING", 4), of("a", "STOPPED", "STOPPED", 9)):
        event = read_event(body)
        assert event is not None
        await servers.apply(event)
    await _use_services(stores.aws, aws, monkeypatch)
    await _use_kinesis(monkeypatch)
    assert set(granted(statements("GatewayRole"))) == stack | _BY_OTHERS.keys()


async def _name(session: Any, interface: str) -> str:
    return "ec2-3-70-0-1.eu-central-1.compute.amazonaws.com"


@pytest.mark.parametrize("container", ["edge", "worker"])
async def test_the_role_of_edges_and_workers_allows_their_calls_and_no_more(
    stack: set[Permission], tmp_path: Path, container: str
) -> None:
    settings = _stores_of(container, tmp_path)
    async with open_channels(settings) as channels, open_registry(settings) as registry:
        assert channels is not None and registry is not None
        await channels.check()
        await _use_registry(registry)
    assert set(granted(statements("EdgeRole"))) == stack | {(_SIGNING, "")}


def test_permissions_of_transactions_are_those_of_their_writes() -> None:
    writes = [{"Put": {"TableName": "t"}}, {"ConditionCheck": {"TableName": "u"}}]
    assert list(needed("dynamodb", "TransactWriteItems", {"TransactItems": writes})) == [
        ("dynamodb:PutItem", "t"),
        ("dynamodb:ConditionCheckItem", "u"),
    ]
