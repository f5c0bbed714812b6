"""A ladder made by ECS tasks: the whole gateway, a strict ECS double, and the workers as processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import push
from tests.support.ecs import Ecs, credentials, ecs
from tests.support.ecs_processes import Containers
from tests.support.gateway import Channel, Gateway, http
from tests.support.media import Film
from tests.support.time_outs import at_most
from tests.support.tools import need

FILM = Film("ecs-worker", seconds=15, size="854x480", gop=30)


@dataclass
class Rig:
    ecs: Ecs
    containers: Containers
    gateway: Gateway

    async def until(self, condition: Callable[[], Any], what: str, seconds: float = 40.0) -> Any:
        """Returns the value of the condition once it is true. It runs in a thread, because the double uses the loop."""
        try:
            async with asyncio.timeout(at_most(seconds)):
                while not (found := await asyncio.to_thread(condition)):
                    await asyncio.sleep(0.1)
                return found
        except TimeoutError:
            told = f"{self.gateway.log[-3000:]}\n{self.containers.log()[-3000:]}"
            raise AssertionError(f"not {what} within {seconds:.0f} s\n{told}") from None

    async def channel(self, **fields: Any) -> Channel:
        wanted = {"isCodec": True, "ld": True, "codecSize": "small"} | fields
        return await asyncio.to_thread(lambda: self.gateway.channel("ladder", **wanted))


@contextlib.asynccontextmanager
async def rig(folder: Path, **more: str) -> AsyncIterator[Rig]:
    need("ffmpeg")
    secret = secrets.token_hex(16)
    async with ecs() as double:
        double.launch = containers = Containers(folder, {"MILLRACE_CLUSTER__SECRET": secret})
        settings = {
            "MILLRACE_REGISTRY": f"sqlite:///{folder}/registry.db",
            "MILLRACE_CLUSTER__SECRET": secret,
            "MILLRACE_WORKERS__RUNNER": "ecs",
            "MILLRACE_ECS__CLUSTER": "video-streaming",
            "MILLRACE_ECS__TASK": "millrace-worker",
            "MILLRACE_ECS__CONTAINER": "worker",
            "MILLRACE_ECS__SUBNETS": "subnet-0123456789abcdef0",
            "MILLRACE_ECS__SECURITY_GROUPS": "sg-0123456789abcdef0",
            **more,
        }
        (folder / "gateway").mkdir()
        gateway = Gateway(folder / "gateway", **credentials(double.url), **settings)
        try:
            await asyncio.to_thread(gateway.wait_ready)
            yield Rig(double, containers, gateway)
        finally:
            code = await asyncio.to_thread(gateway.stop)
        assert code in (0, -signal.SIGKILL), gateway.log[-3000:]


def codec(channel: Channel) -> dict[str, Any]:
    """Returns the output's entry of the session, or one without renditions."""
    return next((o for o in channel.session()["outputs"] if o["name"] == "codec"), {"renditions": []})


def segments(channel: Channel) -> list[int]:
    """Returns the numbers of the rendition's segments in its playlist."""
    reply = http("GET", channel.url("360p/index.m3u8"))
    return [int(line[:-3]) for line in reply.text.splitlines() if line.endswith(".ts")] if reply.status == 200 else []


async def test_a_task_makes_the_ladder_and_ends_with_the_stream(tmp_path: Path) -> None:
    async with rig(tmp_path, MILLRACE_STREAM__LINGER="2") as at:
        channel = await at.channel()
        with push(FILM, channel.push, loop=True):
            rendition = await at.until(lambda: codec(channel)["renditions"], "a rung")
            assert [(r["name"], r["width"], r["height"]) for r in rendition] == [(f"{channel.id}@360p", 640, 360)]
            (task,) = codec(channel)["tasks"]
            assert task["arn"] == at.ecs.running[0].arn
            assert at.ecs.running[0].environment["INPUT_URL"].endswith(f"/_node/{channel.id}?original=1")
            await at.until(lambda: len(segments(channel)) >= 3, "three segments of the rung")
            index = await asyncio.to_thread(http, "GET", channel.url("index.m3u8"))
            assert "360p/index.m3u8" in index.text
            played = await asyncio.to_thread(http, "GET", channel.url("360p/index.m3u8"))
            first = next(line for line in played.text.splitlines() if line.endswith(".ts"))
            assert (await asyncio.to_thread(http, "GET", channel.url(f"360p/{first}"))).body[:1] == b"\x47"
        await at.until(lambda: not at.containers.running, "the task ended", 40)
        await at.ecs.until(lambda e: not e.running)
        assert at.containers.codes == [0]
        assert len(at.ecs.calls("RunTask")) == 1


@pytest.mark.nightly
async def test_a_killed_task_is_replaced_and_its_rendition_continues(tmp_path: Path) -> None:
    async with rig(tmp_path) as at:
        channel = await at.channel()
        with push(FILM, channel.push, loop=True):
            before = await at.until(lambda: len(segments(channel)) >= 2 and segments(channel), "segments of the rung")
            (killed,) = at.ecs.running
            os.killpg(at.containers.running[0].pid, signal.SIGKILL)
            await at.ecs.until(lambda e: [t.arn for t in e.running] not in ([], [killed.arn]))
            after = await at.until(
                lambda: (found := segments(channel)) and found[-1] > before[-1] + 3 and found, "the rung goes on"
            )
            assert after == sorted(after)
            reply = await asyncio.to_thread(http, "GET", channel.url("360p/index.m3u8"))
            assert "#EXT-X-ENDLIST" not in reply.text
            assert (await asyncio.to_thread(codec, channel))["replaced"] == 1


async def test_a_rendition_added_while_live_comes_from_the_same_task(tmp_path: Path) -> None:
    async with rig(tmp_path) as at:
        channel = await at.channel()
        with push(FILM, channel.push, loop=True):
            await at.until(lambda: codec(channel)["renditions"], "a rung")
            changed = await asyncio.to_thread(at.gateway.api, "PUT", f"/videostream/{channel.id}", {"sd": True})
            assert changed.status == 200
            await at.until(lambda: len(codec(channel)["renditions"]) == 2, "both rungs")
            assert len(at.ecs.calls("RunTask")) == 1


@pytest.mark.nightly
async def test_a_worker_without_its_gateway_ends_itself(tmp_path: Path) -> None:
    async with rig(tmp_path) as at:
        channel = await at.channel()
        with push(FILM, channel.push, loop=True):
            await at.until(lambda: codec(channel)["renditions"], "a rung")
            os.killpg(at.gateway.process.pid, signal.SIGKILL)
        await at.until(lambda: not at.containers.running, "the worker ended", 60)
        assert at.containers.codes == [0]
        assert at.ecs.calls("StopTask") == []  # the gateway did not stop the task


async def test_switching_the_ladder_off_ends_the_task_and_its_renditions(tmp_path: Path) -> None:
    async with rig(tmp_path) as at:
        channel = await at.channel()
        with push(FILM, channel.push, loop=True):
            await at.until(lambda: codec(channel)["renditions"], "a rung")
            path = f"/videostream/{channel.id}/outputs/codec"
            await asyncio.to_thread(at.gateway.api, "POST", path, {"enabled": False})
            await at.until(lambda: not at.containers.running, "the task ended")
            await at.until(lambda: not segments(channel) or "ENDLIST" in _index(channel), "the rung ended")
            await asyncio.to_thread(at.gateway.api, "POST", path, {"enabled": True})
            await at.until(lambda: codec(channel)["renditions"], "a rung again")


def _index(channel: Channel) -> str:
    return http("GET", channel.url("360p/index.m3u8")).text
