"""Nodes read a channel with its own edges from these edges. Nodes and tasks are real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from gateway.ports.nodes import Node
from tests.integration.proxy.test_ecs_edges import FILM, edges, started
from tests.support.clients import pull, push, take_of
from tests.support.ecs import Ecs
from tests.support.ecs_processes import Containers
from tests.support.gateway import Channel, Edge, Gateway
from tests.support.media import judge
from tests.support.time_outs import at_most


@dataclass
class Tree:
    """A gateway, the edges that it started for `channel` as tasks, and another node that plays it."""

    folder: Path
    tasks: Ecs
    containers: Containers
    gateway: Gateway
    channel: Channel
    near: list[Node]
    reader: Gateway

    @property
    def pulls(self) -> list[str]:
        """Returns the addresses of the edges from which the reader has pulled, in order."""
        lines = [line for line in self.reader.log.splitlines() if "pulling" in line and self.channel.id in line]
        return [node.address for line in lines for node in self.near if node.address in line]

    def item(self) -> dict[str, object] | None:
        """Returns the registry's item of the session."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/registry.db?mode=ro", uri=True)) as database:
            row = database.execute("SELECT item FROM holdings WHERE stream = ?", (self.channel.id,)).fetchone()
        return json.loads(row[0]) if row is not None else None

    def url(self, path: str) -> str:
        """The channel's address at the reader."""
        return f"http://127.0.0.1:{self.reader.ports['http']}/{self.channel.id}/{path}"

    async def watched(self, **viewers: int) -> None:
        """Waits until the reader, an edge, has the given numbers of viewers by protocol."""
        assert isinstance(self.reader, Edge)
        async with asyncio.timeout(at_most(20)):
            while True:
                found = await asyncio.to_thread(self.reader.metrics)
                if all(found.get(f'millrace_viewers{{protocol="{name}"}}', 0) >= n for name, n in viewers.items()):
                    return
                await asyncio.sleep(0.1)

    async def kill(self, address: str) -> None:
        """Kills the edge at this address."""
        mark = f'"http":{address.rpartition(":")[2]},'
        for process in self.containers.running:
            # The log of this process, whose lines do not contain its id.
            log = Path(f"/proc/{process.pid}/fd/1").resolve()
            if mark in log.read_text():
                process.kill()
                await process.end()
                return
        raise AssertionError(f"no task listens at {address}: {self.containers.log()[-3000:]}")


@contextlib.asynccontextmanager
async def tree(folder: Path, reader: type[Gateway] = Edge) -> AsyncIterator[Tree]:
    """Yields a running tree. `reader` is the class of the node that plays the channel."""
    async with started(folder) as (tasks, containers, gateway):
        shared = {n: containers.definition[n] for n in ("MILLRACE_REGISTRY", "MILLRACE_CLUSTER__SECRET")}
        (folder / "edge").mkdir()
        other = reader(folder / "edge", **shared)
        try:
            await asyncio.to_thread(other.wait_ready)
            channel = await asyncio.to_thread(
                lambda: gateway.channel("wide", isFlv=True, isHls=True, isCluster=True, clusterNumber=2)
            )
            with push(FILM, channel.push):
                async with asyncio.timeout(at_most(40)):
                    while len(near := [node for node in await edges(folder) if node.channel]) < 2:
                        await asyncio.sleep(0.2)
                yield Tree(folder, tasks, containers, gateway, channel, near, other)
        finally:
            await asyncio.to_thread(other.stop, 20)
        await tasks.until(lambda e: not e.running, 40)
        async with asyncio.timeout(at_most(40)):
            while containers.running:
                await asyncio.sleep(0.1)


async def test_flv_and_hls_playback_survives_the_loss_of_one_channel_edge(tmp_path: Path) -> None:
    async with tree(tmp_path) as grown:
        with (
            pull(grown.url("live.flv"), seconds=12) as flv,
            pull(grown.url("live.m3u8"), seconds=12) as hls,
        ):
            await grown.watched(flv=1, hls=1)
            await grown.kill(grown.pulls[0])
            takes = {name: await asyncio.to_thread(take_of, one) for name, one in (("flv", flv), ("hls", hls))}
        for name, take in takes.items():
            judge(take, FILM, least=10.0, cut=name == "flv", moved=name == "flv")
        assert len(set(grown.pulls)) == 2, f"the other edge is next: {grown.pulls}\n{grown.reader.log[-3000:]}"
        holder = f"127.0.0.1:{grown.gateway.ports['http']}"
        assert holder not in grown.reader.log, "the holder was never asked"


async def test_a_gateway_also_reads_from_an_edge_and_the_session_row_lists_the_tasks(tmp_path: Path) -> None:
    async with tree(tmp_path, Gateway) as grown:
        item = grown.item()
        assert item is not None
        assert sorted(item["taskARN"]) == sorted(task.arn for task in grown.tasks.running)  # type: ignore[call-overload]
        assert item["isCluster"] is True
        with pull(grown.url("live.flv"), seconds=3) as player:
            judge(await asyncio.to_thread(take_of, player), FILM, cut=True)
        assert len(grown.pulls) == 1, grown.reader.log[-3000:]
    async with asyncio.timeout(at_most(20)):
        while grown.item() is not None:  # the row ends with the stream
            await asyncio.sleep(0.1)
