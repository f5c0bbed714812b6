"""What an edge costs and adds: a gateway and an edge on this machine, one registry, loopback only.

    bench_edge latency            viewers at the gateway and at the edge, in the same seconds: what the edge adds
    bench_edge cost -n 1000       FLV viewers of one stream at the edge: upstream connections, CPU-s per GB, beside
                                     the same viewers at the gateway itself
    bench_edge collapse -n 1000   the same new segment, and the same blocking playlist, asked 1,000 times at once
    bench_edge herd -n 5000       joins within a second on an edge that has not pulled anything yet
    bench_edge pulls -m 30        what each pull costs either side
    bench_edge relay -m 20        what each file fetched from a holder costs the edge
    bench_edge all --rounds 3

--far gateway measures a second gateway in the edge's place. Rows are appended to build/bench/edge.jsonl.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bench.harness import clients, hls, paths, report
from bench.harness.burst import burst
from bench.harness.clients import Publishers, Viewers
from bench.harness.limits import set_limits
from bench.harness.measures import Row, Window, owned, running, settle
from bench.harness.nodes import FAR, Nodes
from bench.harness.procs import BenchError, Usage
from bench.harness.servers import Gateway, Server

RESULTS = paths.BUILD / "edge.jsonl"


def latency(a: argparse.Namespace) -> list[Row]:
    """The same source, the same seconds, viewers at both."""
    nodes, seen = Nodes(a.far), {}
    with nodes.running(1) as urls, owned(Publishers(urls.push)):
        settle(nodes.far, 4)

        def watch(name: str, address: list[str]) -> None:
            with owned(Viewers(address, a.few, a.seconds, "-p", a.few, rate=100)) as load:
                seen[name] = load.until({})["latency_ms"]

        both = [
            threading.Thread(target=watch, args=x) for x in (("gateway", urls.flv), ("far", nodes.at_far(urls.flv)))
        ]
        for one in both:
            one.start()
        for one in both:
            one.join()
    if len(seen) < 2:
        raise BenchError("one of the two had no viewers")
    row: Row = {"viewers_each": a.few}
    for p in ("p50", "p99"):
        row |= {f"gateway_{p}_ms": seen["gateway"][p], f"edge_{p}_ms": seen["far"][p]}
        row[f"added_{p}_ms"] = round(seen["far"][p] - seen["gateway"][p], 1)
    return [row]


def cost(a: argparse.Namespace) -> list[Row]:
    """N viewers at the edge, then N at a gateway alone."""
    nodes = Nodes(a.far)
    with nodes.running(1) as urls, owned(Publishers(urls.push)) as push:
        settle(nodes.far, 5)
        row, upstream = _watched(nodes.far, nodes.at_far(urls.flv), a, push.process.pid, nodes)
        row |= {"upstream": max(upstream), "holder_cpu_s_per_gb": row.pop("holder")}
    alone = Gateway()
    with running(alone, 1) as urls, owned(Publishers(urls.push)) as push:
        settle(alone, 5)
        beside, _ = _watched(alone, urls.flv, a, push.process.pid, None)
    return [{"where": a.far, **row}, {"where": "gateway alone", **beside}]


def _watched(
    server: Server, urls: list[str], a: argparse.Namespace, push: int, nodes: Nodes | None
) -> tuple[Row, list[int]]:
    window, upstream, holder = Window(server, push), [0], [Usage(0, 0, 0, 0)] * 2

    def opened() -> None:
        window.open()
        if nodes is not None:
            upstream.append(nodes.upstream())
            holder[0] = nodes.holder.usage()

    def closed() -> None:
        window.close()
        if nodes is not None:
            upstream.append(nodes.upstream())
            holder[1] = nodes.holder.usage()

    with owned(Viewers(urls, a.viewers, a.seconds, rate=200)) as load:
        seen = load.until({"MEASURE_START": opened, "MEASURE_END": closed})
    if not seen["bytes"]:
        raise BenchError(f"{server.label}: nothing arrived ({seen['status'] or 'no answer'})")
    gb = seen["bytes"] / 1e9
    row = {
        "viewers": a.viewers,
        "lost": seen["connect_errors"] + seen["refused"] + seen["closed_early"],
        "cpu_s_per_gb": round(window.cpu / gb, 3),
        "cpu_pct": round(100 * window.cpu / seen["seconds"], 1),
        "latency_p50_ms": seen["latency_ms"]["p50"],
        "latency_p99_ms": seen["latency_ms"]["p99"],
        "slow_viewers": seen["slow_viewers"],
        "other_cpu_pct": window.other_cpu(seen["seconds"], seen["client_cpu_s"]),
    }
    if nodes is not None:
        row["holder"] = round((holder[1].cpu - holder[0].cpu) / gb, 4)
    return row, upstream


def collapse(a: argparse.Namespace) -> list[Row]:
    """Many at once; the tap between edge and gateway counts what the edge asks."""
    nodes, rows = Nodes(a.far), []
    with nodes.running(1, packaged=True, tapped=True) as urls, owned(Publishers(urls.push)):
        settle(nodes.far, 8)
        tap, here = nodes.tap, hls.Connection(urls.hls[0])
        assert tap is not None, "it was asked for"
        playlist = hls.media_playlist(here, urls.hls[0])
        hls.media_playlist(hls.Connection(nodes.at_far(urls.hls)[0]), nodes.at_far(urls.hls)[0])
        for _ in range(a.times):
            old = hls.segments(here.get(playlist).decode(), playlist)
            while (now := hls.segments(here.get(playlist).decode(), playlist)) == old:
                time.sleep(0.02)
            rows.append(_collapsed("new segment", nodes.at_far([now[-1]])[0], a.viewers, nodes))
            media = hls.media_playlist(here, urls.llhls[0])
            at = hls.edge(here.get(media).decode(), media)
            wanted = f"{nodes.at_far([media])[0]}?_HLS_msn={at.msn}&_HLS_part={at.part + 1}"
            rows.append(_collapsed("blocking playlist", wanted, a.viewers, nodes))
        rows.append(_pulled_once(nodes, urls.flv, a))
    return rows


def _pulled_once(nodes: Nodes, flv: list[str], a: argparse.Namespace) -> Row:
    """N viewers of one stream by FLV."""
    assert nodes.tap is not None, "it was asked for"
    with owned(Viewers(nodes.at_far(flv), a.viewers, 5, "-p", 0, rate=1000)) as load:
        seen = load.until({})
    stream = urlsplit(flv[0]).path.split("/")[1]
    return {
        "what": "FLV viewers",
        "asked": seen["connected"],
        "upstream": nodes.tap.asked[f"/_node/{stream}"],
        "bodies": None,
        "p50_ms": seen["key_frame_ms"]["p50"],
        "p99_ms": seen["key_frame_ms"]["p99"],
    }


def _collapsed(what: str, url: str, n: int, nodes: Nodes) -> Row:
    assert nodes.tap is not None, "it was asked for"
    u = urlsplit(url)
    before = nodes.tap.asked.copy()
    got = burst(url, n)
    new = nodes.tap.asked - before
    asked = sum(times for target, times in new.items() if _same(target, u.path, u.query))
    if set(got.statuses) != {200}:
        raise BenchError(f"{what}: {dict(got.statuses)} ({url})")
    return {
        "what": what,
        "asked": n,
        "upstream": asked,
        "bodies": got.bodies,
        "p50_ms": round(hls.percentile(got.milliseconds, 0.5), 1),
        "p99_ms": round(hls.percentile(got.milliseconds, 0.99), 1),
    }


def _same(target: str, path: str, query: str) -> bool:
    """Whether an upstream request is for this file and the same delivery directives."""
    there, _, asked = target.partition("?")
    return there.endswith(path) and all(part in asked.split("&") for part in query.split("&") if part)


def herd(a: argparse.Namespace) -> list[Row]:
    """Everybody at once on a cold edge: who gets pictures, how late, and what a join costs."""
    nodes = Nodes(a.far)
    stream = paths.STREAM if a.large else paths.SMALL_STREAM
    with nodes.running(1) as urls, owned(Publishers(urls.push, file=stream)):
        settle(nodes.far, 6)
        before, ramped = nodes.far.usage(), [Usage(0, 0, 0, 0)]
        n = a.herd
        with owned(Viewers(nodes.at_far(urls.flv), n, 3, "-p", 0, rate=n, warm=5)) as load:
            seen = load.until({"RAMPED": lambda: ramped.__setitem__(0, nodes.far.usage())})
        upstream = nodes.upstream()
        after = nodes.far.usage()
    key = seen["key_frame_ms"]
    return [
        {
            "joins": n,
            "stream": stream.stem,
            "pictures": key["n"],
            "lost": seen["connect_errors"] + seen["refused"] + seen["closed_early"],
            "key_frame_p50_ms": key["p50"],
            "key_frame_p99_ms": key["p99"],
            "key_frame_max_ms": key["max"],
            "cpu_ms_per_join": round((ramped[0].cpu - before.cpu) / n * 1e3, 3),
            "rss_kb_per_viewer": round((after.rss - before.rss) / 1e3 / n, 1),
            "upstream": upstream,
        }
    ]


def pulls(a: argparse.Namespace) -> list[Row]:
    """M streams with one viewer each: at the edge, at the gateway, nowhere. What differs is the pull."""
    nodes, m = Nodes(a.far), a.publishers
    with nodes.running(m) as urls, owned(Publishers(urls.push)):
        settle(nodes.far, 8)

        def spent() -> tuple[float, float]:
            x = _spent(nodes, lambda: time.sleep(a.seconds))
            return x.holder / x.seconds, x.far / x.seconds

        def with_viewers(address: list[str]) -> tuple[float, float]:
            seen: list[tuple[float, float]] = []
            with owned(Viewers(address, m, a.seconds + 2, "-p", 0)) as load:
                load.until({"MEASURE_START": lambda: seen.append(spent())})
            if not seen:
                raise BenchError("the viewers did not come")
            return seen[0]

        nobody = spent()
        at_holder = with_viewers(urls.flv)
        time.sleep(8)  # until nothing is pulled any more
        at_far = with_viewers(nodes.at_far(urls.flv))
    viewer = (at_holder[0] - nobody[0]) / m
    return [
        {
            "streams": m,
            "viewer_cores": round(viewer, 5),
            "pull_out_cores": round((at_far[0] - nobody[0]) / m, 5),
            "pull_in_cores": round((at_far[1] - nobody[1]) / m - viewer, 5),
        }
    ]


def relay(a: argparse.Namespace) -> list[Row]:
    """What a file costs that the edge has to fetch: segments, asked once and then from memory; and what low-latency
    players ask, each file once."""
    nodes, m = Nodes(a.far), a.publishers
    with nodes.running(m, packaged=True) as urls, owned(Publishers(urls.push, file=paths.SMALL_STREAM)):
        settle(nodes.far, 16)
        here = hls.Connection(urls.hls[0])
        files = [s for url in urls.hls for s in hls.segments(here.get(hls.media_playlist(here, url)).decode(), url)]
        targets = [urlsplit(file).path for file in nodes.at_far(files)]
        port = nodes.far.ports["http"] or 0
        _ask(port, [urlsplit(url).path for url in nodes.at_far(urls.hls)])  # where each stream is, is known by now
        quiet = _spent(nodes, lambda: time.sleep(a.seconds))
        size = 0

        def cold() -> None:
            nonlocal size
            size = _ask(port, targets)

        first = _spent(nodes, cold)
        warm = _spent(nodes, lambda: _ask(port, targets * 10))
        asked = 0

        def follow() -> None:
            nonlocal asked
            asked = _follow([nodes.at_far([url])[0] for url in urls.llhls], a.seconds)

        low = _spent(nodes, follow)
    idle_far, idle_holder = quiet.far / quiet.seconds, quiet.holder / quiet.seconds
    far = (first.far - idle_far * first.seconds) / len(targets)
    memory = (warm.far - idle_far * warm.seconds) / len(targets) / 10
    holder = (first.holder - idle_holder * first.seconds) / len(targets)
    low_far, low_holder = (
        (x - idle * low.seconds) / asked for x, idle in ((low.far, idle_far), (low.holder, idle_holder))
    )
    return [
        {
            "what": "segments",
            "files": len(targets),
            "mean_bytes": round(size / len(targets)),
            "edge_us": round(far * 1e6),
            "edge_us_from_memory": round(memory * 1e6),
            "holder_us": round(holder * 1e6),
        },
        {
            "what": "low latency: playlists and parts",
            "files": asked,
            "mean_bytes": None,
            "edge_us": round(low_far * 1e6),
            "edge_us_from_memory": None,
            "holder_us": round(low_holder * 1e6),
        },
    ]


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds of both nodes while something was done, and how long it took."""

    holder: float
    far: float
    seconds: float


