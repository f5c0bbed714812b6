"""`millrace copy` of a large installation from SQLite to PostgreSQL, with the comparison at its end.

python -m bench.bench_copy --channels 10000 --events 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gateway.adapters.copying import open_place
from gateway.ports.events import StoredEvent
from tests.support.postgres import postgres_server

_BATCH = 10_000  # events of one write


async def fill(url: str, channels: int, events: int) -> None:
    """Stores channels and events as an installation has them after some months."""
    async with open_place(url, create=True) as stores:
        for n in range(channels):
            await stores.channels.add(
                {"id": f"channel-{n:06d}", "videoname": f"Channel {n}", "isFlv": True, "hls_time": 2}
            )
        for first in range(0, events, _BATCH):
            await stores.events.append(
                [
                    StoredEvent(
                        f"{n:024x}", "stream.started", 1_700_000_000.5 + n, f"channel-{n % channels:06d}", "node",
                        {"protocol": "rtmp", "peer": "192.0.2.7", "stream": f"channel-{n % channels:06d}"},
                    )
                    for n in range(first, min(events, first + _BATCH))
                ]
            )  # fmt: skip


def main() -> None:
    """Fills a SQLite folder, copies it, and prints the times."""
    parser = argparse.ArgumentParser("bench_copy", description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-copy-") as folder, postgres_server() as server:
        source = f"sqlite:///{folder}"
        asyncio.run(fill(source, asked.channels, asked.events))
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
        command = [sys.executable, "-m", "gateway", "copy", "--from", source, "--to", server.new_database()]
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, env=environ)
        seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        row = {"channels": asked.channels, "events": asked.events, "seconds": round(seconds, 1), "cpu": round(cpu, 1)}
    print(f"{asked.channels} channels and {asked.events} events: {seconds:.1f} s, {cpu:.1f} s of CPU")
    if asked.json is not None:
        asked.json.write_text(json.dumps(row))


if __name__ == "__main__":
    main()
