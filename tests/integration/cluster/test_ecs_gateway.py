"""The whole gateway as an ECS task: its address, its protection during a push, and rotated secrets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from gateway.adapters.stores import open_registry
from gateway.channels.stream_key import SigningSecrets
from gateway.settings import load
from tests.support.clients import push
from tests.support.ecs_agent import Agent, agent
from tests.support.gateway import Gateway
from tests.support.media import Film
from tests.support.time_outs import at_most
from tests.support.tools import need

FILM = Film("ecs-gateway", seconds=30)


@contextlib.asynccontextmanager
async def started(folder: Path, at: Agent | None = None, **settings: str) -> AsyncIterator[Gateway]:
    (folder / "gateway").mkdir()
    gateway = Gateway(folder / "gateway", **(at.environ if at is not None else {}), **settings)
    try:
        await asyncio.to_thread(gateway.wait_ready)
        yield gateway
    finally:
        code = await asyncio.to_thread(gateway.stop)
    assert code == 0, gateway.log[-3000:]


async def test_a_task_registers_its_own_address_and_is_protected_during_a_push(tmp_path: Path) -> None:
    need("ffmpeg")
    registry = f"sqlite:///{tmp_path}/registry.db"
    shared = {
        "MILLRACE_REGISTRY": registry,
        "MILLRACE_CLUSTER__SECRET": "what the nodes share",
        "MILLRACE_HTTP__HOST": "0.0.0.0",
    }
    async with agent() as at, started(tmp_path, at, **shared) as gateway:
        async with open_registry(
            load(environ={"MILLRACE_DATA": str(tmp_path), "MILLRACE_REGISTRY": registry})
        ) as store:
            assert store is not None
            async with asyncio.timeout(at_most(10)):
                while not (nodes := await store.nodes()):
                    await asyncio.sleep(0.05)
        assert [node.address for node in nodes] == [f"10.0.2.106:{gateway.ports['http']}"]
        channel = await asyncio.to_thread(gateway.channel)
        assert at.asked == []
        with push(FILM, channel.push):
            await at.until(lambda a: a.protected)
        await at.until(lambda a: not a.protected)
        assert [asked["ProtectionEnabled"] for asked in at.asked] == [True, False]


async def test_keys_of_the_previous_secret_work_and_new_keys_use_the_new_secret(tmp_path: Path) -> None:
    need("ffmpeg")
    secret = tmp_path / "secret"
    secret.write_text("the-first-secret")
    references = {"MILLRACE_SIGNING__SECRET": f"file:{secret}", "MILLRACE_SIGNING__REFRESH": "0.2"}
    async with started(tmp_path, **references) as gateway:
        old = await asyncio.to_thread(gateway.channel, "old")
        assert SigningSecrets("the-first-secret").verify(old.id, old.key, 0) == "valid"
        secret.write_text("the-second-secret")
        async with asyncio.timeout(at_most(10)):
            while "a secret was replaced" not in gateway.log:
                await asyncio.sleep(0.05)
        new = await asyncio.to_thread(gateway.channel, "new")
        assert SigningSecrets("the-second-secret").verify(new.id, new.key, 0) == "valid"
        for channel in (old, new):
            with push(FILM, channel.push):
                await asyncio.to_thread(channel.wait_live)
        assert "the-first-secret" not in gateway.log and "the-second-secret" not in gateway.log