def _spent(nodes: Nodes, act: Callable[[], object]) -> Spent:
    holder, far, began = nodes.holder.usage().cpu, nodes.far.usage().cpu, time.monotonic()
    act()
    took = time.monotonic() - began
    return Spent(nodes.holder.usage().cpu - holder, nodes.far.usage().cpu - far, took)


def _follow(masters: list[str], seconds: float) -> int:
    """A low-latency player of each stream's picture: a blocking reload, the part, and so on; returns the requests."""
    counts = [0] * len(masters)

    def one(k: int) -> None:
        control, media = hls.Connection(masters[k]), hls.Connection(masters[k])
        url = hls.media_playlist(control, masters[k])
        at, end = hls.edge(control.get(url).decode(), url), time.monotonic() + seconds
        while time.monotonic() < end:
            at = hls.edge(control.get(f"{url}?_HLS_msn={at.msn}&_HLS_part={at.part}").decode(), url)
            if at.newest is not None:
                media.get(at.newest)
            counts[k] += 2

    threads = [threading.Thread(target=one, args=(k,)) for k in range(len(masters))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


def _ask(port: int, targets: list[str], connections: int = 8) -> int:
    """Asks for all of them, over a few connections at once; returns the bytes that came."""
    sizes: list[int] = []
    failed: list[str] = []

    def some(mine: list[str]) -> None:
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for target in mine:
            c.request("GET", target)
            answer = c.getresponse()
            body = answer.read()
            sizes.append(len(body))
            if answer.status != 200:
                failed.append(f"{target} answered {answer.status}: {body[:80]!r}")
        c.close()

    threads = [threading.Thread(target=some, args=(targets[k::connections],)) for k in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise BenchError(failed[0])
    return sum(sizes)


KINDS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "latency": latency,
    "cost": cost,
    "collapse": collapse,
    "herd": herd,
    "pulls": pulls,
    "relay": relay,
}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=[*KINDS, "all"])
    p.add_argument("-n", "--viewers", type=int, default=1000, help="cost, collapse")
    p.add_argument("--few", type=int, default=50, help="latency: viewers at each")
    p.add_argument("--herd", type=int, default=5000, help="herd: joins")
    p.add_argument("--large", action="store_true", help="herd: the 2.5 Mbit/s stream instead of the small one")
    p.add_argument("-m", "--publishers", type=int, default=30, help="pulls, relay")
    p.add_argument("-t", "--seconds", type=int, default=15, help="the measured window")
    p.add_argument("--times", type=int, default=3, help="collapse: how often")
    p.add_argument("--far", choices=list(FAR), default="edge", help="what plays the streams")
    p.add_argument("--rounds", type=int, default=1, help="repeat; the table shows medians")
    p.add_argument("--limit", type=int, default=3600, help="seconds after which the whole run is given up")
    return p.parse_args(argv)


