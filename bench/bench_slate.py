"""What a slate on air costs. Run: python -m bench.bench_slate [slates] [seconds]

Prints the processor time for each second of a slate: of the gateway's process (with the switch into the channel's
stream, as hidden stream and sink), and of the workers that letter the clock. Also prints the time from going on air to
the first key frame, and the memory of the slates.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import sys
import time

from gateway.inputs.slate.slate_library import SlateLibrary
from gateway.inputs.slate.slate_loop import LoopPlayback, SlateLoop
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.live.publisher import StreamPublisher
from gateway.media.track import AccessUnit
from gateway.settings import load
from gateway.workers.slate_protocol import SlateRequest
from gateway.workers.stream_form import StreamForm
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders

MAX_OF_A_CORE = 0.01
CLOCK_MINUTES = 5


class Relaying(builders.Recorder):
    """Writes each unit into the channel's stream, as the switcher does. began: when the first one came."""

    def __init__(self, target: StreamPublisher) -> None:
        super().__init__()
        self.began: float | None = None
        self._target = target

    def on_unit(self, unit: AccessUnit) -> None:
        if self.began is None:
            self.began = time.perf_counter()
        self._target.push(
            AccessUnit(unit.track, unit.dts, unit.cts, unit.key, unit.wall, unit.payload), time.monotonic()
        )


def worker_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def measure(count: int, seconds: float) -> dict[str, object]:
    settings = load(environ={})
    workers = WorkerPool(settings.workers, Counter(WORKER_RESTARTS))
    slates = SlateLibrary(workers, SlateRequest(font=settings.watermark.font, preset=settings.transcode.preset))
    form = StreamForm.of(None)
    before, began = worker_seconds(), time.perf_counter()
    loops = [await slates.make_card(f"Channel {n}", "We will be right back", form) for n in range(count)]
    encoding, took = (worker_seconds() - before) / count, (time.perf_counter() - began) / count
    before = worker_seconds()
    await slates.make_clocked_cards(
        "Channel", "We will be right back", [f"14:{n:02} UTC" for n in range(CLOCK_MINUTES)], form
    )
    clock = (worker_seconds() - before) / (60 * CLOCK_MINUTES)
    hub, hidden = builders.hub(), builders.hub()
    playbacks, delays = [], []
    for n, loop in enumerate(loops):
        shown, publisher = builders.publish(hub, f"c{n}"), builders.publish(hidden, f"c{n}")
        sink = Relaying(shown)
        publisher.stream.attach(sink)

        def announce(loop: SlateLoop, publisher: StreamPublisher = publisher, shown: StreamPublisher = shown) -> None:
            for target in (publisher, shown):
                target.set_tracks(loop.video, loop.audio, {})

        start = time.perf_counter()
        playbacks.append(LoopPlayback(loop, publisher.push, announce))
        slates.timer.add(playbacks[-1])
        assert sink.began is not None
        delays.append(sink.began - start)
    await asyncio.sleep(1)
    used = time.process_time()
    await asyncio.sleep(seconds)
    gateway = (time.process_time() - used) / seconds / count
    for playback in playbacks:
        slates.timer.remove(playback)
    return {
        "slates": count,
        "gateway, of a core for each": round(gateway, 5),
        "clock, of a core for each": round(clock, 5),
        "together": round(gateway + clock, 5),
        "within 1 %": gateway + clock <= MAX_OF_A_CORE,
        "to encode a card: processor seconds": round(encoding, 2),
        "… and seconds": round(took, 2),
        "on air to key frame, ms": round(statistics.median(delays) * 1000, 3),
        "bytes of a slate": statistics.mean(loop.size for loop in loops),
    }


if __name__ == "__main__":
    arguments = [float(a) for a in sys.argv[1:]]
    result = asyncio.run(
        measure(*(int(arguments[0]) if arguments else 20, arguments[1] if len(arguments) > 1 else 30.0))
    )
    print(json.dumps(result, indent=1, ensure_ascii=False))
