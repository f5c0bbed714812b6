"""How late final words are, and what an engine for speech to text costs: spoken sentences at their own pace.

    .venv/bin/python -m bench.bench_speech [engine] [seconds]

engine: as in `captions.engine`; pocketsphinx. Prints the seconds from the end of a word until the gateway has its
result, for the last word of each result and for all words (median and 95th percentile), the share of a core and the
memory of the worker, the share of a core of this process, and how many of the different words were recognised.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from pathlib import Path

from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.media.track import Kind, Tracks
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.settings import load
from gateway.workers.messages import WorkerMessage
from gateway.workers.speech_protocol import Words, read_words
from gateway.workers.worker_pool import WorkerPool, WorkerProcess
from tests.support.sources import Source, read
from tests.support.speech import spoken

TEXT = """One, two, three, four, five, six, seven, eight, nine, ten. We will go to the house. The old man was in the
water. The people are in the city. They have a good time today. The president of the united states. People of the world.
The government will pay the money. Thank you very much. It was the end of the year. This is the news of the day."""

_TEXT_SECONDS = 32


class Trial:
    """One push to one worker. late: seconds of each result; words_late: of each word, whose times are estimated."""

    def __init__(self, film: Source) -> None:
        self.film = film
        self.late: list[float] = []
        self.words_late: list[float] = []
        self.text: list[str] = []
        self.began = 0.0
        self.worker = 0.0  # CPU seconds

    def heard(self, body: bytes) -> None:
        words = read_words(wire.read_json(body)) or Words("", 0, 0)
        late, texts = time.monotonic() - self.began - words.end, words.text.lower().split()
        self.late.append(late)
        self.words_late += [late + (words.end - words.start) * n / len(texts) for n in range(len(texts))]
        self.text += texts

    async def push(self, worker: WorkerProcess, engine: str, loaded: asyncio.Event) -> None:
        await worker.send_json(WorkerMessage.SETUP, {"engine": engine})
        await worker.send_item(Tracks(None, self.film.tracks.audio))
        await loaded.wait()
        before, self.began = used(worker.pid), time.monotonic()
        for unit in self.film.of(Kind.AUDIO):
            await asyncio.sleep(max(0.0, self.began + unit.dts / unit.track.timescale - time.monotonic()))
            await worker.send_item(unit)
        self.worker = used(worker.pid) - before
        await worker.send_end()


def used(pid: int) -> float:
    """Seconds of CPU that a process and its children have used."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(used(int(child)) for child in children)


async def main(engine: str, seconds: float) -> None:
    film, loaded, memory = read(spoken(TEXT * (1 + round(seconds / _TEXT_SECONDS)), seconds)), asyncio.Event(), 0
    trial = Trial(film)
    pool = WorkerPool(load(environ={}).workers, Counter(WORKER_RESTARTS))
    async with pool.start("gateway.workers.programs.speech.speech_worker", "speech") as worker:
        own = time.process_time()

        def progressed(body: bytes) -> None:
            nonlocal memory
            loaded.set()
            memory = int(Path(f"/proc/{worker.pid}/status").read_text().partition("VmRSS:")[2].split()[0])

        handlers = {WorkerMessage.NOTE: trial.heard, WorkerMessage.PROGRESS: progressed}
        await worker.exchange(
            trial.push(worker, engine, loaded), {**handlers, StreamMessage.END: lambda body: True}, 60
        )
        own = time.process_time() - own
    wanted = set(TEXT.lower().replace(",", "").replace(".", "").split())
    known = len(wanted & set(trial.text))
    print(f"{engine}: {len(trial.late)} results in {seconds:.0f} s, {known} of {len(wanted)} words")
    for what, late in (("last words", trial.late), ("all words", trial.words_late)):
        worst = statistics.quantiles(late, n=20)[-1]
        print(f"{what}: median {statistics.median(late):.2f} s, 95th percentile {worst:.2f} s")
    print(f"worker: {trial.worker / seconds:.1%} of a core, {memory / 1000:.0f} MB; this process: {own / seconds:.2%}")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(
        main(arguments[0] if arguments else "pocketsphinx", float(arguments[1]) if len(arguments) > 1 else 96.0)
    )
