"""What more cores carry: FLV viewers of one stream at one worker process and at several, in turn, loopback only.

    bench_cores -n 2000                     2,000 viewers at one worker, 4,000 at two, A B A B, three rounds
    bench_cores -n 1000,2000 --workers 1,2,4 --pin
    bench_cores --idle --workers 1,2,4      what each process takes before it has a stream

-n viewers for each worker: feeds write the more seldom the more they have to, so only workers with as much to do are
compared at equal latency. A row says what the whole gateway and its busiest process used for each GB delivered. A core
is full when its process is: `carries` is how many times the viewers of one worker make the busiest process as busy.
--pin binds workers to cores 0, 1, … and load clients and publisher to the others: with cores enough, --full looks for
the most viewers whose latency still holds. Rows are appended to build/bench/cores.jsonl.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
from typing import Any

from bench.harness import clients, paths, report
from bench.harness.clients import Publishers, Viewers
from bench.harness.measures import Row, owned, running, settle
from bench.harness.procs import BenchError, machine_cpu, memory, tree, usage
from bench.harness.servers import Gateway

RESULTS = paths.BUILD / "cores.jsonl"
FLUSH = "50"
GOOD_P50, GOOD_P99 = 45.0, 100.0  # milliseconds: the gateway's own goal at a flush bound of 50


class Cores(Gateway):
    """A gateway of so many workers; `processes` are those that serve, without their master and their parent."""

    def __init__(self, workers: int) -> None:
        super().__init__(FLUSH)
        self.workers = workers
        self.label = f"{workers} worker{'s' if workers > 1 else ''}"
        self.settings = {"MILLRACE_SERVE__WORKERS": str(workers)}

    def processes(self) -> list[int]:
        assert self.process is not None, "it is started"
        return [self.process.pid] if self.workers == 1 else tree(self.process.pid)[2:]

    def cpu(self) -> dict[int, float]:
        """Seconds of each process."""
        return {pid: usage(pid).cpu for pid in self.processes()}

    def pin(self) -> None:
        """Each worker on a core of its own, what comes after (the load) on the others."""
        for core, pid in enumerate(self.processes()):
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), {core})


def view(workers: int, viewers: int, a: argparse.Namespace) -> Row:
    """One measurement."""
    server, mine = Cores(workers), os.sched_getaffinity(0)
    try:
        with running(server, 1) as urls:
            if a.pin:
                server.pin()
                os.sched_setaffinity(0, mine - set(range(max(a.workers))))
            with owned(Publishers(urls.push)) as push:
                settle(server, 5)
                before: dict[int, float] = {}
                after: dict[int, float] = {}
                marks: list[float] = []

                def opens() -> None:
                    before.update(server.cpu())
                    marks.append(machine_cpu() - usage(push.process.pid).cpu)

                def closes() -> None:
                    after.update(server.cpu())
                    marks.append(machine_cpu() - usage(push.process.pid).cpu)

                with owned(Viewers(urls.flv, viewers, a.seconds, "-p", 20, rate=a.rate, warm=4)) as load:
                    seen = load.until({"MEASURE_START": opens, "MEASURE_END": closes})
                push.finish()
    finally:
        os.sched_setaffinity(0, mine)
    if not seen["bytes"]:
        raise BenchError(f"{server.label}: nothing arrived ({seen['status'] or 'no answer'})")
    used = {pid: after[pid] - before[pid] for pid in before}
    gb, seconds = seen["bytes"] / 1e9, seen["seconds"]
    other = marks[1] - marks[0] - sum(used.values()) - seen["client_cpu_s"]
    return {
        "workers": workers,
        "each": viewers // workers,
        "viewers": viewers,
        "lost": seen["connect_errors"] + seen["refused"] + seen["closed_early"],
        "mbps": round(seen["bytes"] * 8e-6 / seconds),
        "cpu_s_per_gb": round(sum(used.values()) / gb, 3),
        "busiest_s_per_gb": round(max(used.values()) / gb, 3),
        "busiest_pct": round(100 * max(used.values()) / seconds, 1),
        "latency_p50_ms": seen["latency_ms"]["p50"],
        "latency_p99_ms": seen["latency_ms"]["p99"],
        "slow_viewers": seen["slow_viewers"],
        "client_cpu_pct": round(100 * seen["client_cpu_s"] / seconds, 1),
        "other_cpu_pct": round(100 * max(0.0, other) / seconds, 1),
    }


def idle(workers: int) -> Row:
    """Memory and the CPU time of the start, without a stream."""
    server = Cores(workers)
    with running(server, 1):
        settle(server, 5)
        assert server.process is not None, "it is started"
        own = [memory(pid) for pid in server.processes()]
        every = [memory(pid) for pid in tree(server.process.pid)]
        return {
            "workers": workers,
            "private_mb_of_each": round(statistics.mean(m.own_private for m in own) / 1e6, 1),
            "private_mb_of_all": round(sum(m.own_private for m in every) / 1e6, 1),
            "shared_mb": round(max(m.own_resident - m.own_private for m in every) / 1e6, 1),
            "cpu_s_of_each": round(statistics.mean(server.cpu().values()), 2),
            "cpu_s_of_all": round(usage(server.process.pid).cpu, 2),
        }


def good(row: Row) -> bool:
    """Everybody got everything in time."""
    fine = row["latency_p50_ms"] <= GOOD_P50 and row["latency_p99_ms"] <= GOOD_P99
    return bool(fine and not row["lost"] and not row["slow_viewers"])


def fullest(workers: int, a: argparse.Namespace) -> Row:
    """The row with the most viewers whose latency holds, to a tenth."""
    low, high, best = 0, 0, None
    n = a.n[0] * workers
    while not high or high - low > low // 10:
        row = _kept("full", view(workers, n, a))
        if good(row):
            low, best = n, row
        else:
            high = n
        n = 2 * low if not high else (low + high) // 2
        if n < 100:
            raise BenchError(f"{workers} workers hold no latency here with {high} viewers")
    assert best is not None, "the search ends above what held"
    return best


def _kept(kind: str, row: Row) -> Row:
    print("  " + "  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    return report.save(RESULTS, kind, f"millrace x{row['workers']}", row)


def table(rows: list[Row], workers: list[int], viewers: list[int]) -> None:
    """Medians over the rounds, and what more workers carry beside the first of them."""
    names = ("cpu_s_per_gb", "busiest_s_per_gb", "busiest_pct", "latency_p50_ms", "latency_p99_ms", "lost")
    print("| workers | viewers each | " + " | ".join(names) + " | carries |\n" + "|---" * (len(names) + 3) + "|")
    for n in viewers:
        first: float | None = None
        for w in workers:
            these = [r for r in rows if (r["workers"], r["each"]) == (w, n)]
            values: dict[str, Any] = {name: round(statistics.median(r[name] for r in these), 3) for name in names}
            first = first or values["busiest_s_per_gb"]
            carries = f"{first / values['busiest_s_per_gb']:.2f}"
            print(f"| {w} | {n} | " + " | ".join(str(values[name]) for name in names) + f" | {carries} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(n) for n in text.split(",")]  # noqa: E731
    parser.add_argument("-n", type=numbers, default=[2000], help="viewers for each worker, several with commas")
    parser.add_argument("--workers", type=numbers, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rate", type=int, default=200, help="viewers that connect in a second")
    parser.add_argument("--pin", action="store_true", help="a core for each worker, the others for the load")
    parser.add_argument("--idle", action="store_true", help="memory and CPU of the start, without a stream")
    parser.add_argument("--full", action="store_true", help="look for the most viewers from -n on")
    a = parser.parse_args()
    if a.pin and len(os.sched_getaffinity(0)) < max(a.workers) + 2:
        parser.error(f"--pin wants {max(a.workers) + 2} cores")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        Gateway.check()
        clients.build()
        if a.idle:
            for w in a.workers:
                _kept("idle", idle(w))
            return 0
        if a.full:
            best = {w: fullest(w, a) for w in a.workers}
            for w, row in best.items():
                times = row["viewers"] / best[a.workers[0]]["viewers"]
                print(f"{w} workers: {row['viewers']} viewers at p99 {row['latency_p99_ms']} ms, {times:.2f} times")
            return 0
        rows = [_kept("cores", view(w, w * n, a)) for _ in range(a.rounds) for n in a.n for w in a.workers]
    except BenchError as error:
        print(f"bench_cores: {error}", file=sys.stderr)
        return 1
    table(rows, a.workers, a.n)
    return 0


if __name__ == "__main__":
    sys.exit(main())