def table(kind: str, rows: list[Row]) -> str:
    """Markdown: one kind's rows, those that measured the same thing as their medians."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault((row.get("where"), row.get("what")), []).append(row)
    heads = list(rows[0])
    lines = [f"\n### {kind} (medians of {max(len(g) for g in groups.values())})\n"]
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for group in groups.values():
        middle = {k: _middle([r.get(k) for r in group]) for k in heads}
        lines.append("| " + " | ".join("" if middle[k] is None else str(middle[k]) for k in heads) + " |")
    return "\n".join(lines)


def _middle(values: list[Any]) -> Any:
    numbers = [v for v in values if isinstance(v, int | float)]
    return round(statistics.median(numbers), 5) if numbers else values[0]


def main() -> int:
    """Runs one kind or all; 0 fine, 1 something failed, 2 a missing tool."""
    a = arguments()
    set_limits(a.limit)
    found: dict[str, list[Row]] = {}
    failed = 0
    try:
        clients.build()
        for _ in range(a.rounds):
            for kind in KINDS if a.what == "all" else [a.what]:
                try:
                    rows = KINDS[kind](a)
                except BenchError as e:
                    print(f"{kind}: {e}", file=sys.stderr, flush=True)
                    failed = 1
                    continue
                for row in rows:
                    found.setdefault(kind, []).append(row)
                    report.save(RESULTS, kind, a.far, row)
                    print(kind, json.dumps(row), flush=True)
    except (BenchError, OSError) as e:
        print(f"bench_edge: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    for kind, rows in found.items():
        print(table(kind, rows))
    return failed


if __name__ == "__main__":
    sys.exit(main())
