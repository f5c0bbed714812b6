"""A live channel's own edges: tasks that play only this channel, as real processes."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from gateway.adapters.stores import open_registry
from gateway.ports.nodes import Node, NodeRole
from gateway.settings import load
from tests.support.clients import push
from tests.support.ecs import Ecs, credentials, ecs
from tests.support.ecs_processes import Containers
from tests.support.gateway import Gateway, http
from tests.support.media import Film
from tests.support.time_outs import at_most
from tests.support.tools import need

FILM = Film("ecs-edge", seconds=60)


@contextlib.asynccontextmanager
async def started(folder: Path) -> AsyncIterator[tuple[Ecs, Containers, Gateway]]:
    need("ffmpeg")
    shared = {
        "MILLRACE_REGISTRY": f"sqlite:///{folder}/registry.db",
        "MILLRACE_CLUSTER__SECRET": secrets.token_hex(16),
    }
    definition = shared | {f"MILLRACE_{name}__PORT": "0" for name in ("RTMP", "HTTP", "WS", "ADMIN")}
    definition |= {"MILLRACE_DATA": str(folder / "edges"), "MILLRACE_HTTP__HOST": "127.0.0.1"}
    (folder / "gateway").mkdir()
    async with ecs() as double:
        double.launch = containers = Containers(folder, definition)
        gateway = Gateway(
            folder / "gateway",
            **credentials(double.url),
            **shared,
            MILLRACE_STREAM__LINGER="2",
            MILLRACE_WORKERS__RUNNER="ecs",
            MILLRACE_ECS__CLUSTER="video-streaming",
            MILLRACE_ECS__TASK="millrace-worker",
            MILLRACE_ECS__CONTAINER="worker",
            MILLRACE_ECS__SUBNETS="subnet-0123456789abcdef0",
        )
        try:
            await asyncio.to_thread(gateway.wait_ready)
            yield double, containers, gateway
        finally:
            code = await asyncio.to_thread(gateway.stop)
        assert code == 0, gateway.log[-3000:]


async def edges(folder: Path) -> list[Node]:
    chosen = load(environ={"MILLRACE_DATA": str(folder), "MILLRACE_REGISTRY": f"sqlite:///{folder}/registry.db"})
    async with open_registry(chosen) as registry:
        assert registry is not None
        return [node for node in await registry.nodes() if node.role is NodeRole.EDGE]


async def test_a_live_channel_gets_its_own_edges_which_play_it(tmp_path: Path) -> None:
    async with started(tmp_path) as (double, containers, gateway):
        channel = await asyncio.to_thread(lambda: gateway.channel("wide", isCluster=True, clusterNumber=2))
        with push(FILM, channel.push):
            async with asyncio.timeout(at_most(40)):
                while len(found := await edges(tmp_path)) < 2:
                    assert not containers.codes, containers.log()[-3000:]
                    await asyncio.sleep(0.2)
            assert {node.channel for node in found} == {channel.id}
            for node in found:
                played = await asyncio.to_thread(http, "GET", f"http://{node.address}/{channel.id}/live.m3u8")
                assert played.status == 200 and "#EXTM3U" in played.text, containers.log()[-3000:]
            assert [task.request["overrides"]["cpu"] for task in double.running] == ["256", "256"]
        await double.until(lambda e: not e.running, 40)
        async with asyncio.timeout(at_most(40)):
            while containers.running:
                await asyncio.sleep(0.1)
        assert containers.codes == [0, 0], containers.log()[-3000:]
