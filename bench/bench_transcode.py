"""What a ladder costs: three rungs of a 720p30 source in the gateway, beside an ffmpeg command line that does the same.

    .venv/bin/python -m bench.bench_transcode [--seconds 30] [--size 1280x720] [--codec libx264]

Both run at once, in real time, on the same noisy pictures: CPU seconds per second of media of the worker, of the
gateway without it, and of ffmpeg (decode once, three scaled encodes with the source's key frames, AAC, HLS to disk);
how far behind the source the renditions are; the worker's memory. `--soak MINUTES` plays on and watches the memory.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench.harness import paths
from bench.harness.procs import PAGE, TICK, BenchError, tree
from bench.harness.servers import TOKEN, Gateway

RUNGS = {"360p": ("ld", 640, 360, 400), "480p": ("sd", 854, 480, 600), "720p": ("hd", 1280, 720, 1000)}
SETTLE = 8.0  # seconds of media before the measured window


def film(size: str) -> Path:
    """A minute of moving, noisy pictures and a tone, a key frame every two seconds."""
    path = paths.BUILD / f"ladder-{size}.flv"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(".part.flv")
        run(
            *("ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "lavfi"),
            *(
                "-i",
                f"testsrc2=s={size}:r=30,noise=alls=14:allf=t",
                "-f",
                "lavfi",
                "-i",
                "sine=440:r=44100",
                "-t",
                "60",
            ),
            *("-c:v", "libx264", "-preset", "superfast", "-b:v", "3M", "-maxrate", "3M", "-bufsize", "3M", "-bf", "2"),
            *("-g", "60", "-sc_threshold", "0", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "96k", "-ac", "2", made),
        )
        made.rename(path)
    return path


def run(*command: str | Path) -> None:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{command[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1][:200]}")


def reference(source: Path, out: Path, codec: str, preset: str, tune: list[str]) -> list[str]:
    """The ffmpeg command line, endless and in real time."""
    split = f"[0:v]split={len(RUNGS)}" + "".join(f"[s{name}]" for name in RUNGS)
    scale = ";".join(f"[s{name}]scale={w}:{h}[v{name}]" for name, (_, w, h, _) in RUNGS.items())
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-re", "-stream_loop", "-1", "-i", str(source)]
    command += ["-filter_complex", f"{split};{scale}"]
    for name, (_, _, _, kbps) in RUNGS.items():
        (out / name).mkdir()
        command += ["-map", f"[v{name}]", "-map", "0:a", "-c:v", codec, "-preset", preset, *tune]
        command += ["-b:v", f"{kbps}k", "-maxrate", f"{kbps * 3 // 2}k", "-bufsize", f"{kbps * 3 // 2}k"]
        command += ["-sc_threshold", "0", "-g", "100000", "-force_key_frames", "source", "-c:a", "aac", "-ar", "48000"]
        command += ["-b:a", "128k" if name == "720p" else "64k", "-f", "hls", "-hls_time", "2", "-hls_list_size", "6"]
        command += ["-hls_flags", "delete_segments", "-hls_segment_type", "fmp4" if codec == "libx265" else "mpegts"]
        command += ["-hls_fmp4_init_filename", "init.mp4", str(out / name / "index.m3u8")]
    return command


def seconds_of(pid: int) -> float:
    """CPU seconds of one process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


