"""What recording costs: CPU of a core for one stream. Run: python -m bench.bench_sinks"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.bench_packaging import AUDIO, FPS, VIDEO, pictures
from gateway.lib import log as logs
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit
from gateway.outputs.recording.recording_output import RecordingOutput
from tests.support.recording import RunningArchive, stream_of

BITRATE = 2_500_000
MAX_OF_A_CORE = 0.01


def units(seconds: int, bitrate: int) -> Iterator[AccessUnit]:
    """A stream of 30 pictures and 47 AAC frames a second, interleaved."""
    sounds = 0
    for n, (key, payload) in enumerate(pictures(seconds, bitrate - 128_000)):
        dts = n * 1000 // FPS
        while sounds * 1024 * 1000 // 48_000 <= dts:
            at = sounds * 1024 * 1000 // 48_000
            yield AccessUnit(AUDIO, at, 0, True, 1.7e9 + at / 1000, b"\x21" * 340)
            sounds += 1
        yield AccessUnit(VIDEO, dts, 33 * (n % 2), key, 1.7e9 + dts / 1000, payload)


async def cost(
    make: Callable[[RunningArchive, Stream], RecordingOutput], seconds: int, bitrate: int, piece: float
) -> float:
    """CPU seconds of one second of stream, from the sink's call to the finished files, all threads."""
    ready = list(units(seconds, bitrate))
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        async with RunningArchive(Path(folder)).open() as studio:
            stream = stream_of(video_time=piece, ondemand_time=piece)
            output = make(studio, stream)
            stream.set_tracks(VIDEO, AUDIO, {}, True)
            output.begin(stream)
            running = asyncio.ensure_future(output.run(stream))
            await asyncio.sleep(0.1)
            start = time.process_time()
            for n, unit in enumerate(ready):
                stream.push(unit)
                await asyncio.sleep(0)  # each unit wakes the output, as in life
                if n % 300 == 299:
                    await asyncio.sleep(0.02)
            stream.end(EndReason.PUBLISHER_GONE)
            await running
            await studio.finisher.flush()
            return (time.process_time() - start) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="of stream")
    parser.add_argument("--bitrate", type=int, default=BITRATE)
    parser.add_argument("--piece", type=float, default=60.0, help="seconds of a piece")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="fail where it is more than a hundredth of a core")
    wanted = parser.parse_args()
    logs.configure("error", "console")
    makers: dict[str, Callable[[RunningArchive, Stream], RecordingOutput]] = {
        "video": lambda studio, stream: studio.recorder(stream),
        "ondemand": lambda studio, stream: studio.on_demand(stream),
    }
    for name, make in makers.items():
        least = min(asyncio.run(cost(make, wanted.seconds, wanted.bitrate, wanted.piece)) for _ in range(wanted.repeat))
        print(f"{name}: {least * 100:.2f} % of a core for a stream of {wanted.bitrate / 1e6:g} Mbps")
        if wanted.check and least > MAX_OF_A_CORE:
            raise SystemExit(f"{name} costs more than {MAX_OF_A_CORE:.0%} of a core")


if __name__ == "__main__":
    main()
