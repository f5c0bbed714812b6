"""ECS tasks, tested with a strict double, and with moto where it has the operation."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import structlog

from gateway.adapters.aws.session import AwsSession
from gateway.adapters.aws.tasks import SIZES, EcsTasks, started_by
from gateway.ports.errors import OutputError, StoreUnavailable
from gateway.ports.stores import TaskRequest
from gateway.settings.models import EcsSettings
from tests.support import moto_ecs
from tests.support.ecs import CLUSTER, Ecs, credentials, ecs
from tests.support.ecs_agent import agent

CHANNEL = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
HERE = "10.0.2.106:8080"
ORDER = TaskRequest(CHANNEL, "codec", "large", {"IS_LD": "true", "CODEC": "libx264"}, address=HERE)


def settings(**fields: Any) -> EcsSettings:
    given: dict[str, Any] = {
        "cluster": "video-streaming",
        "task": "millrace-worker",
        "container": "worker",
        "subnets": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
        "security_groups": ["sg-0123456789abcdef0"],
        "launch_type": "FARGATE",
        "capacity_provider": "",
        "public_ip": False,
        "events": "",
        "addresses": "",
        "service": "",
    }
    return EcsSettings(**given | fields)


@dataclass
class Rig:
    ecs: Ecs
    session: AwsSession
    now: float = 1000.0

    def tasks(self, **fields: Any) -> EcsTasks:
        """Returns a new task runner, like a gateway after a restart."""
        return EcsTasks(self.session, settings(**fields), clock=lambda: self.now)


@contextlib.asynccontextmanager
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    async with ecs() as double:
        for name in [n for n in os.environ if n.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in credentials(double.url).items():
            monkeypatch.setenv(name, value)
        async with AwsSession() as session:
            yield Rig(double, session)


@pytest.mark.parametrize("size", SIZES)
async def test_the_channel_determines_the_size_of_its_task(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    async with rig(monkeypatch) as at:
        await at.tasks().reconcile(replace(ORDER, size=size))
        (asked,) = at.ecs.calls("RunTask")
        assert (asked["overrides"]["cpu"], asked["overrides"]["memory"]) == tuple(map(str, SIZES[size]))


async def test_a_task_gets_the_originals_environment_and_carries_its_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        (task,) = await at.tasks().reconcile(ORDER)
        (started,) = at.ecs.running
        assert (task.arn, task.state) == (started.arn, "PROVISIONING")
        assert started.request["startedBy"] == CHANNEL
        assert started.environment == {
            "CHANNEL_NAME": CHANNEL,
            "TASK_TYPE": "codec",
            "ADDRESS": HERE,
            "IS_LD": "true",
            "CODEC": "libx264",
        }
        network = started.request["networkConfiguration"]["awsvpcConfiguration"]
        assert network["assignPublicIp"] == "DISABLED" and len(network["subnets"]) == 2


async def test_a_repeated_order_starts_no_additional_task(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        tasks = at.tasks()
        first = await tasks.reconcile(ORDER)
        for _ in range(5):
            at.now += 10
            assert [t.arn for t in await tasks.reconcile(ORDER)] == [t.arn for t in first]
        assert len(at.ecs.calls("RunTask")) == 1


async def test_a_lost_response_starts_no_task_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        tasks = at.tasks()
        at.ecs.lose = 2  # as often as one call is tried
        with pytest.raises(StoreUnavailable):
            await tasks.reconcile(ORDER)
        assert len(await tasks.reconcile(ORDER)) == 1
        assert len(at.ecs.running) == 1
        assert len({asked["clientToken"] for asked in at.ecs.calls("RunTask")}) == 1


async def test_a_changed_order_after_a_lost_response_ends_with_one_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with rig(monkeypatch) as at:
        tasks = at.tasks()
        at.ecs.lose = 2
        with pytest.raises(StoreUnavailable):
            await tasks.reconcile(ORDER)
        changed = replace(ORDER, size="xlarge")
        with pytest.raises(StoreUnavailable, match="still running"):
            await tasks.reconcile(changed)
        assert len(await tasks.reconcile(changed)) == 1
        assert len(at.ecs.running) == 1


async def test_a_killed_task_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        tasks = at.tasks()
        (before,) = await tasks.reconcile(ORDER)
        at.ecs.end(at.ecs.tasks[before.arn])
        at.now += 10
        with structlog.testing.capture_logs() as logs:
            (after,) = await tasks.reconcile(ORDER)
        assert after.arn != before.arn
        assert any(entry.get("reason") == "Essential container in task exited" for entry in logs)


async def test_a_new_task_that_ecs_does_not_list_yet_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        tasks = at.tasks()
        (before,) = await tasks.reconcile(ORDER)
        hidden = at.ecs.tasks.pop(before.arn)
        at.now += 10
        assert [t.arn for t in await tasks.reconcile(ORDER)] == [before.arn]
        at.ecs.tasks[before.arn] = hidden
        at.now += 60
        assert [t.arn for t in await tasks.reconcile(ORDER)] == [before.arn]
        assert len(at.ecs.running) == 1


async def test_a_restarted_gateway_finds_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        (before,) = await at.tasks().reconcile(ORDER)
        (found,) = await at.tasks().reconcile(ORDER)
        assert found.arn == before.arn and len(at.ecs.calls("RunTask")) == 1


async def test_tasks_of_a_vanished_gateway_are_stopped_and_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with rig(monkeypatch) as at:
        (old,) = await at.tasks().reconcile(replace(ORDER, address="10.0.9.9:8080"))
        (new,) = await at.tasks().reconcile(ORDER)
        assert new.arn != old.arn
        assert [task.arn for task in at.ecs.running] == [new.arn]


async def test_tasks_of_other_channels_and_kinds_keep_running(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        tasks = at.tasks()
        await tasks.reconcile(replace(ORDER, channel="other"))
        await tasks.reconcile(replace(ORDER, kind="slave", address=""))
        await tasks.reconcile(ORDER)
        await tasks.stop(CHANNEL, "codec", HERE, "the stream ended")
        assert sorted((t.environment["CHANNEL_NAME"], t.environment["TASK_TYPE"]) for t in at.ecs.running) == [
            (CHANNEL, "slave"),
            ("other", "codec"),
        ]


async def test_more_than_ten_tasks_take_more_than_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        many = replace(ORDER, kind="slave", size="micro", count=23, address="")
        assert len(await at.tasks().reconcile(many)) == 23
        assert [asked["count"] for asked in at.ecs.calls("RunTask")] == [10, 10, 3]
        assert len(await at.tasks().reconcile(many)) == 23


async def test_a_smaller_order_stops_the_newest_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        tasks = at.tasks()
        order = replace(ORDER, kind="slave", size="micro", count=1, address="")
        (first,) = await tasks.reconcile(order)
        at.now += 10
        await tasks.reconcile(replace(order, count=3))
        (left,) = await tasks.reconcile(order)
        assert left.arn == first.arn and len(at.ecs.running) == 1


async def test_tasks_that_found_no_capacity_are_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        tasks = at.tasks()
        order = replace(ORDER, kind="slave", size="micro", count=3, address="")
        at.ecs.room = 2
        with pytest.raises(OutputError, match="Capacity is unavailable"):
            await tasks.reconcile(order)
        assert len(at.ecs.running) == 2
        at.ecs.room = 5
        assert len(await tasks.reconcile(order)) == 3


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ClientException", "You've reached the limit on the number of tasks you can run concurrently"),
        ("AccessDeniedException", "not authorized to perform: ecs:RunTask"),
        ("BlockedException", "Your AWS account was blocked."),
    ],
)
async def test_errors_that_an_operator_must_fix_carry_the_aws_message(
    monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    async with rig(monkeypatch) as at:
        at.ecs.refuse = (code, message)
        with pytest.raises(OutputError, match=message):
            await at.tasks().reconcile(ORDER)


async def test_an_outage_of_ecs_neither_starts_nor_stops_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        tasks = at.tasks()
        await tasks.reconcile(ORDER)
        at.now += 10
        at.ecs.broken = 2
        with pytest.raises(StoreUnavailable):
            await tasks.reconcile(ORDER)
        assert len(at.ecs.running) == 1
        await tasks.reconcile(ORDER)
        assert len(at.ecs.calls("RunTask")) == 1


async def test_checking_many_channels_takes_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        tasks = at.tasks()
        orders = [replace(ORDER, channel=f"c{number}") for number in range(120)]
        await asyncio.gather(*(tasks.reconcile(order) for order in orders))
        at.ecs.asked.clear()
        at.now += 10
        await asyncio.gather(*(tasks.reconcile(order) for order in orders))
        assert [name for name, _ in at.ecs.asked] == ["DescribeTasks"] * 2


async def test_a_stop_also_ends_a_task_that_was_started_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        tasks = at.tasks()
        at.ecs.lose = 2
        with pytest.raises(StoreUnavailable):
            await tasks.reconcile(ORDER)
        await tasks.stop(CHANNEL, "codec", HERE, "the stream ended")
        assert at.ecs.running == []


async def test_stopping_a_finished_task_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        tasks = at.tasks()
        (task,) = await tasks.reconcile(ORDER)
        del at.ecs.tasks[task.arn]
        await tasks.stop(CHANNEL, "codec", HERE, "the stream ended")
        await tasks.stop(CHANNEL, "codec", HERE, "the stream ended")


async def test_without_a_configured_cluster_the_cluster_of_the_own_task_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with rig(monkeypatch) as at, agent() as metadata:
        for name, value in metadata.environ.items():
            monkeypatch.setenv(name, value)
        await at.tasks(cluster="").reconcile(ORDER)
        assert at.ecs.calls("RunTask")[0]["cluster"] == CLUSTER


async def test_without_a_cluster_outside_ecs_the_error_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        with pytest.raises(OutputError, match=r"ecs\.cluster is not set"):
            await at.tasks(cluster="").reconcile(ORDER)


async def test_a_capacity_provider_replaces_the_launch_type(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(monkeypatch) as at:
        await at.tasks(capacity_provider="FARGATE_SPOT").reconcile(ORDER)
        (asked,) = at.ecs.calls("RunTask")
        assert "launchType" not in asked
        assert asked["capacityProviderStrategy"] == [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]


@pytest.mark.parametrize("channel", ["lobby.camera.1", "x" * 128, "a.b" * 40])
async def test_a_task_is_found_for_every_valid_channel_id(monkeypatch: pytest.MonkeyPatch, channel: str) -> None:
    async with rig(monkeypatch) as at:
        order = replace(ORDER, channel=channel)
        (before,) = await at.tasks().reconcile(order)
        (after,) = await at.tasks().reconcile(order)
        assert before.arn == after.arn
    assert started_by(channel) == started_by(channel)


async def test_moto_accepts_the_same_requests(aws: str) -> None:
    """moto ignores client tokens, but it judges starting, finding and stopping independently."""
    subnet, group = moto_ecs.cluster(aws)
    async with AwsSession() as session:
        chosen = settings(subnets=[subnet], security_groups=[group])
        (started,) = await EcsTasks(session, chosen).reconcile(ORDER)
        (found,) = await EcsTasks(session, chosen).reconcile(ORDER)
        assert found.arn == started.arn
        await EcsTasks(session, chosen).stop(CHANNEL, "codec", HERE, "the stream ended")
        (told,) = moto_ecs.client().describe_tasks(cluster="video-streaming", tasks=[started.arn])["tasks"]
        assert told["desiredStatus"] == "STOPPED" and told["stoppedReason"] == "the stream ended"
