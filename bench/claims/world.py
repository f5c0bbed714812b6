"""Three gateways with one database, their encoders, and the record of all faults and outages."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
import traceback
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.claims import audit
from bench.claims.gateways import Gateway, gateways
from bench.claims.history import History
from bench.claims.monitor import Monitor, is_primary, prepare
from bench.claims.publishers import Channel, Encoder, Outage

# Seconds that the time of day of a gateway is ahead, and for which its streams linger: some claims end often.
GATEWAYS = {"one": (0.0, 1.0), "two": (30.0, 3.0), "three": (-30.0, 10.0)}
_RIVALS = 3  # every third channel has two encoders, which push at different gateways at one time
_RIVAL_PAUSE = 1.0
_NOTICED = 0.5  # seconds after a kill in which encoders lose their pushes by it
_FIELDS = {"isFlv": True, "isHls": False, "isCMAF": False, "isVideo": False, "isImage": False, "outdate": "2035-12-31"}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of `kind`. gateway: the only one that it concerns; "": all. ended: when everything could work again."""

    kind: str
    began: float
    ended: float
    gateway: str = ""


@dataclass(frozen=True, slots=True)
class Return:
    """An outage of a channel, and what it waited for.

    seconds: from the later of its begin and the end of the last fault in its way, until a push was accepted.
    cause: the kind of that fault; "push": none, so it is the time since the push was lost.
    """

    outage: Outage
    seconds: float
    cause: str


@dataclass
class World:
    """A running system. faults: all until now. kills: times at which a gateway was killed.

    never_back: channels without a push at the end of the faults.
    """

    nodes: dict[str, Gateway]
    channels: Sequence[Channel]
    encoders: Sequence[Encoder]
    monitor: Monitor
    random: random.Random
    faults: list[Fault] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    never_back: int = 0

    def drop_some(self) -> None:
        """Resets the connections of about half of the encoders."""
        for encoder in self.encoders:
            if self.random.random() < 0.5:
                encoder.drop()

    async def all_live(self, seconds: float) -> bool:
        """Waits until each channel has an accepted push. Returns whether it has."""
        end = time.monotonic() + seconds
        while not all(channel.is_live for channel in self.channels):
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.02)
        return True

    def returns(self, history: History) -> list[Return]:
        """Returns all outages with what they waited for. The first push of a channel is none."""
        outages = [outage for channel in self.channels for outage in channel.outages[1:]]
        return [self._return(outage, history) for outage in outages]

    def _return(self, outage: Outage, history: History) -> Return:
        faults = [Fault("database", began, ended) for began, ended in self.monitor.away]
        faults += self.faults
        tried = [*outage.tried]
        # The node that holds the stream is asked by any other one.
        tried += [
            (service.process.partition(".")[0], outage.lost, outage.back)
            for service in history.services
            if service.stream == outage.channel and service.began < outage.back and service.ended > outage.lost
        ]
        since, cause = outage.lost, "push"
        for fault in faults:
            concerns = not fault.gateway or any(
                fault.gateway == node and fault.began < ended and fault.ended > began for node, began, ended in tried
            )
            if concerns and fault.began < outage.back and fault.ended > since:
                since, cause = fault.ended, fault.kind
        if cause == "push" and any(abs(outage.lost - kill) < _NOTICED for kill in self.kills):
            cause = "gateway killed"
        return Return(outage, max(0.0, outage.back - since), cause)


@contextlib.asynccontextmanager
async def world(
    folder: Path, urls: dict[str, str], servers: Sequence[str], *, channels: int, random: random.Random
) -> AsyncIterator[World]:
    """Runs gateways and encoders. urls: of the database, by gateway. servers: urls for the bench, one a server."""
    nodes = gateways(folder, urls, GATEWAYS)
    async with contextlib.AsyncExitStack() as stack:
        for node in nodes.values():
            stack.callback(node.end)
        first, *others = nodes.values()
        first.start()
        await asyncio.to_thread(first.wait_ready)
        primary = await primary_of(servers)
        await audit.install(primary)
        await prepare(primary)
        for node in others:
            node.start()
        for node in others:
            await asyncio.to_thread(node.wait_ready)
        made = [await asyncio.to_thread(_channel, first, number) for number in range(channels)]
        addresses = [node.address for node in nodes.values()]
        encoders = [Encoder(channel, addresses, random) for channel in made]
        encoders += [Encoder(channel, addresses, random, _RIVAL_PAUSE) for channel in made[::_RIVALS]]
        monitor = Monitor(servers)
        running = [asyncio.create_task(one.run()) for one in (monitor, *encoders)]
        for task in running:
            task.add_done_callback(_stop_loudly)
        try:
            one = World(nodes, made, encoders, monitor, random)
            yield one
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            for node in nodes.values():
                await asyncio.to_thread(node.end)


def _stop_loudly(task: asyncio.Task[None]) -> None:
    """Prints the error of a task that should run until the end, and ends the bench by SIGTERM."""
    if not task.cancelled() and (error := task.exception()) is not None:
        traceback.print_exception(error)
        os.kill(os.getpid(), signal.SIGTERM)


async def history_of(nodes: dict[str, Gateway], servers: Sequence[str]) -> History:
    """Returns the history of gateways that have ended."""
    seen = [node.seen() for node in nodes.values()]
    return History(
        await audit.changes(await primary_of(servers)),
        [call for calls, _, _ in seen for call in calls],
        [read for _, reads, _ in seen for read in reads],
        [service for _, _, services in seen for service in services],
        [stop for node in nodes.values() for stop in node.stops],
        time.monotonic(),
    )


async def primary_of(servers: Sequence[str], seconds: float = 30) -> str:
    """Waits for a server that writes, and returns its url."""
    end = time.monotonic() + seconds
    while True:
        for url in servers:
            if await is_primary(url):
                return url
        if time.monotonic() > end:
            raise TimeoutError("no server of the database is the primary")
        await asyncio.sleep(0.1)


def _channel(node: Gateway, number: int) -> Channel:
    reply = node.api("POST", "/videostream", {"name": f"channel {number}", **_FIELDS})
    assert reply.status in (200, 201), reply.text
    item = reply.json()
    return Channel(item["id"], f"{item['id']}?sign={item['key']}")
