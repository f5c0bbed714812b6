"""Task events become the table of two broadcast servers: fail-over, repeated, unordered and foreign events, outages."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from gateway.adapters.aws.broadcast_server_table import BroadcastServerTable
from gateway.adapters.aws.network_interfaces import interface_of, public_name
from gateway.adapters.aws.session import AwsSession
from gateway.adapters.aws.sqs_reader import SqsReader
from gateway.adapters.aws.task_events import TaskEvents, read_event
from gateway.lib.tasks import Tasks
from gateway.ports.errors import StoreUnavailable
from tests.integration.adapters.conftest import CONTRACT_DOUBLES, DOUBLES
from tests.integration.adapters.test_ecs_tasks import settings
from tests.integration.adapters.test_vod_queue import left
from tests.support import moto_ecs
from tests.support.at_night import at_night
from tests.support.ec2 import Ec2, ec2
from tests.support.task_events import CLUSTER, event
from tests.support.time_outs import at_most

REGION = "eu-central-1"
TABLE = "ISS-task-dns-track-dev"
NAMES = {
    f"eni-{letter * 17}": f"ec2-3-70-{number}-1.eu-central-1.compute.amazonaws.com"
    for number, letter in enumerate("abcd")
}
A, B, C, D = NAMES.values()


def of(task: str, last: str, desired: str, version: int, **more: Any) -> str:
    """Returns an event of one of the tasks a to d."""
    return event(task * 8, last, desired, version, interface=f"eni-{task * 17}", **more)


def starts(task: str, minute: int = 0) -> list[str]:
    """Returns the events of a starting task."""
    steps = (("PROVISIONING", 1), ("PENDING", 2), ("ACTIVATING", 3), ("RUNNING", 4))
    return [of(task, last, "RUNNING", version, minute=minute) for last, version in steps]


def stops(task: str) -> list[str]:
    steps = (("RUNNING", 5), ("DEACTIVATING", 6), ("STOPPING", 7), ("DEPROVISIONING", 8), ("STOPPED", 9))
    return [of(task, last, "STOPPED", version) for last, version in steps]


@pytest.fixture(params=CONTRACT_DOUBLES)
def dynamo(request: pytest.FixtureRequest) -> str:
    """Yields each double of DynamoDB."""
    return str(request.getfixturevalue(DOUBLES[request.param]))


@dataclass
class Rig:
    servers: BroadcastServerTable
    ec2: Ec2
    session: AwsSession

    async def take(self, *bodies: str) -> None:
        for body in bodies:
            found = read_event(body)
            assert found is not None
            await self.servers.apply(found)

    async def told(self) -> list[dict[str, str]]:
        """Returns the servers that a new client gets."""
        return await BroadcastServerTable(self.session, TABLE).servers()

    async def roles(self) -> dict[str, tuple[str, str]]:
        """Returns the name and `replaced` of each role's row."""
        client = boto3.client("dynamodb", region_name=REGION)
        found = {}
        for role in ("primary", "secondary"):
            item = client.get_item(TableName=TABLE, Key={"role": {"S": role}}, ConsistentRead=True).get("Item")
            if item is not None:
                assert set(item) == {"role", "dns", "replaced", "eventid"}
                found[role] = (item["dns"]["S"], item["replaced"]["S"])
        return found


@contextlib.asynccontextmanager
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    boto3.client("dynamodb", region_name=REGION).create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "role", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "role", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    async with ec2() as double:
        double.names |= NAMES
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", double.url)
        async with AwsSession() as session:
            yield Rig(BroadcastServerTable(session, TABLE), double, session)


