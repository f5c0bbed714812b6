"""What the watermark costs and how long it takes: a film at its own pace through the hub and a real worker.

    .venv/bin/python -m bench.bench_watermark [seconds] [size]

Prints the delay that it adds (median and 99th percentile), processor time of the worker and of the gateway for each
second of media, the worker's memory, and how long viewers wait after the worker was killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

from gateway.media.track import AccessUnit, Kind
from tests.support import sources
from tests.support.builders import Recorder
from tests.support.marking import WatermarkHub, play

TEXT = {"isWaterMark": True, "WaterMarkText": "\u76f4\u64ad a:b'c%d", "WaterMarkFontSize": 48, "WaterMarkLeft": 40}


class Clock(Recorder):
    """Notes when each picture comes."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[float] = []
        self.came: list[float] = []

    def on_unit(self, unit: AccessUnit) -> None:
        if unit.track.kind is Kind.VIDEO:
            now = time.time()
            self.delays.append(now - unit.wall)
            self.came.append(now)


def processor(pid: int) -> float:
    """Seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Megabytes resident."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1_000_000


async def measure(seconds: int, size: str) -> dict[str, object]:
    film = sources.source(
        *("-f", "lavfi", "-i", f"testsrc2=size={size}:rate=30,noise=alls=10:allf=t", *sources.tone(48000)),
        *("-t", str(seconds), "-c:v", "libx264", "-preset", "veryfast", "-g", "60", "-bf", "0", "-b:v", "2500k"),
        *("-maxrate", "2500k", "-bufsize", "2500k", "-pix_fmt", "yuv420p", *sources.AAC),
    )
    async with WatermarkHub().open() as lab:
        lab.viewer = clock = Clock()
        publisher = lab.publish(film, **TEXT)
        units = list(film.units)
        at = await play(publisher, units, speed=1, until=lambda: len(clock.delays) > 60)
        pid = lab.output._worker.pid  # type: ignore[union-attr]
        worker, ours, first, began = processor(pid), time.process_time(), len(clock.delays), time.monotonic()
        third = len(units) * 5 // 6
        await play(publisher, units[at:third], speed=1)
        took = time.monotonic() - began
        worker, ours = processor(pid) - worker, time.process_time() - ours
        resident, delays = memory(pid), sorted(clock.delays[first:])
        lab.signal_worker()
        killed, seen = time.time(), len(clock.came)
        await play(publisher, units[third:], speed=1)
        back = next((t for t in clock.came[seen:] if t > killed + 0.1), None)
        await lab.end()
    return {
        "picture": f"{size}, 30 frames a second, 2.5 Mbit/s",
        "delay ms, median": round(statistics.median(delays) * 1000),
        "delay ms, 99 of 100": round(delays[len(delays) * 99 // 100] * 1000),
        "worker, CPU-s a second": round(worker / took, 3),
        "gateway, CPU-s a second": round(ours / took, 4),
        "worker, MB": resident,
        "back after kill -9, s": round(back - killed, 2) if back is not None else None,
        "gateway, MB at most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000,
    }


if __name__ == "__main__":
    length = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    print(json.dumps(asyncio.run(measure(length, sys.argv[2] if len(sys.argv) > 2 else "1280x720")), indent=2))
