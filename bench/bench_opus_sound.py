"""CPU seconds of the worker that makes Opus of AAC, and of the gateway that feeds it, for each second of sound.

python -m bench.bench_opus_sound [seconds of sound]
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time

from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.media.track import AccessUnit, Codec
from gateway.settings.layers import load
from gateway.workers.sound_client import SoundWorkerClient
from gateway.workers.sound_protocol import SoundSetup, opus_track
from gateway.workers.worker_pool import WorkerPool
from tests.support.sources import AAC, Source, source, tone


async def convert(film: Source) -> tuple[float, float, int]:
    """Returns CPU seconds of the worker and of this process, and the number of units."""
    made: list[AccessUnit] = []
    client = SoundWorkerClient(
        WorkerPool(load(environ={}).workers, Counter(WORKER_RESTARTS)), "c1", made.append, SoundSetup(Codec.OPUS)
    )
    running = asyncio.create_task(client.run())
    before, own = resource.getrusage(resource.RUSAGE_CHILDREN), time.process_time()
    await client.open(film.tracks.audio, opus_track(2))
    for number, unit in enumerate(film.units):
        client.give(unit)
        while number - len(made) * 44_100 * 960 / (48_000 * 1024) > 400:  # bounds the queue
            await asyncio.sleep(0.1)
    client.finish()
    await running
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worker = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return worker, time.process_time() - own, len(made)


async def main(seconds: int) -> None:
    short, long = (source(*tone(44_100), "-t", str(t), *AAC) for t in (1, seconds + 1))
    start, _, _ = await convert(short)
    worker, own, units = await convert(long)
    print(f"{units} units of {seconds + 1} s; the worker starts in {start:.2f} s of CPU")
    print(f"worker {(worker - start) / seconds * 1000:.1f} ms, gateway {own / seconds * 1000:.2f} ms a second of sound")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 120))
