"""Faults of gateways and of the database, each for a random time, and how long the record says that they last."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.claims.gateways import Gateway
from bench.claims.toxiproxy import Toxiproxy
from bench.claims.world import Fault, World
from tests.support.postgres import Postgres


@dataclass
class GatewayFaults:
    """Faults of one gateway at a time."""

    world: World

    def _any(self) -> Gateway:
        return self.world.random.choice([*self.world.nodes.values()])

    async def kill(self) -> None:
        """`kill -9`, and a new process at the same address."""
        node = self._any()
        self.world.kills.append(time.monotonic())  # no Fault: the others can take over at once
        await asyncio.to_thread(node.kill)
        await asyncio.sleep(self.world.random.uniform(0, 0.5))
        node.start()
        await asyncio.to_thread(node.wait_ready)

    async def pause(self) -> None:
        """SIGSTOP for 1 to 15 s, short times more often. Other gateways may take over after ten seconds."""
        node, random = self._any(), self.world.random
        began = time.monotonic()
        with node.paused():
            await asyncio.sleep(random.uniform(1, 15) if random.random() < 0.25 else random.uniform(1, 3))
        self.world.faults.append(Fault("gateway paused", began, time.monotonic(), node.name))


@dataclass
class DatabaseFaults:
    """Faults of one server, and of the connections to it, of all gateways or of one."""

    world: World
    server: Postgres
    proxies: Toxiproxy

    async def crash(self) -> None:
        """`pg_ctl stop -m immediate`, and a start."""
        await asyncio.to_thread(self.server.stop, signal.SIGQUIT)
        began = time.monotonic()
        try:
            await self._cut_pushes(0, 1.5)
        finally:
            await asyncio.to_thread(self.server.start)
        answered = await self.world.monitor.answer_after(began)
        self.world.faults.append(Fault("database crashed", began, answered))

    async def pause(self) -> None:
        """SIGSTOP of all processes of the server."""
        began = time.monotonic()
        self.server.send(signal.SIGSTOP)
        try:
            await self._cut_pushes(0.5, 4)
        finally:
            self.server.send(signal.SIGCONT)
        answered = await self.world.monitor.answer_after(time.monotonic())
        self.world.faults.append(Fault("database paused", began, answered))

    async def cut(self) -> None:
        """Connections are reset, and new ones are refused."""
        with self._record("connections cut") as names:
            for name in names:
                await asyncio.to_thread(self.proxies.enable, name, False)
            await self._cut_pushes(0.2, 2)
            for name in names:
                await asyncio.to_thread(self.proxies.enable, name, True)

    async def lose(self) -> None:
        """Connections stay open, and all data vanish."""
        await self._poison("data lost", "timeout", timeout=0)

    async def delay(self) -> None:
        """Each packet comes 0.1 to 1.2 s later, in both directions."""
        milliseconds = self.world.random.randint(100, 1200)
        await self._poison("latency", "latency", latency=milliseconds, jitter=milliseconds // 3)

    async def throttle(self) -> None:
        """Few bytes a second."""
        await self._poison("bandwidth", "bandwidth", rate=1)

    async def _poison(self, kind: str, toxic: str, **attributes: int) -> None:
        with self._record(kind) as names:
            for name in names:
                await asyncio.to_thread(lambda name=name: self.proxies.poison(name, toxic, **attributes))
            await self._cut_pushes(0.5, 4)
            for name in names:
                await asyncio.to_thread(self.proxies.heal, name)

    async def _cut_pushes(self, least: float, most: float) -> None:
        """Waits for a random time, and resets pushes in it: so there are publishers that want to come back."""
        random = self.world.random
        seconds = random.uniform(least, most)
        before = random.uniform(0, seconds)
        await asyncio.sleep(before)
        self.world.drop_some()
        await asyncio.sleep(seconds - before)

    @contextlib.contextmanager
    def _record(self, kind: str) -> Iterator[list[str]]:
        """Yields the names of the gateways that a fault concerns, and records it."""
        nodes, random = [*self.world.nodes], self.world.random
        names = nodes if random.random() < 0.6 else [random.choice(nodes)]
        began = time.monotonic()
        yield names
        ended = time.monotonic()
        self.world.faults += [Fault(kind, began, ended, name) for name in names[1:]]
        self.world.faults.append(Fault(kind, began, ended, names[0]))
