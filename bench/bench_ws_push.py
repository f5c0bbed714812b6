"""What a browser's push of frames costs and how late it is, beside ffmpeg pushing the same film by RTMP.

    python -m bench.bench_ws_push [--pushes 10] [--seconds 15]

CPU is of the gateway's process, and of its workers, for each push and second in real time; nobody watches. Latency is
from the page's socket to a viewer's of HTTP-FLV, both clients' own delay included, with one push and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from bench.harness.procs import tree, usage
from gateway.media.track import Kind
from tests.support.gateway import Channel, Gateway, running
from tests.support.push_messages import config_text, end_text
from tests.support.pushing import OPUS, chunk, config, page
from tests.support.sources import AAC, Source, pictures, read, tone

_X264 = ("-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-b:v", "2500k", "-g", "60")


def film(folder: Path, sound: Sequence[str], seconds: float) -> tuple[Path, Source]:
    """720p30 at 2.5 Mbit/s."""
    path = folder / f"{sound[1]}.mkv"
    command = ["ffmpeg", "-nostdin", "-v", "error", *pictures("1280x720", noise=8), *tone(48000), "-t", str(seconds)]
    subprocess.run([*command, *_X264, "-pix_fmt", "yuv420p", *sound, "-y", str(path)], check=True)
    return path, read(path)


async def play(gateway: Gateway, channel: Channel, source: Source, sent: dict[bytes, float] | None = None) -> None:
    """All of it in real time, as a page; notes when each picture is sent."""
    url = f"ws://127.0.0.1:{gateway.ports['ws']}/stream/{channel.obs_key}"
    loop = asyncio.get_running_loop()
    async with page(url) as pushing:
        await pushing.send(config_text(config(source)))
        began = loop.time()
        for unit in source.units:
            await asyncio.sleep(max(0.0, began + unit.dts / 1000 - loop.time()))
            if sent is not None and unit.track.kind is Kind.VIDEO:
                sent[unit.payload[-48:]] = time.monotonic()
            await pushing.send(chunk(unit))
        await pushing.send(end_text())
        await pushing.closed()


def cpu(gateway: Gateway) -> tuple[float, float]:
    """CPU seconds so far: of the gateway, of its workers."""
    pid = gateway.process.pid
    whole = usage(pid).cpu
    workers = sum(usage(child).cpu for child in tree(pid) if child != pid)
    return whole - workers, workers


async def cost(gateway: Gateway, source: Source, path: Path, pushes: int, *, rtmp: bool) -> tuple[float, float]:
    """CPU milliseconds of gateway and workers for each push and second; the first and last two seconds do not count."""
    channels = [gateway.channel(isHls=False, isCMAF=False, isFlv=False) for _ in range(pushes)]
    seconds = source.end / 1000
    with contextlib.ExitStack() as stack:
        tasks = []
        for channel in channels:
            if rtmp:
                command = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-i", str(path), "-c", "copy", "-f", "flv"]
                process = subprocess.Popen([*command, channel.push])
                stack.callback(process.wait)
                stack.callback(process.terminate)
            else:
                tasks.append(asyncio.create_task(play(gateway, channel, source)))
            await asyncio.sleep(1 / pushes)
        await asyncio.sleep(2)
        before, began = cpu(gateway), time.monotonic()
        await asyncio.sleep(seconds - 5)
        after, took = cpu(gateway), time.monotonic() - began
        await asyncio.gather(*tasks)
    per = 1000 / (pushes * took)
    return (after[0] - before[0]) * per, (after[1] - before[1]) * per


async def latency(gateway: Gateway, source: Source) -> list[float]:
    """Milliseconds of each picture, sorted; those of the first three seconds do not count."""
    channel = gateway.channel()
    sent: dict[bytes, float] = {}
    lags: list[tuple[float, float]] = []

    def watch() -> None:
        with urllib.request.urlopen(channel.url("live.flv"), timeout=30) as reply:
            tail = b""
            while data := reply.read1(1 << 18):
                now, tail = time.monotonic(), (tail + data)[-1_000_000:]
                for payload in [p for p in list(sent) if p in tail]:
                    at = sent.pop(payload)
                    lags.append((at, (now - at) * 1000))

    viewer = asyncio.create_task(asyncio.to_thread(watch))
    began = time.monotonic()
    await play(gateway, channel, source, sent)
    await viewer
    return sorted(lag for at, lag in lags if at - began > 3)


async def bench(pushes: int, seconds: float) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name, running(MILLRACE_STREAM__LINGER="0") as gateway:
        aac_path, aac = film(Path(name), AAC, seconds)
        opus_path, opus = film(Path(name), OPUS, seconds)
        rows: dict[str, object] = {}
        for what, source, path, rtmp in (
            ("RTMP, H.264 and AAC (ffmpeg)", aac, aac_path, True),
            ("frames, H.264 and AAC", aac, aac_path, False),
            ("frames, H.264 and Opus", opus, opus_path, False),
        ):
            ours, workers = await cost(gateway, source, path, pushes, rtmp=rtmp)
            rows[what] = {"gateway_cpu_ms_per_second": round(ours, 2), "worker_cpu_ms_per_second": round(workers, 2)}
        lags = await latency(gateway, opus)
        rows["latency_ms"] = {f"p{p}": round(lags[min(len(lags) - 1, len(lags) * p // 100)], 1) for p in (50, 90, 99)}
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pushes", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=15)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(bench(arguments.pushes, arguments.seconds)), indent=2))


if __name__ == "__main__":
    main()
