"""A long run: publishers are cut, viewers come, go and stall; memory must stand still."""

from __future__ import annotations

import statistics
import threading
import time
from contextlib import ExitStack
from typing import Any

from bench.harness import hls, paths
from bench.harness.clients import Publishers, Viewers
from bench.harness.measures import owned, running
from bench.harness.procs import BenchError
from bench.harness.servers import Server

Row = dict[str, Any]
WARM = 120.0  # seconds until the playlists' windows are full and the allocator has settled
JUDGED_FROM = 300.0  # a shorter run says nothing of memory
SAMPLE = 5.0


class PlaylistWatcher(threading.Thread):
    """Reads a live playlist every second: MEDIA-SEQUENCE must never go back while its publisher comes and goes."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url, self._end = url, threading.Event()
        self.answers = self.misses = self.backwards = 0

    def run(self) -> None:
        newest = -1
        connection = hls.Connection(self._url)
        playlist = self._url
        while not self._end.wait(1):
            try:
                if playlist == self._url:
                    playlist = hls.media_playlist(connection, self._url, 5)
                msn = hls.edge(connection.get(playlist).decode(), playlist).msn
            except BenchError:
                self.misses += 1  # between two pushes there may be no playlist
                connection = hls.Connection(self._url)
                playlist = self._url
                continue
            self.answers += 1
            self.backwards += msn < newest
            newest = max(newest, msn)

    def stop(self) -> None:
        self._end.set()
        self.join(20)


def soak(server: Server, minutes: float, publishers: int, viewers: int) -> Row:
    """Runs for `minutes`; the row says how memory moved and what went wrong, "ok" whether nothing did.

    Memory is judged by its medians, in runs of five minutes and more: the last quarter of the run against the first
    quarter after warming up; 10 % and 10 MB are let pass.
    """
    seconds = int(minutes * 60)
    shares = {"flv": viewers // 2, "ws": viewers // 4, "rtmp": viewers // 4}
    samples: list[tuple[float, int]] = []
    cut_every = 40
    with ExitStack() as stack:
        urls = stack.enter_context(running(server, publishers, packaged=True))
        push = stack.enter_context(owned(Publishers(urls.push, file=paths.SMALL_STREAM, cut_every=cut_every)))
        loads = {
            proto: stack.enter_context(
                owned(Viewers(urls.play(proto), n, seconds, "-x", 20, "-z", max(1, n // 10), "-p", 2, warm=1))
            )
            for proto, n in shares.items()
            if n and urls.play(proto)
        }
        watchers = [PlaylistWatcher(u) for u in (*urls.hls[:1], *urls.llhls[:1])]
        for w in watchers:
            w.start()
        begin = time.monotonic()
        cpu = server.usage().cpu
        while (at := time.monotonic() - begin) < seconds:
            samples.append((at, server.usage().rss))
            if len(samples) % 12 == 1:
                print(f"  {at / 60:5.1f} min  RSS {samples[-1][1] / 1e6:7.1f} MB", flush=True)
            time.sleep(min(SAMPLE, seconds - at))
        cpu = server.usage().cpu - cpu
        for w in watchers:
            w.stop()
        seen = {proto: load.until({}) for proto, load in loads.items()}
        pushed = push.finish()
    settled = [s for s in samples if s[0] >= min(WARM, seconds / 4)]
    quarter = max(1, len(settled) // 4)
    first = statistics.median(r for _, r in settled[:quarter])
    last = statistics.median(r for _, r in settled[-quarter:])
    row: Row = {
        "minutes": minutes,
        "publishers": publishers,
        "viewers": sum(x["viewers"] for x in seen.values()),
        "rss_first_mb": round(first / 1e6, 1),
        "rss_last_mb": round(last / 1e6, 1),
        "rss_max_mb": round(max(r for _, r in samples) / 1e6, 1),
        "cpu_pct": round(100 * cpu / seconds, 1),
        "publisher_cuts": pushed["cuts"],
        "publishers_lost": pushed["lost"],
        "publishers_refused": pushed["refused"],
        "viewers_rejoined": sum(x["rejoined"] for x in seen.values()),
        "viewers_refused": sum(x["refused"] for x in seen.values()),
        "viewers_closed": sum(x["closed_early"] for x in seen.values()),
        "stalled_closed": sum(x["stalled_closed"] for x in seen.values()),
        "bytes": sum(x["bytes"] for x in seen.values()),
        "playlist_answers": sum(w.answers for w in watchers),
        "playlist_misses": sum(w.misses for w in watchers),
        "sequence_went_back": sum(w.backwards for w in watchers),
    }
    faults = {
        "memory grows": seconds >= JUDGED_FROM and last > first + max(10e6, 0.1 * first),
        "publishers were refused": pushed["refused"] > 0,
        "publishers were cut off": pushed["lost"] > 0,
        "viewers were refused": row["viewers_refused"] > 0,
        "viewers were closed": row["viewers_closed"] > 0,
        "a media sequence went back": row["sequence_went_back"] > 0,
        "nothing was delivered": any(not x["bytes"] for x in seen.values()),
    }
    return row | {"faults": [k for k, bad in faults.items() if bad], "ok": not any(faults.values())}
