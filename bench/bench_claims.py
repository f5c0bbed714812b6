"""Fail-overs of gateways and of PostgreSQL under load: had every stream one holder, and how soon were publishers back?

    python -m bench.bench_claims [--failovers 200] [--patroni 10] [--seed 1] [--channels 12]
    python -m bench.bench_claims --check FILE

Three gateways whose clocks are 30 s apart share a database. Encoders push 12 channels to gateways that they choose at
random; every third channel has two, which compete. One fault after another happens to the gateways (kill -9, SIGSTOP),
and at the same time to the database (`pg_ctl stop -m immediate`, SIGSTOP; connections that are cut, silent, slow or
narrow, by toxiproxy), while encoders lose their pushes. --patroni: of the fail-overs, so many are of two servers with
Patroni and synchronous replication: switchovers, `kill -9` and a paused primary.

Afterwards, `bench/claims/checker.py` judges the history of all claims and releases; its first page says how. The
history is kept (`build/bench/claims/`): --check judges a file again. Exit status 1: something was violated, or a
publisher was back too late.

Needs PostgreSQL, Go (or BENCH_TOXIPROXY), and for --patroni Debian's `patroni` and `etcd-server`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.claims.checker import Verdict, check
from bench.claims.faults import DatabaseFaults, GatewayFaults
from bench.claims.history import load, save
from bench.claims.patroni import PatroniFaults, patroni
from bench.claims.report import LIMIT, LIMIT_PATRONI, good, result, table
from bench.claims.toxiproxy import toxiproxy
from bench.claims.witness import BROKEN
from bench.claims.world import GATEWAYS, World, history_of, world
from bench.harness import paths, report
from bench.harness.limits import set_limits
from bench.harness.procs import BenchError
from tests.support.postgres import postgres_server

_PATIENCE = 30.0  # seconds in which all publishers must be back; a later one counts as never back

Step = Callable[[], Awaitable[None]]


class Lane:
    """Faults of one kind of thing, one after the other. weights: how often each happens."""

    def __init__(self, world: World, weights: dict[Step, float], pause: float) -> None:
        self._world, self._weights, self._pause = world, weights, pause

    async def run(self, left: list[int], steps: Counter[str]) -> None:
        """Runs until the common number of faults that are left is zero. steps: counts them."""
        while left[0] > 0:
            left[0] -= 1
            chosen = self._world.random.choices([*self._weights], [*self._weights.values()])[0]
            await chosen()
            steps[f"{type(chosen.__self__).__name__.removesuffix('Faults').lower()}: {chosen.__name__}"] += 1  # type: ignore[attr-defined]
            print(".", end="" if steps.total() % 50 else f" {steps.total()}\n", file=sys.stderr, flush=True)
            await self._world.all_live(self._pause)
            await asyncio.sleep(self._world.random.uniform(0, 0.5))


async def single(a: argparse.Namespace, failovers: int, folder: Path) -> dict[str, Any]:
    """Fail-overs with one server of PostgreSQL, behind toxiproxy."""
    with postgres_server() as server, toxiproxy() as proxies:
        name = server.new_database().rpartition("/")[2]
        urls = {node: server.url(name, proxies.open(node, server.port)) for node in GATEWAYS}
        made = world(folder, urls, [server.url(name)], channels=a.channels, random=random.Random(a.seed))
        async with made as running:
            gateway, database = GatewayFaults(running), DatabaseFaults(running, server, proxies)
            lanes = [
                Lane(running, {gateway.kill: 3, gateway.pause: 2}, 3),
                Lane(
                    running,
                    {
                        database.crash: 3,
                        database.cut: 3,
                        database.lose: 2,
                        database.pause: 2,
                        database.delay: 1,
                        database.throttle: 1,
                    },
                    3,
                ),
            ]
            steps = await _run(running, lanes, failovers)
        return await _judge("one server", running, [server.url(name)], steps, LIMIT, a.histories)


async def replicated(a: argparse.Namespace, failovers: int, folder: Path) -> dict[str, Any]:
    """Fail-overs between two servers by Patroni."""
    async with patroni(folder / "patroni") as cluster:
        urls = dict.fromkeys(GATEWAYS, cluster.url)
        made = world(folder, urls, cluster.urls, channels=a.channels, random=random.Random(a.seed))
        async with made as running:
            faults = PatroniFaults(running, cluster)
            lanes = [Lane(running, {faults.switchover: 3, faults.kill: 3, faults.pause: 1}, 5)]
            steps = await _run(running, lanes, failovers)
        return await _judge("Patroni", running, cluster.urls, steps, LIMIT_PATRONI, a.histories)


async def _run(running: World, lanes: list[Lane], failovers: int) -> Counter[str]:
    if not await running.all_live(60):
        raise BenchError("the encoders cannot push")
    left, steps = [failovers], Counter[str]()
    try:
        await asyncio.gather(*(lane.run(left, steps) for lane in lanes))
    except (BenchError, OSError) as error:  # what has happened until now is judged nevertheless
        print(f"bench: {error}", file=sys.stderr)
    await running.all_live(_PATIENCE)
    running.never_back = sum(not channel.is_live for channel in running.channels)
    return steps


async def _judge(
    name: str, ended: World, servers: list[str], steps: Counter[str], limit: float, folder: Path
) -> dict[str, Any]:
    history = await history_of(ended.nodes, servers)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name.replace(' ', '-').lower()}.jsonl"
    save(history, file)
    began = time.monotonic()
    verdict = check(history)
    returns = ended.returns(history)
    outages = [end - begin for begin, end in ended.monitor.away if end < float("inf")]
    row = result(steps, verdict, returns, ended.never_back, outages, limit)
    row |= {"check_seconds": round(time.monotonic() - began, 2), "history": file.name}
    print(f"\n{table(name, row)}\n")
    show(verdict)
    for late in sorted((one for one in returns if one.seconds > limit), key=lambda one: -one.seconds)[:20]:
        outage, lost = late.outage, late.outage.lost
        tried = ", ".join(f"{node} {began - lost:.1f}-{end - lost:.1f}" for node, began, end in outage.tried)
        print(f"late: {outage.channel} {late.seconds:.2f} s after {late.cause} (lost {lost:.2f}: {tried})")
    return row


def show(verdict: Verdict) -> None:
    """Prints the violations, and take-overs of live streams."""
    for violation in verdict.violations[:50]:
        print(f"VIOLATION {violation}")
    for takeover in [one for one in verdict.takeovers if one.holder == "alive"][:20]:
        print(f"taken from a living process: {takeover}")


def run(a: argparse.Namespace) -> int:
    """Runs both parts. Returns the exit status."""
    rows = []
    folder = Path(tempfile.mkdtemp(prefix="bench-claims-"))
    try:
        for kind, part, count in (
            ("claims", single, a.failovers - a.patroni),
            ("claims-patroni", replicated, a.patroni),
        ):
            if count > 0:
                row = asyncio.run(part(a, count, folder / kind))
                rows.append(report.save(a.results, kind, "millrace", row | {"seed": a.seed}))
    finally:
        shutil.rmtree(a.histories / "logs", ignore_errors=True)
        for log in folder.glob("*/*/log"):
            target = a.histories / "logs" / log.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(log, target)
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if good(rows) else 1


def main() -> int:
    """Runs fail-overs, or checks a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--failovers", type=int, default=200)
    parser.add_argument("--patroni", type=int, default=0, help="of the fail-overs, those by Patroni")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of faults; times of processes still differ")
    parser.add_argument("--channels", type=int, default=12)
    parser.add_argument("--check", type=Path, metavar="FILE", help="judge a kept history, and run nothing")
    parser.add_argument("--broken", action="store_true", help="every claim succeeds: the checker must find that")
    parser.add_argument("--histories", type=Path, default=paths.BUILD / "claims", help="folder for histories and logs")
    parser.add_argument("--results", type=Path, default=paths.RESULTS)
    parser.add_argument("--limit", type=int, default=7200, help="seconds after which the run is given up")
    a = parser.parse_args()
    if a.check:
        verdict = check(load(a.check))
        show(verdict)
        print(f"{verdict.changes} changes, {verdict.calls} calls, {len(verdict.violations)} violations")
        return 1 if verdict.violations else 0
    set_limits(a.limit)
    if a.broken:
        os.environ[BROKEN] = "1"
    try:
        return run(a)
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
