"""What the newest 30 s of a long MP4 recording cost while it grows. Run: python -m bench.bench_growing_clip

It writes a recording of some hours in fragments, as it lies on the disk, and makes clips of its end in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

from gateway.channels.channel import Channel
from gateway.outputs.clips.clip_service import ClipService
from gateway.outputs.clips.sources import ClipSources
from gateway.ports.events import Events
from gateway.settings import load
from tests.support import growing
from tests.support.media import Film
from tests.support.recording import RunningArchive

FILM = Film("bench-growing", seconds=60, size="320x180", gop=60)
CHANNEL = Channel({"id": "c1"})


async def measure(folder: Path, hours: float, rounds: int) -> None:
    async with RunningArchive(folder).open() as archive:
        short = await growing.recorded(archive, FILM)
        path = archive.finisher.new_path("c1", int(time.time() * 1000))
        growing.write(path, short, FILM.seconds, round(hours * 3600 / FILM.seconds))
        sources = ClipSources(archive.objects, archive.archive, archive.finisher)
        service = ClipService(archive.objects, archive.archive, sources, Events(), load(environ={}).clips)
        walls, costs = [], []
        for _ in range(rounds):
            began, cpu = time.monotonic(), time.process_time()
            start, end = await service.find_newest_range("c1", 30, None)
            clip = await service.make_clip(CHANNEL, start, end, None)
            walls.append(time.monotonic() - began)
            costs.append(time.process_time() - cpu)
            (archive.media / clip.key).unlink()
        print(
            f"a recording of {hours:g} h, {os.stat(path).st_size / 1e6:.0f} MB: clip of {clip.seconds:.1f} s, "
            f"wall median {statistics.median(walls):.2f} s, CPU median {statistics.median(costs):.2f} s"
        )
        path.unlink()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--hours", type=float, default=2)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        asyncio.run(measure(Path(folder), chosen.hours, chosen.rounds))


if __name__ == "__main__":
    main()
