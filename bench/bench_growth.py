"""How costs grow: viewers, publishers, stored channels, live channels. Run: python -m bench.bench_growth [what]

Each quantity is measured at several sizes. The last column is the power of the size that it follows between the two
largest sizes: 1 is linear, 0 does not depend on it. Quantities that grow faster than they should are marked. The table
and the curves go to build/bench/growth.html, the rows to growth.jsonl.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.harness import clients, growth, measures, paths, plot
from bench.harness.clients import Publishers
from bench.harness.limits import set_limits
from bench.harness.measures import Options, owned, running
from bench.harness.procs import BenchError, memory, running_seconds
from bench.harness.servers import TOKEN, Gateway

TOLERANCE = 0.2  # of the power: noise and fixed costs
PUSHES = 20  # of a measurement of the key check
ANSWERS = 10  # requests of a measurement


@dataclass
class Quantity:
    """One quantity at several sizes.

    allowed: the power that is fine; nan: shown only, such as clock time, which depends on what else the machine does.
    resolution: below it, differences are noise.
    """

    what: str
    size: str
    name: str
    unit: str
    allowed: float
    resolution: float = 0.0
    points: list[tuple[float, float]] = field(default_factory=list)

    @property
    def power(self) -> float:
        return growth.power(self.points) if len(self.points) > 1 else float("nan")

    @property
    def too_fast(self) -> bool:
        grown = max(p[1] for p in self.points) - min(p[1] for p in self.points)
        return self.power > self.allowed + TOLERANCE and grown > self.resolution


class Quantities:
    """Collects points by quantity, and prints each as it comes."""

    def __init__(self) -> None:
        self.all: dict[tuple[str, str], Quantity] = {}

    def add(
        self, what: str, size: str, n: int, name: str, value: float, unit: str, allowed: float, resolution: float = 0
    ) -> None:
        """Adds a value of the quantity `name` at the size `n`. size: the word for it."""
        key = (what, name)
        if key not in self.all:
            self.all[key] = Quantity(what, size, name, unit, allowed, resolution)
        self.all[key].points.append((n, value))
        print(f"{what:10} {n:>6} {size:10} {name:34} {value:12.4g} {unit}", flush=True)


def viewers(found: Quantities, sizes: Sequence[int], seconds: int) -> None:
    """HTTP-FLV viewers of one small stream."""
    for n in sizes:
        o = Options(viewers=n, seconds=seconds, rate=250, file=paths.SMALL_STREAM)
        row = measures.view(Gateway("50"), "flv", o)
        if row["lost"]:
            print(f"{row['lost']} of {n} viewers were lost", file=sys.stderr)
        found.add("viewers", "viewers", n, "CPU", row["cpu_pct"], "% of a core", 1)
        found.add("viewers", "viewers", n, "CPU for each GB", row["cpu_s_per_gb"], "s", 0)
        found.add("viewers", "viewers", n, "latency, p99", row["latency_p99_ms"], "ms", math.nan)
        found.add("viewers", "viewers", n, "memory for each viewer", row["rss_kb_per_viewer"], "kB", 0, 2)


def publishers(found: Quantities, sizes: Sequence[int], seconds: int) -> None:
    """Publishers without viewers, 2.5 Mbit/s each."""
    for n in sizes:
        row = measures.ingest(Gateway(), False, Options(publishers=n, seconds=seconds))
        found.add("publishers", "publishers", n, "CPU", row["cpu_pct"], "% of a core", 1)
        each = row["cpu_s_per_publisher_minute"]
        found.add("publishers", "publishers", n, "CPU for each publisher-minute", each, "s", 0)
        found.add("publishers", "publishers", n, "memory for each publisher", row["rss_kb_per_publisher"], "kB", 0, 100)


def idle_cpu(server: Gateway, seconds: float) -> float:
    """CPU of the gateway as a share of a core, in percent."""
    before, began = running_seconds(server.pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (running_seconds(server.pid) - before) / (time.monotonic() - began)


def request_cost(server: Gateway, path: str, idle: float) -> tuple[float, float]:
    """Milliseconds of the gateway's CPU and of the clock for one request. idle: its CPU without, percent of a core."""
    ask: Callable[[], Any] = (lambda: server.text(path)) if path == "/metrics" else (lambda: server.api("GET", path))
    ask()
    before, began = running_seconds(server.pid), time.monotonic()
    for _ in range(ANSWERS):
        ask()
    took = time.monotonic() - began
    cpu = running_seconds(server.pid) - before - idle / 100 * took
    return 1000 * max(0.0, cpu) / ANSWERS, 1000 * took / ANSWERS


def fill(server: Gateway, n: int) -> None:
    """Copies the first channel of the store until there are n: the API would need a minute for 10,000."""
    (file,) = [x for x in (server.folder / "data").glob("*.db") if _has_channels(str(x))]
    with sqlite3.connect(file, timeout=10) as store:
        ((text,),) = store.execute("SELECT item FROM channels LIMIT 1").fetchall()
        (there,) = store.execute("SELECT count(*) FROM channels").fetchone()
        for i in range(there, n):
            id = str(uuid.uuid4())
            item = json.loads(text) | {"id": id, "videoname": f"stored {i}"}
            store.execute("INSERT INTO channels VALUES (?, ?)", (id, json.dumps(item)))
    store.close()


def _has_channels(file: str) -> bool:
    with sqlite3.connect(file) as store:
        return bool(store.execute("SELECT 1 FROM sqlite_master WHERE name = 'channels'").fetchall())


