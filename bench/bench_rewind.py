"""What four hours of rewinding cost: memory, and CPU of a playlist. Run: python -m bench.bench_rewind

It starts a gateway, stores 7,200 pieces of 2 s, pushes a stream, and requests playlists over one connection.
"""

from __future__ import annotations

import argparse
import http.client
import os
import time
from pathlib import Path

from gateway.outputs.recording.on_demand_session import RecordedSegment, playlist
from gateway.ports import media_keys
from tests.support.clients import push
from tests.support.gateway import Channel, Gateway, running
from tests.support.media import Film

FILM = Film("bench-rewind", seconds=60, size="320x180", gop=60)
HOURS = 4
PIECE = 2.0


def store_hours(media: Path, channel: str) -> None:
    """Stores the playlist of a session that has just ended. Its pieces are not fetched, so they do not exist."""
    count = int(HOURS * 3600 / PIECE)
    start = time.time() - HOURS * 3600 + 30
    first = int(start * 1000)
    entries = [RecordedSegment(first + n, PIECE, 1, n == 0, start + n * PIECE) for n in range(count - 20)]
    path = media / media_keys.playlist_key(channel, first)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(playlist(entries, False))


def resident(gateway: Gateway) -> float:
    """Resident memory of the gateway's process, MB."""
    lines = Path(f"/proc/{gateway.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))


def cpu(gateway: Gateway) -> float:
    """CPU seconds of the gateway's process so far."""
    fields = Path(f"/proc/{gateway.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost(channel: Channel, query: str, count: int) -> tuple[float, int]:
    """CPU microseconds of one request, and the bytes of its answer. The gateway also receives the stream meanwhile."""
    connection = http.client.HTTPConnection("127.0.0.1", channel.gateway.ports["http"])
    path = f"/{channel.id}/live.m3u8{query}"
    size, began, before = 0, time.monotonic(), cpu(channel.gateway)
    for _ in range(count):
        connection.request("GET", path)
        size = len(connection.getresponse().read())
    used, took = cpu(channel.gateway) - before, time.monotonic() - began
    before = cpu(channel.gateway)
    time.sleep(took)
    idle = cpu(channel.gateway) - before
    connection.close()
    return max(used - idle, 0.0) / count * 1e6, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    count = parser.parse_args().requests
    memory: dict[str, float] = {}
    rows = (("without rewind", 0, False), ("with 4 h, unused", HOURS, False), ("with 4 h", HOURS, True))
    for name, hours, is_used in rows:
        with running() as gateway:
            # Both record, so that only going back makes the difference.
            channel = gateway.channel(isFlv=False, isCMAF=False, hls_time="2", isVideo=not hours, rewind=hours)
            if hours:
                store_hours(gateway.data / "media", channel.id)
            with push(FILM, channel.push, loop=True):
                channel.wait_playable("live.m3u8")
                plain, _ = cost(channel, "", count)
                if is_used:
                    query = f"?rewind={HOURS * 3600}"
                    whole, size = cost(channel, query, count // 10)
                    delta, small = cost(channel, f"{query}&_HLS_skip=YES", count)
                    signed, _ = cost(channel, f"{query}&_HLS_skip=YES&sign=x", count)
                    print(f"whole playlist      {whole:8.1f} µs  {size:8d} bytes")
                    print(f"delta update        {delta:8.1f} µs  {small:8d} bytes")
                    print(f"delta with a query  {signed:8.1f} µs")
                time.sleep(10)
                memory[name] = resident(gateway)
                print(f"plain live.m3u8     {plain:8.1f} µs  ({name})")
    for name, megabytes in memory.items():
        print(f"memory {name:16s} {megabytes:8.1f} MB")


if __name__ == "__main__":
    main()