async def test_the_first_task_is_primary_and_the_next_secondary(dynamo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        await at.take(*starts("a"))
        assert await at.roles() == {"primary": (A, "no")}
        await at.take(*starts("b"))
        assert await at.roles() == {"primary": (A, "no"), "secondary": (B, "no")}


async def test_a_task_that_has_to_stop_is_replaced_by_the_next_that_runs(
    dynamo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This is the rule of the original system, for the events of a failing primary."""
    async with rig(monkeypatch) as at:
        await at.take(*starts("a"), *starts("b"), *stops("a"))
        assert await at.roles() == {"primary": (A, "yes"), "secondary": (B, "no")}
        await at.take(*starts("c"))
        assert await at.roles() == {"primary": (C, "no"), "secondary": (B, "no")}
        assert [(s["role"], s["dns"]) for s in await at.told()] == [("primary", C), ("secondary", B)]


async def test_if_both_servers_are_replaced_the_primary_is_filled_first(
    dynamo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(monkeypatch) as at:
        await at.take(*starts("a"), *starts("b"), *stops("b"), *stops("a"), *starts("c"), *starts("d"))
        assert await at.roles() == {"primary": (C, "no"), "secondary": (D, "no")}


async def test_a_waiting_task_takes_the_place_of_a_task_that_stops(
    dynamo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rolling deployment starts the new task first."""
    async with rig(monkeypatch) as at:
        await at.take(*starts("a"), *starts("b"), *starts("d", minute=9), *starts("c", minute=3))
        assert await at.roles() == {"primary": (A, "no"), "secondary": (B, "no")}
        await at.take(*stops("b"))
        assert await at.roles() == {"primary": (A, "no"), "secondary": (C, "no")}
        await at.take(*stops("a"))
        assert await at.roles() == {"primary": (D, "no"), "secondary": (C, "no")}


async def test_a_row_names_the_event_that_filled_it(dynamo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        await at.take(*starts("a"))
        found = read_event(starts("a")[-1])
        assert found is not None
        assert await at.told() == [{"role": "primary", "dns": A, "replaced": "no", "eventid": found.id}]


async def test_repeated_events_change_nothing(dynamo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        story = [*starts("a"), *starts("b"), *stops("a")]
        await at.take(*story)
        before = await at.roles()
        await at.take(*story, *reversed(story))
        assert await at.roles() == before


@pytest.mark.parametrize("seed", [*range(3), *at_night(*range(3, 8))])
async def test_only_running_tasks_are_listed_for_any_order_of_events(
    dynamo: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    async with rig(monkeypatch) as at:
        story = [*starts("a"), *starts("b"), *stops("a"), *starts("c")]
        random.Random(seed).shuffle(story)
        await at.take(*story)
        await at.take(*random.Random(seed + 100).sample(story, len(story)))
        assert {s["dns"] for s in await at.told()} == {B, C}


async def test_two_readers_of_one_queue_agree(ministack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This runs only on MiniStack, because moto rolls back the transactions of other clients, too."""
    async with rig(monkeypatch) as at:
        other = Rig(BroadcastServerTable(at.session, TABLE), at.ec2, at.session)
        story = [*starts("a"), *starts("b"), *stops("a"), *starts("c")]
        await asyncio.gather(*(one.take(body) for body in story for one in (at, other)), return_exceptions=True)
        await at.take(*story)  # an update that lost every race is repeated
        assert {s["dns"] for s in await at.told()} == {B, C}


@pytest.mark.parametrize("late", ["the start", "the stop"])
async def test_a_start_and_a_stop_that_do_not_see_each_other_leave_no_role_free(
    dynamo: str, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    """Two gateways read the rows at the same time, and then write one after the other."""
    async with rig(monkeypatch) as at:
        other = Rig(BroadcastServerTable(at.session, TABLE), at.ec2, at.session)
        await at.take(*starts("a"), *starts("b"))
        first, second = (stops("a"), starts("c")) if late == "the start" else (starts("c"), stops("a"))
        rows = [await other.servers._rows()]
        await at.take(*first)
        read = other.servers._rows

        async def outdated() -> dict[str, dict[str, str]]:
            return rows.pop() if rows else await read()

        monkeypatch.setattr(other.servers, "_rows", outdated)
        await other.take(second[-1] if late == "the start" else second[0])
        assert await at.roles() == {"primary": (C, "no"), "secondary": (B, "no")}


async def test_a_repeated_event_fills_a_role_that_a_gateway_left_free_when_it_ended(
    dynamo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(monkeypatch) as at:
        await at.take(*starts("a"), *starts("b"))
        rows = [await at.servers._rows(), {}]
        await at.take(*starts("c"))
        read = at.servers._rows

        async def outdated() -> dict[str, dict[str, str]]:
            return rows.pop(0) if rows else await read()

        monkeypatch.setattr(at.servers, "_rows", outdated)
        await at.take(stops("a")[0])
        assert await at.roles() == {"primary": (A, "yes"), "secondary": (B, "no")}
        await at.take(stops("a")[0])
        assert await at.roles() == {"primary": (C, "no"), "secondary": (B, "no")}


async def test_a_task_without_its_interface_is_identified_by_its_row(
    dynamo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(monkeypatch) as at:
        await at.take(*starts("a"))
        at.ec2.names.clear()
        await at.take(*stops("a"))
        assert await at.roles() == {"primary": (A, "yes")}


async def test_a_task_without_a_public_address_is_not_listed(dynamo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        at.ec2.names[next(iter(NAMES))] = ""
        await at.take(*starts("a"))
        assert await at.told() == []


async def test_a_server_without_a_dns_name_is_listed_by_its_address(
    dynamo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(monkeypatch) as at:
        at.ec2.names[next(iter(NAMES))] = "3.70.0.1"
        await at.take(*starts("a"))
        assert [s["dns"] for s in await at.told()] == ["3.70.0.1"]


async def test_an_event_is_processed_again_after_an_outage_of_ec2(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        at.ec2.broken = 2
        with pytest.raises(StoreUnavailable):
            await at.take(*starts("a"))
        await at.take(*starts("a"))
        assert await at.roles() == {"primary": (A, "no")}


async def test_the_queue_is_read_into_the_table(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at, Tasks("events") as tasks:
        sqs = boto3.client("sqs", region_name=REGION)
        queue = sqs.create_queue(QueueName="task-events")["QueueUrl"]
        chosen = settings(cluster=CLUSTER, events=queue, addresses=f"dynamodb://{TABLE}", service="ivs-transwrap")
        foreign = [
            of("d", "RUNNING", "RUNNING", 4, cluster=CLUSTER + "-other"),
            of("d", "RUNNING", "RUNNING", 4, group="service:edge"),
            of("d", "RUNNING", "RUNNING", 4, environment={"CHANNEL_NAME": "c1", "TASK_TYPE": "codec"}),
            json.dumps({"source": "aws.ecs", "detail-type": "ECS Deployment State Change", "detail": {}}),
            "no event",
            json.dumps({"Type": "Notification", "Message": starts("b")[-1]}),
        ]
        for body in itertools.chain(starts("a"), foreign):
            sqs.send_message(QueueUrl=queue, MessageBody=body)
        at.ec2.broken = 2
        tasks.start(SqsReader(at.session, chosen.events, TaskEvents(chosen, at.servers).handle, retry_seconds=0).run())
        async with asyncio.timeout(at_most(30)):
            while await asyncio.to_thread(left, sqs, queue):
                await asyncio.sleep(0.1)
        assert {s["dns"] for s in await at.told()} == {A, B}


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{}", '{"source": "aws.ecs"}', "[" * 100_000]
    + [json.dumps(json.loads(starts("a")[0]) | {"id": value}) for value in (None, "", 7)],
)
def test_an_invalid_event_raises_value_error(body: str) -> None:
    with pytest.raises(ValueError):
        read_event(body)


@pytest.mark.parametrize("version", [None, "4", True, 4.5])
def test_an_event_without_a_version_raises_value_error(version: Any) -> None:
    told = json.loads(starts("a")[0])
    told["detail"]["version"] = version
    with pytest.raises(ValueError):
        read_event(json.dumps(told))


@pytest.mark.parametrize(
    "attachments",
    [None, 7, [7], [{"type": "eni"}], [{"type": "eni", "details": [7, {}]}], [{"type": "eni", "details": 7}]],
)
def test_malformed_attachments_name_no_interface(attachments: Any) -> None:
    assert interface_of({"attachments": attachments}) == ""
    told = json.loads(starts("a")[0])
    told["detail"]["attachments"] = attachments
    found = read_event(json.dumps(told))
    assert found is not None and found.interface == ""


async def test_the_public_name_of_an_own_task_is_looked_up(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """moto answers DescribeTasks without a public name; the double adds the name."""
    subnet, group = moto_ecs.cluster(aws)
    network = {"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": [group]}}
    (task,) = moto_ecs.client().run_task(
        cluster="video-streaming", taskDefinition="millrace-worker", launchType="FARGATE", networkConfiguration=network
    )["tasks"]
    interface = interface_of(task)
    async with ec2() as double:
        double.names[interface] = A
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", double.url)
        async with AwsSession() as session:
            assert await public_name(session, interface) == A
            assert await public_name(session, "eni-" + "0" * 17) == ""


async def test_frequent_requests_are_answered_from_a_cache(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        now = 1000.0
        servers = BroadcastServerTable(at.session, TABLE, clock=lambda: now)
        assert await servers.servers() == []
        await at.take(*starts("a"))
        assert await servers.servers() == []
        now += 3
        assert [s["dns"] for s in await servers.servers()] == [A]
