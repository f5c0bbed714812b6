"""What is measured: one function per kind of row, each starting its server, loading it, and stopping it."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import hls, paths
from bench.harness.clients import Askers, Client, Publishers, Viewers
from bench.harness.procs import BenchError, Usage, machine_cpu, usage
from bench.harness.servers import Server, Urls

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chooses; lengths in seconds."""

    viewers: int = 1000
    publishers: int = 50
    joiners: int = 200
    stalled: int = 20
    seconds: int = 20
    rate: int = 100
    warm: int = 4
    probes: int = 10
    chunk: int = 4096
    file: Path = paths.STREAM


class Window:
    """CPU and memory of a server between a load client's MEASURE_START and MEASURE_END."""

    def __init__(self, server: Server, *others: int) -> None:
        self._server, self._others = server, others
        self.before = self.after = Usage(0, 0, 0, 0)
        self._machine = self._clients = 0.0

    def open(self) -> None:
        self.before = self._server.usage()
        self._machine, self._clients = machine_cpu(), sum(usage(p).cpu for p in self._others)

    def close(self) -> None:
        self.after = self._server.usage()
        self._machine = machine_cpu() - self._machine
        self._clients = sum(usage(p).cpu for p in self._others) - self._clients

    @property
    def events(self) -> dict[str, Callable[[], None]]:
        return {"MEASURE_START": self.open, "MEASURE_END": self.close}

    @property
    def cpu(self) -> float:
        return self.after.cpu - self.before.cpu

    def other_cpu(self, seconds: float, client_cpu: float = 0) -> float:
        """Percent of one core that everything but this measurement used: a busy machine shows here."""
        return round(100 * max(0.0, self._machine - self.cpu - self._clients - client_cpu) / seconds, 1)


@contextmanager
def running(server: Server, n: int, *, packaged: bool = False) -> Iterator[Urls]:
    """The server with n streams prepared; stopped at the end, whatever happens."""
    try:
        server.start(packaged=packaged)
        yield server.streams(n, packaged=packaged)
    finally:
        server.stop()


@contextmanager
def owned(client: Client) -> Iterator[Any]:
    """A load client that is stopped at the end, whatever happens."""
    try:
        yield client
    finally:
        client.stop()


def settle(server: Server, seconds: float) -> Usage:
    """Waits, then reads: a whole GOP is in the caches and the allocations of the start are over."""
    time.sleep(seconds)
    return server.usage()


def view(server: Server, proto: str, o: Options) -> Row:
    """CPU per GB delivered, latency, joining and memory of N viewers of one stream."""
    with running(server, 1) as urls, owned(Publishers(urls.push, file=o.file)) as push:
        quiet = settle(server, 5)
        window = Window(server, push.process.pid)
        with owned(Viewers(urls.play(proto), o.viewers, o.seconds, "-p", o.probes, rate=o.rate, warm=o.warm)) as load:
            seen = load.until(window.events)
        if not seen["bytes"]:
            raise BenchError(f"{server.label}: nothing arrived ({seen['status'] or 'no answer'})")
        pushed = push.finish()
    gb, seconds = seen["bytes"] / 1e9, seen["seconds"]
    return {
        "viewers": o.viewers,
        "connected": seen["connected"],
        "lost": seen["connect_errors"] + seen["refused"] + seen["closed_early"],
        "cpu_s_per_gb": round(window.cpu / gb, 3),
        "user_s_per_gb": round((window.after.user - window.before.user) / gb, 3),
        "cpu_pct": round(100 * window.cpu / seconds, 1),
        "latency_p50_ms": seen["latency_ms"]["p50"],
        "latency_p99_ms": seen["latency_ms"]["p99"],
        "join_p50_ms": seen["key_frame_ms"]["p50"],
        "join_p99_ms": seen["key_frame_ms"]["p99"],
        "rss_kb_per_viewer": round((window.after.rss - quiet.rss) / 1e3 / max(1, seen["connected"]), 1),
        "viewer_mbps": round(seen["viewer_bytes"]["median"] * 8e-6 / seconds, 2),
        "slow_viewers": seen["slow_viewers"],
        "reads_per_viewer_s": seen["reads_per_viewer_s"],
        "push_late_ms": pushed["late_max_ms"],
        "client_cpu_pct": round(100 * seen["client_cpu_s"] / seconds, 1),
        "other_cpu_pct": window.other_cpu(seconds, seen["client_cpu_s"]),
    }