class Api:
    """The gateway's admin API."""

    def __init__(self, gateway: Gateway) -> None:
        self.base = f"http://127.0.0.1:{gateway.ports['admin']}"

    def __call__(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def ladder(self, channel: str) -> dict[str, Any]:
        """What the output `codec` reports."""
        outputs = self("GET", f"/videostream/{channel}/session")["outputs"]
        found: dict[str, Any] = next((o for o in outputs if o["name"] == "codec"), {"renditions": []})
        return found


def worker_of(gateway: Gateway) -> int:
    """The process that encodes."""
    assert gateway.process is not None
    for pid in tree(gateway.process.pid):
        if b"gateway.workers.programs.ladder.ladder_worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise BenchError("no ladder worker runs (see the gateway's log)")


def measure(arguments: argparse.Namespace) -> None:
    source = film(arguments.size)
    scratch = Path(tempfile.mkdtemp(prefix="bench-ladder-"))
    gateway = Gateway()
    others: list[subprocess.Popen[bytes]] = []
    try:
        gateway.start(packaged=False)
        assert gateway.process is not None
        api = Api(gateway)
        flags = {flag: True for flag, *_ in RUNGS.values()}
        body = {"videoname": "ladder", "outdate": "2035-12-31", "hls_time": "2", "isCodec": True, **flags}
        item = api("POST", "/videostream", body | {"codec": arguments.codec})
        push = f"rtmp://127.0.0.1:{gateway.ports['rtmp']}/stream/{item['id']}?sign={item['key']}"
        loop = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(source), "-c", "copy"]
        others.append(subprocess.Popen([*loop, "-f", "flv", push]))
        deadline = time.monotonic() + 20
        while len(api.ladder(item["id"])["renditions"]) < len(RUNGS):
            if time.monotonic() > deadline:
                raise BenchError(f"no ladder after 20 s: {api.ladder(item['id'])}")
            time.sleep(0.2)
        if arguments.soak:
            soak(arguments.soak, gateway, api, item["id"])
            return
        preset = "ultrafast" if arguments.codec == "libx265" else "veryfast"
        tune = ["-tune", "zerolatency"] if arguments.zerolatency else []
        tune += ["-x265-params", "log-level=error"] if arguments.codec == "libx265" else []
        others.append(subprocess.Popen(reference(source, scratch, arguments.codec, preset, tune)))
        time.sleep(SETTLE)
        worker, main, ffmpeg = worker_of(gateway), gateway.process.pid, others[-1].pid
        before = [seconds_of(pid) for pid in (worker, main, ffmpeg)]
        began, delays, memory = time.monotonic(), [], []
        while (window := time.monotonic() - began) < arguments.seconds:
            time.sleep(0.25)
            delays += [r["delay"] for r in api.ladder(item["id"])["renditions"]]
            memory.append(resident(worker))
        spent = [(seconds_of(pid) - b) / window for pid, b in zip((worker, main, ffmpeg), before, strict=True)]
        polls = len(delays) / len(RUNGS) / window
        report(spent, delays, memory, polls, api.ladder(item["id"]), arguments)
    finally:
        for process in others:
            process.kill()
            process.wait()
        gateway.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def report(
    spent: list[float],
    delays: list[float],
    memory: list[int],
    polls: float,
    said: dict[str, Any],
    arguments: argparse.Namespace,
) -> None:
    """The figures, a line each."""
    worker, main, ffmpeg = spent
    tuned = ", zerolatency" if arguments.zerolatency else ""
    p50, p99 = 1000 * statistics.median(delays), 1000 * sorted(delays)[int(0.99 * len(delays))]
    each = 100 * main / len(RUNGS)
    print(f"{len(RUNGS)} rungs of {arguments.size} at 30 fps, {arguments.codec}, {arguments.seconds:.0f} s:")
    print(f"  worker                 {worker:.3f} of a core")
    print(
        f"  gateway without it     {main:.3f} ({each:.1f} % a rung; ingest and {polls:.0f} API calls a second included)"
    )
    print(f"  ffmpeg{tuned:17s}{ffmpeg:.3f}")
    print(f"  ratio                  {(worker + main) / ffmpeg:.2f} (worker alone {worker / ffmpeg:.2f})")
    print(f"  behind the source      p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    print(f"  worker's memory        {max(memory) / 1e6:.0f} MB at most")
    print(f"  dropped {said['dropped']}, damaged {said['damaged']}, restarts {said['restarts']}")


def soak(minutes: float, gateway: Gateway, api: Api, channel: str) -> None:
    """Memory of the worker and the gateway, a line a minute; fails when the last quarter is 5 % above the second."""
    worker = worker_of(gateway)
    assert gateway.process is not None
    history: list[int] = []
    for minute in range(max(4, round(minutes))):
        time.sleep(60)
        history.append(resident(worker))
        said = api.ladder(channel)
        worker_mb, main_mb = history[-1] / 1e6, resident(gateway.process.pid) / 1e6
        told = f"dropped {said['dropped']}  restarts {said['restarts']}"
        print(f"{minute + 1:4d} min  worker {worker_mb:6.1f} MB  gateway {main_mb:6.1f} MB  {told}", flush=True)
    quarter = len(history) // 4
    early, late = statistics.mean(history[quarter : 2 * quarter]), statistics.mean(history[-quarter:])
    print(f"second quarter {early / 1e6:.1f} MB, last {late / 1e6:.1f} MB")
    if late > 1.05 * early:
        raise BenchError("the worker's memory grows")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--codec", choices=("libx264", "libx265"), default="libx264")
    parser.add_argument("--zerolatency", action="store_true", help="ffmpeg too without lookahead and B-frames")
    parser.add_argument("--soak", type=float, default=0, metavar="MINUTES")
    try:
        measure(parser.parse_args())
    except BenchError as error:
        print(f"bench_transcode: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