def command_line(server: Gateway, *words: str) -> tuple[float, float]:
    """Seconds of CPU and of the clock of one command of `millrace` on the server's store."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")}
    env |= {"MILLRACE_DATA": str(server.folder / "data"), "MILLRACE_ADMIN__TOKEN": TOKEN}
    env["PYTHONPATH"] = str(paths.PROJECT)
    used, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    run = [*map(str, server.command()), *words]
    done = subprocess.run(run, env=env, cwd=server.folder, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    if done.returncode:
        raise BenchError(f"{' '.join(words)}: {done.stderr.strip()[-200:]}")
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, took


def stored(found: Quantities, sizes: Sequence[int], seconds: int) -> None:
    """Stored channels, none of them live."""
    for n in sizes:
        server = Gateway()
        with running(server, PUSHES) as urls:
            fill(server, n)
            time.sleep(2)
            idle = idle_cpu(server, seconds)
            found.add("stored", "channels", n, "idle CPU", idle, "% of a core", 0, 0.3)
            for path in ("/videostream", "/videostreams/online", "/status"):
                cpu, took = request_cost(server, path, idle)
                allowed = 1 if path == "/videostream" else 0
                found.add("stored", "channels", n, f"CPU of GET {path}", cpu, "ms", allowed, 2)
                found.add("stored", "channels", n, f"time of GET {path}", took, "ms", math.nan)
            cpu, took = command_line(server, "channel", "list")
            found.add("stored", "channels", n, "CPU of `channel list`", cpu, "s", 1)
            found.add("stored", "channels", n, "time of `channel list`", took, "s", math.nan)
            before, began = running_seconds(server.pid), time.monotonic()
            with owned(Publishers(urls.push, file=paths.SMALL_STREAM)):
                cpu = running_seconds(server.pid) - before
                took = time.monotonic() - began
            found.add("stored", "channels", n, "CPU of a push until it is live", 1000 * cpu / PUSHES, "ms", 0, 3)
            found.add("stored", "channels", n, f"time until {PUSHES} pushes are live", took, "s", math.nan)
            found.add("stored", "channels", n, "resident memory", memory(server.pid).own_resident / 1e6, "MB", 1)


def live(found: Quantities, sizes: Sequence[int], seconds: int) -> None:
    """Live channels without viewers, 0.36 Mbit/s each."""
    for n in sizes:
        server = Gateway()
        with running(server, n) as urls:
            empty = memory(server.pid)
            with owned(Publishers(urls.push, file=paths.SMALL_STREAM)):
                time.sleep(8)
                idle = idle_cpu(server, seconds)
                found.add("live", "streams", n, "CPU", idle, "% of a core", 1)
                for path in ("/videostreams/online", "/videostream", "/metrics", "/status"):
                    cpu, took = request_cost(server, path, idle)
                    found.add("live", "streams", n, f"CPU of GET {path}", cpu, "ms", 1, 2)
                    found.add("live", "streams", n, f"time of GET {path}", took, "ms", math.nan)
                now = memory(server.pid)
                each = (now.own_private - empty.own_private) / n / 1e3
                found.add("live", "streams", n, "private memory for each stream", each, "kB", 0, 50)


WHAT: dict[str, tuple[Callable[[Quantities, Sequence[int], int], None], str]] = {
    "viewers": (viewers, "1000,2000,4000"),
    "publishers": (publishers, "10,50,200"),
    "stored": (stored, "100,1000,10000"),
    "live": (live, "1,50,200,500"),
}


def write_page(found: Quantities) -> None:
    """Writes growth.html and growth.jsonl."""
    parts, rows = [], []
    for q in found.all.values():
        shown = ", ".join(f"{n:g}: {value:.4g}" for n, value in q.points)
        rows.append(
            (
                q.what,
                q.name,
                q.unit,
                shown,
                f"{q.power:.2f}",
                "-" if math.isnan(q.allowed) else f"{q.allowed:g}",
                "too fast" if q.too_fast else "",
            )
        )
        title = f"{q.name}: power {q.power:.2f}"
        parts.append(plot.chart(title, q.size, q.unit, {f"{q.what}: {q.name}": q.points}, dots=True))
    columns = ("what", "quantity", "unit", "size: value", "power", "allowed", "")
    plot.page(
        paths.BUILD / "growth.html", f"How costs grow, {time.strftime('%F %T')}", [plot.table(columns, rows), *parts]
    )
    with (paths.BUILD / "growth.jsonl").open("a") as f:
        for q in found.all.values():
            named = {"what": q.what, "name": q.name, "unit": q.unit, "points": q.points, "power": round(q.power, 3)}
            f.write(json.dumps(named | {"when": time.strftime("%F %T")}) + "\n")
    print("\n| what | quantity | unit | size: value | power | allowed | |\n|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(f"\nreport: {paths.BUILD / 'growth.html'}")


def main() -> int:
    """Measures; 1 if something grows faster than allowed, 2 if it could not be measured."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m bench.bench_growth", description=__doc__, formatter_class=layout)
    parser.add_argument("what", nargs="*", choices=[*WHAT, []], help="default: everything")
    for name, (_, sizes) in WHAT.items():
        parser.add_argument(f"--{name}", default=sizes, metavar="N,N", help=f"sizes (default {sizes})")
    parser.add_argument("-t", "--seconds", type=int, default=10, help="each measured window")
    parser.add_argument("--limit", type=int, default=3600, help="seconds after which the whole run is given up")
    a = parser.parse_args()
    set_limits(a.limit)
    found = Quantities()
    try:
        clients.build()
        for name in a.what or WHAT:
            WHAT[name][0](found, [int(x) for x in getattr(a, name).split(",")], a.seconds)
    except (BenchError, OSError) as e:
        print(f"bench: {e}", file=sys.stderr)
        return 2
    finally:
        if found.all:
            write_page(found)
    return int(any(q.too_fast for q in found.all.values()))


if __name__ == "__main__":
    sys.exit(main())
