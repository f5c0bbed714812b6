"""A few fail-overs of gateways and PostgreSQL: no stream has two holders. `bench/bench_claims.py` has a thousand."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.claims import toxiproxy
from bench.harness.procs import BenchError
from tests.support.time_outs import at_most
from tests.support.tools import lacking, need

ROOT = Path(__file__).parents[3]
# Only a killed gateway changes the holders of its channels. The steps are chosen by chance: 20 had 3 or 6 kills, which
# made 9 changes of 6 channels, or 41 of 10.
_FAILOVERS, _CHANNELS = 30, 10


@pytest.mark.nightly
def test_no_stream_has_two_holders_whatever_fails(tmp_path: Path) -> None:
    need("pg_isready")
    try:
        toxiproxy.program()
    except BenchError as error:
        lacking(str(error))
    patroni = 2 if shutil.which("patroni") and shutil.which("etcd") else 0
    results = tmp_path / "results.jsonl"
    command = [sys.executable, "-m", "bench.bench_claims", "--failovers", str(_FAILOVERS + patroni)]
    command += ["--patroni", str(patroni), "--channels", str(_CHANNELS), "--limit", "400"]
    command += ["--results", str(results), "--histories", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=at_most(460))
    assert done.returncode in (0, 1), done.stderr[-3000:]  # 1: also for a publisher that was late, on a busy machine
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [row["failovers"] for row in rows] == [_FAILOVERS, *([patroni] if patroni else [])]
    assert [(row["violations"], row["never_back"]) for row in rows] == [({}, 0)] * len(rows), done.stdout[-5000:]
    assert all(row["changes"] > 10 for row in rows), "the history has too little to judge"
