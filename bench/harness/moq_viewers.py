"""Viewers over MoQ: the library's own client, in a process of its own. Prints MEASURE_START, MEASURE_END and a report.

python -m bench.harness.moq_viewers URL NAME HASH N SECONDS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

import moq

_STAMP = b"\xa5\x5a#LATENCY-PROBE"  # as in common.h; 16 hexadecimal digits follow: microseconds
_RATE = 50  # joins in a second
_WARM = 4  # seconds before the measurement


@dataclass
class Viewer:
    """One subscriber of all tracks. joined: seconds from its call to its first picture."""

    url: str
    name: str
    hash: str
    bytes: int = 0
    pictures: int = 0
    joined: float = 0.0
    delays: list[float] = field(default_factory=list)

    async def run(self) -> None:
        began = time.monotonic()
        options = {"tls_fingerprints": [self.hash], "websocket_enabled": False, "reconnect": False}
        async with moq.Client(self.url, publish=moq.OriginProducer(), **options) as client:  # type: ignore[arg-type]
            broadcast = await client.announced_broadcast(self.name)
            catalog = await broadcast.catalog()
            async with asyncio.TaskGroup() as group:
                for name, track in (catalog.video | catalog.audio).items():
                    group.create_task(self._collect(broadcast, name, track, began))

    async def _collect(
        self, broadcast: moq.BroadcastConsumer, name: str, track: moq.Video | moq.Audio, began: float
    ) -> None:
        async for frame in await broadcast.subscribe_media(name, track):
            self.bytes += len(frame.payload)
            if not isinstance(track, moq.Video):
                continue
            self.pictures += 1
            if self.pictures == 1:
                self.joined = time.monotonic() - began
            at = frame.payload.find(_STAMP)
            if at >= 0:
                sent = int(frame.payload[at + len(_STAMP) : at + len(_STAMP) + 16], 16)
                self.delays.append(time.monotonic() * 1e3 - sent / 1e3)


async def main(url: str, name: str, hash: str, count: int, seconds: float) -> None:
    viewers = [Viewer(url, name, hash) for _ in range(count)]
    tasks = []
    for viewer in viewers:
        tasks.append(asyncio.ensure_future(viewer.run()))
        await asyncio.sleep(1 / _RATE)
    await asyncio.sleep(_WARM)
    before = sum(viewer.bytes for viewer in viewers)
    for viewer in viewers:
        viewer.delays.clear()
    print("MEASURE_START", flush=True)
    cpu, began = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    print("MEASURE_END", flush=True)
    delays = sorted(delay for viewer in viewers for delay in viewer.delays) or [0.0]
    joins = sorted(viewer.joined for viewer in viewers if viewer.pictures)
    report = {
        "connected": len(joins),
        "seconds": time.monotonic() - began,
        "bytes": sum(viewer.bytes for viewer in viewers) - before,
        "delay_p50_ms": round(delays[len(delays) // 2], 1),
        "delay_p99_ms": round(delays[len(delays) * 99 // 100], 1),
        "join_p50_ms": round(1e3 * joins[len(joins) // 2]) if joins else None,
        "client_cpu_s": round(time.process_time() - cpu, 2),
    }
    print(json.dumps(report), flush=True)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], int(sys.argv[4]), float(sys.argv[5])))
