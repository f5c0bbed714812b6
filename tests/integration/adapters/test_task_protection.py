"""Protection from scale-in: enabled during a push, renewed in time, and harmless to streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.adapters.aws.scale_in_protection import MINUTES, ScaleInProtection
from gateway.lib.backoff import Backoff
from gateway.lib.tasks import Tasks
from tests.support.ecs_agent import Agent, agent
from tests.support.time_outs import at_most

ON: dict[str, Any] = {"ProtectionEnabled": True, "ExpiresInMinutes": MINUTES}
OFF: dict[str, Any] = {"ProtectionEnabled": False}


@dataclass
class Rig:
    agent: Agent
    publishers: int = 0
    now: float = 1000.0
    shared: Path | None = None
    protection: ScaleInProtection = field(init=False)

    def __post_init__(self) -> None:
        self.protection = ScaleInProtection(
            lambda: self.publishers > 0,
            self.agent.environ,
            shared=self.shared,
            clock=lambda: self.now,
            poll=0.001,
            backoff=Backoff(0.001, 0.002),
        )


@contextlib.asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    async with agent() as at:
        made = Rig(at)
        async with Tasks("protection") as tasks:
            tasks.start(made.protection.run())
            yield made


async def test_a_task_is_protected_while_it_has_a_publisher() -> None:
    async with rig() as at:
        at.publishers = 1
        await at.agent.until(lambda a: a.protected)
        at.publishers = 0
        await at.agent.until(lambda a: not a.protected)
        assert at.agent.asked == [ON, OFF]


async def test_a_second_publisher_does_not_change_the_protection() -> None:
    async with rig() as at:
        at.publishers = 1
        await at.agent.until(lambda a: a.protected)
        at.publishers = 2
        await asyncio.sleep(0.02)  # many looks
        at.publishers = 1
        await asyncio.sleep(0.02)
        assert at.agent.asked == [ON]


async def test_the_protection_is_renewed_before_it_expires() -> None:
    async with rig() as at:
        at.publishers = 1
        await at.agent.until(lambda a: len(a.asked) == 1)
        at.now += MINUTES * 60 * 0.45
        await asyncio.sleep(0.02)
        assert at.agent.asked == [ON]
        at.now += MINUTES * 60 * 0.1
        await at.agent.until(lambda a: len(a.asked) == 2)
        assert at.agent.asked == [ON, ON]


async def test_a_failing_agent_is_asked_again_and_logged_once() -> None:
    with structlog.testing.capture_logs() as logs:
        async with rig() as at:
            at.agent.broken = 5
            at.publishers = 1
            await at.agent.until(lambda a: a.protected)
            assert len(at.agent.asked) == 6
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert len(warnings) == 1 and "ServerException" in warnings[0]["reason"]


async def test_protection_ends_also_if_its_request_failed_and_the_publisher_has_left() -> None:
    async with rig() as at:
        at.agent.broken = 1_000_000
        at.publishers = 1
        await at.agent.until(lambda a: len(a.asked) >= 2)
        at.publishers = 0
        at.agent.broken = 0
        await at.agent.until(lambda a: a.asked[-1] == OFF)


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        ({"failure": {"Arn": "a", "Reason": "TASK_NOT_VALID", "Detail": None}}, "TASK_NOT_VALID"),
        ({"error": {"Arn": "a", "Code": "AccessDeniedException", "Message": "not allowed"}}, "not allowed"),
        ({"protection": {"ProtectionEnabled": False}}, "does not match"),
        ({}, "200"),
    ],
)
async def test_a_refused_request_gives_no_protection(refusal: dict[str, Any], reason: str) -> None:
    with structlog.testing.capture_logs() as logs:
        async with rig() as at:
            at.agent.refusal = refusal
            at.publishers = 1
            await at.agent.until(lambda a: len(a.asked) >= 2)
            assert not at.protection.protected
    assert reason in logs[0]["reason"]


async def test_a_process_removes_its_protection_when_it_ends() -> None:
    async with agent() as at:
        made = Rig(at, publishers=1)
        async with Tasks("protection") as tasks:
            tasks.start(made.protection.run())
            await at.until(lambda a: a.protected)
        assert at.asked == [ON, OFF]


async def test_without_an_agent_nothing_is_done() -> None:
    protection = ScaleInProtection(lambda: True, {})
    assert not protection.available
    async with asyncio.timeout(at_most(5)):
        await protection.run()


async def test_an_unreachable_agent_does_not_end_the_loop() -> None:
    protection = ScaleInProtection(lambda: True, {"ECS_AGENT_URI": "http://127.0.0.1:1"}, backoff=Backoff(0.001, 0.001))
    with structlog.testing.capture_logs() as logs:
        async with Tasks("protection") as tasks:
            running = tasks.start(protection.run())
            await asyncio.sleep(0.05)
            assert not running.done()
    assert [entry["log_level"] for entry in logs].count("warning") == 1


async def test_the_last_process_of_a_task_with_publishers_removes_the_protection(tmp_path: Path) -> None:
    async with agent() as at, Tasks("protection") as tasks:
        first, second = (Rig(at, publishers=1, shared=tmp_path / "lock") for _ in range(2))
        for one in (first, second):
            tasks.start(one.protection.run())
        await at.until(lambda a: len(a.asked) == 2)
        first.publishers = 0
        await asyncio.sleep(0.05)  # many looks
        assert at.asked == [ON, ON]
        second.publishers = 0
        await at.until(lambda a: not a.protected)
        assert at.asked == [ON, ON, OFF]


async def test_a_failed_removal_does_not_prevent_protection_by_other_processes(tmp_path: Path) -> None:
    async with agent() as at, Tasks("protection") as tasks:
        first, second = (Rig(at, shared=tmp_path / "lock") for _ in range(2))
        for one in (first, second):
            tasks.start(one.protection.run())
        first.publishers = 1
        await at.until(lambda a: a.protected)
        at.refusal = {"error": {"Code": "ServerException", "Message": "away"}}
        first.publishers = 0
        await at.until(lambda a: OFF in a.asked)
        second.publishers = 1
        before = len(at.asked)
        await at.until(lambda a: ON in a.asked[before:])
        at.refusal = None
        await at.until(lambda a: a.asked[-1] == ON and a.protected)
        assert second.publishers == 1