def join(server: Server, proto: str, o: Options) -> Row:
    """Time from connect to the first byte of a key frame, of viewers that join a stream with N of them.

    They have a client of their own: in the crowd's they would wait until it has read a batch of all N.
    """
    with running(server, 1) as urls, owned(Publishers(urls.push)):
        settle(server, 5)
        needed = o.viewers / o.rate + o.joiners / o.rate + 15
        crowd = Viewers(urls.play(proto), o.viewers, round(needed), "-p", 0, rate=o.rate)
        with owned(crowd):
            settle(server, o.viewers / o.rate + 3)
            with owned(Viewers(urls.play(proto), o.joiners, 3, "-p", 0, rate=o.rate, warm=2)) as load:
                seen = load.until({})
    key, first = seen["key_frame_ms"], seen["first_byte_ms"]
    if not key["n"]:
        raise BenchError(f"{server.label}: no viewer saw a key frame ({seen['status'] or 'no answer'})")
    return {
        "viewers": o.viewers,
        "joined": key["n"],
        "of": o.joiners,
        "key_frame_p50_ms": key["p50"],
        "key_frame_p99_ms": key["p99"],
        "key_frame_max_ms": key["max"],
        "first_byte_p50_ms": first["p50"],
        "first_byte_p99_ms": first["p99"],
        "lost": seen["connect_errors"] + seen["refused"] + seen["closed_early"],
    }


def ingest(server: Server, packaged: bool, o: Options) -> Row:
    """CPU and memory of M publishers whom nobody watches; packaged: HLS (and CMAF, where a server has it) written."""
    with running(server, o.publishers, packaged=packaged) as urls:
        idle = settle(server, 2)
        with owned(Publishers(urls.push, file=o.file, chunk=o.chunk)) as push:
            settle(server, 12 if packaged else 6)
            window = Window(server, push.process.pid)
            window.open()
            begin = time.monotonic()
            time.sleep(o.seconds)
            window.close()
            seconds = time.monotonic() - begin
            pushed = push.finish()
    return {
        "publishers": o.publishers,
        "live_at_end": pushed["live"],
        "chunk": o.chunk,
        "cpu_s_per_publisher_minute": round(window.cpu / seconds * 60 / o.publishers, 4),
        "cpu_pct": round(100 * window.cpu / seconds, 1),
        "rss_kb_per_publisher": round((window.after.rss - idle.rss) / 1e3 / o.publishers),
        "unsent": pushed["unsent"],
        "push_late_ms": pushed["late_max_ms"],
        "other_cpu_pct": window.other_cpu(seconds),
    }


def _serve(server: Server, what: str, url: str, o: Options) -> Row:
    window = Window(server)
    with owned(Askers(url, o.seconds)) as load:
        seen = load.until(window.events)
    if not seen["answers"] or seen["not_200"]:
        raise BenchError(f"{server.label}: {seen['answers']} answers, {seen['not_200']} of them not 200 ({url})")
    return {
        "what": what,
        "body_bytes": seen["body_bytes"],
        "cpu_us_per_request": round(window.cpu * 1e6 / seen["answers"], 1),
        "requests_per_cpu_s": round(seen["answers"] / window.cpu) if window.cpu else None,
        "requests_per_s": round(seen["answers"] / seen["seconds"]),
        "cpu_s_per_gb": round(window.cpu / (seen["bytes"] / 1e9), 3),
        "p50_ms": seen["answer_ms"]["p50"],
        "p99_ms": seen["answer_ms"]["p99"],
        "errors": seen["errors"],
        "other_cpu_pct": window.other_cpu(seen["seconds"], seen["client_cpu_s"]),
    }


def serve_hls(server: Server, o: Options) -> list[Row]:
    """CPU per playlist request and 100 kB segments per CPU-second, TS and (where there is CMAF) fragments."""
    rows = []
    with running(server, 1, packaged=True) as urls, owned(Publishers(urls.push, file=paths.SMALL_STREAM)):
        for kind, starts in (("TS", urls.hls), ("CMAF", urls.llhls)):
            if not starts:
                continue
            connection = hls.Connection(starts[0])
            playlist = hls.media_playlist(connection, starts[0])
            text = connection.get(playlist).decode()
            rows.append(_serve(server, f"{kind} playlist", playlist, o))
            newest = hls.segments(connection.get(playlist).decode(), playlist)[-1]
            rows.append(_serve(server, f"{kind} segment", newest, o))
            rows[-2]["lines"] = text.count("\n")
            connection.close()
    return rows


