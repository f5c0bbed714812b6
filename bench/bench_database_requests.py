"""Requests of a gateway to PostgreSQL: idle, with streams, and with viewers.

    python -m bench.bench_database_requests --streams 10 --viewers 100 --seconds 60

Two gateways share one server. The table shows transactions a node and minute, as the server counts them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from pathlib import Path

from tests.support.clients import Program, push
from tests.support.gateway import Gateway
from tests.support.media import Film
from tests.support.postgres import Postgres, postgres_server

_SETTLED = 25.0  # seconds after a start or a change until only the usual requests are left
_STATISTICS = 2.0  # seconds: the server counts a transaction up to a second later


def _count(server: Postgres, database: str) -> int:
    time.sleep(_STATISTICS)
    return int(server.sql(f"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{database}'"))


def _rate(server: Postgres, database: str, seconds: float, nodes: int) -> float:
    """Returns requests a node and minute."""
    time.sleep(_SETTLED)
    began, before = time.monotonic(), _count(server, database)
    time.sleep(seconds)
    after = _count(server, database)
    return round((after - before) * 60 / (time.monotonic() - began) / nodes, 1)


def main() -> None:
    """Measures and prints the rows."""
    parser = argparse.ArgumentParser("bench_database_requests", description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    film = Film("requests", seconds=10)
    rows: dict[str, float] = {}
    with postgres_server() as server, contextlib.ExitStack() as stack:
        url = server.new_database()
        database = url.rpartition("/")[2]
        gateways = []
        for _ in range(2):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="millrace-requests-"))
            settings = {"MILLRACE_DATABASE": url, "MILLRACE_CLUSTER__SECRET": "a secret of the cluster 123"}
            gateway = Gateway(Path(folder), **settings)
            gateway.wait_ready()
            stack.callback(gateway.stop)
            gateways.append(gateway)
        rows["idle"] = _rate(server, database, asked.seconds, 2)
        channels = [gateways[0].channel() for _ in range(asked.streams)]
        programs: list[Program] = [push(film, channel.push, loop=True) for channel in channels]
        for program in programs:
            stack.callback(program.kill)
        rows[f"{asked.streams} streams at one node"] = _rate(server, database, asked.seconds, 2)
        for number in range(asked.viewers):
            address = channels[number % len(channels)].url("live.flv")
            port = gateways[number % 2].ports["http"]
            address = address.replace(f":{gateways[0].ports['http']}/", f":{port}/")
            viewer = Program(["curl", "-sN", "-o", "/dev/null", address])
            stack.callback(viewer.kill)
        rows[f"and {asked.viewers} viewers at both"] = _rate(server, database, asked.seconds, 2)
    for name, value in rows.items():
        print(f"{name:32} {value:8.1f} requests a node and minute")
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
