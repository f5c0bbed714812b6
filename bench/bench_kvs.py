"""What sending to Kinesis costs: percent of a core for each live stream. Run: python -m bench.bench_kvs

Streams of 30 pictures and 47 sounds a second go into the strict double, which is another process. What is measured is
the sender's whole share of this process: subscription, fragments, HTTP; not the push.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator

from bench.bench_packaging import AUDIO, VIDEO, pictures
from gateway.live.publisher import StreamPublisher
from gateway.media.track import AccessUnit
from gateway.outputs.kinesis.kvs_output import KvsOutput
from gateway.outputs.kinesis.kvs_streams import KvsStreams
from gateway.ports.stores import PutMediaRequest
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support import kvs as support
from tests.support.served_app import served_app

_DOUBLE = "--double"


class Direct:
    """A KvsEndpoints that needs no AWS: the double takes whatever is signed with nothing."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def put_media(self, stream: str, start: float, *, fresh: bool = False) -> PutMediaRequest:
        headers = {
            "x-amzn-stream-name": stream,
            "x-amzn-fragment-timecode-type": "ABSOLUTE",
            "x-amzn-producer-start-timestamp": f"{start:.3f}",
        }
        return PutMediaRequest(f"{self._url}/putMedia", headers)

    async def describe(self, stream: str) -> tuple[str, int]:
        return stream, 24


async def serve() -> None:
    """The receiving side: acknowledges fragments, counts bytes, judges nothing (that would be what is measured)."""
    from aiohttp import web

    async def told(response: web.StreamResponse, event: str, timecode: int, number: int) -> None:
        about = f'"FragmentTimecode":{timecode},"FragmentNumber":"{number}"'
        await response.write(f'{{"EventType":"{event}",{about}}}\r\n'.encode())

    async def put(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        number, timecode = 0, 0
        rest = b""
        async for data in request.content.iter_any():
            rest += data
            while (at := rest.find(b"\x1f\x43\xb6\x75\xff\xe7\x88", 0)) >= 0 and len(rest) >= at + 15:
                number += 1
                if timecode:
                    await told(response, "RECEIVED", timecode, number - 1)
                    await told(response, "PERSISTED", timecode, number - 1)
                timecode = int.from_bytes(rest[at + 7 : at + 15], "big")
                rest = rest[at + 15 :]
                await told(response, "BUFFERING", timecode, number)
            rest = rest[-14:]
        await told(response, "RECEIVED", timecode, number)
        await told(response, "PERSISTED", timecode, number)
        return response

    app = web.Application()
    app.router.add_post("/putMedia", put)
    async with served_app(app) as port:
        print(port, flush=True)
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[str]:
    """The double's address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.bench_kvs", _DOUBLE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.kill()
        await process.wait()


def units(bitrate: int) -> list[AccessUnit]:
    """Two seconds of a stream; they are pushed again and again."""
    film = [AccessUnit(VIDEO, n * 100 // 3, 0, key, 0.0, p) for n, (key, p) in enumerate(pictures(2, bitrate))]
    voice = [AccessUnit(AUDIO, n * 1024 // 48, 0, True, 0.0, b"\x21" * 340) for n in range(93)]
    return sorted([*film, *voice], key=lambda u: u.dts)


async def push(publishers: list[StreamPublisher], film: list[AccessUnit], first: int, turns: int) -> None:
    """All streams at their pace, so many times the film from its `first` repetition on."""
    began, wall = time.monotonic(), time.time()
    for turn in range(turns):
        for unit in film:
            since = (turn * 2000 + unit.dts) / 1000
            if (ahead := began + since - time.monotonic()) > 0.002:
                await asyncio.sleep(ahead)
            dts = first * 2000 + turn * 2000 + unit.dts
            fresh = AccessUnit(unit.track, dts, 0, unit.key, wall + since, unit.payload)
            for publisher in publishers:
                publisher.push(fresh, began)


async def measure(streams: int, bitrate: int, turns: int, sending: bool) -> float:
    """CPU seconds of this process in so many times two seconds, with or without the output."""
    film = units(bitrate)
    async with receiver() as url, KvsStreams(Direct(url), support.settings()) as kvs:
        from gateway.lib.metric_table import WORKER_RESTARTS
        from gateway.lib.metrics import Counter
        from gateway.live.output import OutputSpec

        workers = WorkerPool(support.WORKERS, Counter(WORKER_RESTARTS))
        spec = OutputSpec("kvs", lambda s: KvsOutput(s, kvs, workers), lambda s: sending)
        hub = builders.hub([spec], gop_bytes=16_000_000)
        publishers = [builders.publish(hub, f"c{n}", kvsStream=f"stream{n}") for n in range(streams)]
        for publisher in publishers:
            publisher.set_tracks(VIDEO, AUDIO, {})
        await push(publishers, film, 0, 1)
        before = time.process_time()
        await push(publishers, film, 1, turns)
        spent = time.process_time() - before
        if sending:
            for publisher in publishers:
                assert publisher.stream.outputs is not None
                report = publisher.stream.outputs.status()[0]
                assert report["fragments"]["persisted"] >= turns - 2, report
        hub.drain()
        await hub.drained()
        return spent


def main() -> None:
    """Prints the figure."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("-n", "--streams", type=int, default=10)
    options.add_argument("-b", "--bitrate", type=int, default=2_500_000)
    options.add_argument("-t", "--seconds", type=float, default=20.0)
    options.add_argument(_DOUBLE, action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.double:
        asyncio.run(serve())
        return
    import uvloop

    cost = []
    for sending in (False, True):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            cost.append(runner.run(measure(chosen.streams, chosen.bitrate, round(chosen.seconds / 2), sending)))
    share = (cost[1] - cost[0]) / chosen.seconds / chosen.streams * 100
    print(
        f"{chosen.streams} streams of {chosen.bitrate / 1e6:.1f} Mbps to Kinesis: {share:.2f} % of a core each "
        f"(with {cost[1]:.2f} s, without {cost[0]:.2f} s of CPU in {chosen.seconds:.0f} s; {os.cpu_count()} cores)"
    )


if __name__ == "__main__":
    main()