def low_latency(server: Server, o: Options) -> Row:
    """How soon after its last frame a low-latency part is listed by a blocking reload, and fetched."""
    with running(server, 1, packaged=True) as urls, owned(Publishers(urls.push)):
        parts = hls.part_delays(urls.llhls[0], o.seconds)
    listed, fetched = [p.listed for p in parts], [p.fetched for p in parts]
    return {
        "parts": len(parts),
        "part_bytes": round(statistics.mean(p.size for p in parts)),
        "part_frames": round(statistics.mean(p.frames for p in parts), 1),
        "listed_p50_ms": round(hls.percentile(listed, 0.5), 1),
        "listed_p99_ms": round(hls.percentile(listed, 0.99), 1),
        "fetched_p50_ms": round(hls.percentile(fetched, 0.5), 1),
        "fetched_p99_ms": round(hls.percentile(fetched, 0.99), 1),
        "fetched_max_ms": round(max(fetched), 1),
    }


class Peak(threading.Thread):
    """The greatest resident memory of a server, sampled twice a second until it is left."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server, self._done = server, threading.Event()
        self.rss = server.usage().rss

    def run(self) -> None:
        while not self._done.wait(0.5):
            try:
                self.rss = max(self.rss, self._server.usage().rss)
            except BenchError:  # it has ended: the measurement itself will say so
                return

    def __enter__(self) -> Peak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()


def gop_bytes(file: Path) -> float:
    """The mean size of a GOP of an FLV file (the part of a publisher's memory that is its cache)."""
    data = file.read_bytes()
    at, keys = 13, 0
    while at + 11 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4])
        keys += data[at] == 9 and data[at + 11] >> 4 == 1 and data[at + 12] == 1
        at += 11 + size + 4
    return len(data) / max(1, keys)


def memory(server: Server, o: Options) -> list[Row]:
    """Resident memory: idle, per publisher beside its GOP cache, per FLV viewer, per viewer that stopped reading."""
    rows: list[Row] = []
    with running(server, o.publishers) as urls:
        idle = settle(server, 3)
        rows.append({"what": "idle process", "kb": round(idle.rss / 1e3), "processes": idle.processes})
        with owned(Publishers(urls.push, chunk=o.chunk)):
            loaded = settle(server, 10)
        each = (loaded.rss - idle.rss) / o.publishers
        gop = gop_bytes(paths.STREAM) if server.keeps_gop else 0
        beside = {"with_gop_kb": round(each / 1e3), "gop_kb": round(gop / 1e3), "publishers": o.publishers}
        rows.append({"what": "publisher beside the GOP cache", "kb": round((each - gop) / 1e3), **beside})
    proto = "flv" if "flv" in server.serves else "rtmp"
    again = server.again()
    with running(again, 1) as urls, owned(Publishers(urls.push)):
        quiet = settle(again, 6)
        window = Window(again)
        with owned(Viewers(urls.play(proto), o.viewers, o.seconds, "-p", 0, rate=o.rate, warm=o.warm)) as load:
            seen = load.until(window.events)
        each = (window.after.rss - quiet.rss) / max(1, seen["connected"])
        rows.append({"what": f"viewer ({proto})", "kb": round(each / 1e3, 1), "viewers": seen["connected"]})
    last = server.again()
    with running(last, 1) as urls, owned(Publishers(urls.push)):
        settle(last, 5)
        n, window = 100 + o.stalled, Window(last)
        stalling = ("-p", 0, "-z", o.stalled)
        with owned(Viewers(urls.play(proto), n, 45, *stalling, rate=o.rate, warm=6)) as load, Peak(last) as peak:
            seen = load.until(window.events)
        growth = (peak.rss - window.before.rss) / max(1, o.stalled)
        row = {"what": "stalled viewer, 45 s", "kb": round(growth / 1e3), "stalled": o.stalled}
        rows.append(row | {"closed_by_server": seen["stalled_closed"], "others_lost": seen["closed_early"]})
    return rows


def start_time(server: Server, times: int = 5) -> Row:
    """Seconds from the start of the process until it is ready (peers: until they take connections)."""
    taken = []
    for _ in range(times):
        try:
            taken.append(server.start(packaged=False))
        finally:
            server.stop()
        server = server.again()
    server.stop()
    return {"ready_p50_s": round(statistics.median(taken), 3), "ready_max_s": round(max(taken), 3), "times": times}
