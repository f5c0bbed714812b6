"""What a clip of a live channel costs: wall and CPU of the request, and what a viewer notices of it.

Run: python -m bench.bench_clips [--seconds 30] [--bitrate 5000] [--size 1280x720] [--rounds 5]
The variables MILLRACE_OBJECTS and AWS_* reach the gateway, so a bucket can be measured too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "a token for the bench of clips"


@dataclass
class Viewer:
    """Reads live.flv and notes the longest time between two reads."""

    url: str
    longest: float = 0.0
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with urllib.request.urlopen(self.url, timeout=30) as stream:
            before = time.monotonic()
            while not self.stopped.is_set() and stream.read1(1 << 20):
                now = time.monotonic()
                self.longest, before = max(self.longest, now - before), now

    def take(self) -> float:
        longest, self.longest = self.longest, 0.0
        return longest


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=int, default=30, help="length of a clip")
    options.add_argument("--bitrate", type=int, default=5000, help="kbit/s")
    options.add_argument("--size", default="1280x720")
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as name:
        measure(Path(name), chosen)


def measure(folder: Path, chosen: argparse.Namespace) -> None:
    film = folder / "film.flv"
    bits = f"{chosen.bitrate}k"
    picture = f"testsrc2=size={chosen.size}:rate=30,noise=alls=30:allf=t"
    codec = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "60", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    rate = ["-b:v", bits, "-minrate", bits, "-maxrate", bits, "-bufsize", bits]
    make = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine", "-t", "20"]
    subprocess.run([*make, *codec, *rate, str(film)], check=True)
    with gateway(folder) as (process, ports):
        body = {"videoname": "bench", "outdate": "2035-12-31", "isFlv": True, "isOnDemand": True}
        channel = api(ports, "/videostream", body)
        url = f"rtmp://127.0.0.1:{ports['rtmp']}/stream/{channel['id']}?sign={channel['key']}"
        loop = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(film), "-c", "copy"]
        pusher = subprocess.Popen([*loop, "-f", "flv", url])
        try:
            time.sleep(3)
            viewer = Viewer(f"http://127.0.0.1:{ports['http']}/{channel['id']}/live.flv")
            thread = threading.Thread(target=viewer.run, daemon=True)
            thread.start()
            time.sleep(chosen.seconds + 40)  # the clip reaches over two segments of 60 s
            viewer.take()
            idle_cpu = cpu(process.pid)
            time.sleep(5)
            idle_cpu = (cpu(process.pid) - idle_cpu) / 5
            quiet = viewer.take()
            rows = []
            for _ in range(chosen.rounds):
                before, began = cpu(process.pid), time.monotonic()
                made = api(ports, f"/videostream/{channel['id']}/clips", {"last": chosen.seconds})
                wall = time.monotonic() - began
                rows.append((wall, cpu(process.pid) - before - idle_cpu * wall, made["size"], made["seconds"]))
                time.sleep(1)
            busy = viewer.take()
            viewer.stopped.set()
        finally:
            pusher.kill()
            pusher.wait()
    walls, costs, sizes, lengths = zip(*rows, strict=True)
    print(
        f"clip of {statistics.median(lengths):.1f} s, {statistics.median(sizes) / 1e6:.1f} MB, {os.cpu_count()} cores, "
        f"{chosen.rounds} rounds: wall median {statistics.median(walls):.3f} s, most {max(walls):.3f} s; "
        f"CPU median {statistics.median(costs):.3f} s; longest pause of a viewer {busy * 1000:.0f} ms "
        f"({quiet * 1000:.0f} ms without clips)"
    )


@contextlib.contextmanager
def gateway(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, int]]]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_") or k == "MILLRACE_OBJECTS"}
    env |= {f"MILLRACE_{x}__PORT": "0" for x in ("RTMP", "HTTP", "WS", "ADMIN")}
    env |= {f"MILLRACE_{x}__HOST": "127.0.0.1" for x in ("RTMP", "HTTP", "WS", "ADMIN")}
    env |= {"MILLRACE_DATA": str(folder / "data"), "MILLRACE_ADMIN__TOKEN": TOKEN}
    process = subprocess.Popen([sys.executable, "-m", "gateway", "serve"], cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
    try:
        file = folder / "data" / "ports.json"
        end = time.monotonic() + 30
        while not file.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        yield process, json.loads(file.read_text())
    finally:
        process.terminate()
        process.wait()


def api(ports: dict[str, int], path: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{ports['admin']}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer: dict[str, Any] = json.loads(reply.read())
        return answer


def cpu(pid: int) -> float:
    """Seconds of CPU that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
