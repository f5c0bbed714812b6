"""The gateway's load bench: figures of the README, side by side with peers in the same run. Loopback only.

    bench flv -n 1000,2000 --flush-ms 50,200 --peers nms,srs     CPU per GB, latency, joining, memory of viewers
    bench ws|rtmp -n 1000 --peers nms                            the same over WS-FLV and RTMP
    bench join -n 1000                                           first key frame of viewers that come to a full house
    bench ingest|ingest-packaged -m 50 --peers nginx-rtmp        CPU and memory per publisher
    bench hls | llhls | memory | start                           playlists and segments, parts, resident memory
    bench all --rounds 3                                         every row of the README, interleaved
    bench soak --minutes 10                                      cuts, churn and stalls: does memory stand still?
    bench table [FILE]                                           shows saved rows again

Servers: millrace[:FLUSH MS], floor[:FLUSH MS] (floor.c: what C and the kernel cost), nms (node-media-server, from npm
on first use), nginx-rtmp (Debian), srs[:MERGE MS] (an executable named by $BENCH_SRS). Rounds go A B A B, so that a
machine whose speed drifts treats all alike; the table shows medians. Rows are appended to build/bench/results.jsonl.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.harness import clients, measures, paths, report
from bench.harness.limits import set_limits
from bench.harness.measures import Options
from bench.harness.procs import BenchError
from bench.harness.servers import Gateway, Server, find
from bench.harness.soak import soak

KINDS: dict[str, tuple[str, Callable[[Server, Options], report.Row | list[report.Row]]]] = {
    # kind: (what a server must serve, how it is measured)
    "flv": ("flv", lambda s, o: measures.view(s, "flv", o)),
    "ws": ("ws", lambda s, o: measures.view(s, "ws", o)),
    "rtmp": ("rtmp", lambda s, o: measures.view(s, "rtmp", o)),
    "join": ("flv", lambda s, o: measures.join(s, "flv", o)),
    "ingest": ("ingest", lambda s, o: measures.ingest(s, False, o)),
    "ingest-packaged": ("packaged", lambda s, o: measures.ingest(s, True, o)),
    "hls": ("hls", measures.serve_hls),
    "llhls": ("llhls", measures.low_latency),
    "memory": ("start", measures.memory),
    "start": ("start", lambda s, _: measures.start_time(s)),
}
PER_VIEWER_COUNT = ("flv", "ws", "rtmp", "join")
PER_FLUSH = ("flv", "ws", "rtmp")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    layout = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser("python -m bench", description=__doc__, formatter_class=layout)
    p.add_argument("what", choices=[*KINDS, "all", "soak", "table"])
    p.add_argument("file", nargs="?", type=Path, default=paths.RESULTS, help="table: the JSON lines to show")
    p.add_argument("-n", "--viewers", default="1000", help="viewers; several: 1000,2000")
    p.add_argument("-m", "--publishers", type=int, default=50)
    p.add_argument("-j", "--joiners", type=int, default=200, help="join: how many come to a house of -n")
    p.add_argument("-z", "--stalled", type=int, default=20, help="memory: viewers that stop reading")
    p.add_argument("-t", "--seconds", type=int, default=20, help="the measured window")
    p.add_argument("-r", "--rate", type=int, default=100, help="new viewers a second")
    p.add_argument("-c", "--chunk", type=int, default=4096, help="chunk size of the publishers")
    p.add_argument("--flush-ms", default="50", help="flush bounds of the gateway to measure viewers at: 50,200")
    p.add_argument("--rounds", type=int, default=1, help="repeat, interleaving the servers; tables show medians")
    p.add_argument("--peers", default="", help="floor,nms,nginx-rtmp,srs,srs:50 (those that do what is measured)")
    p.add_argument("--no-gateway", action="store_true", help="only the peers")
    p.add_argument("--minutes", type=float, default=10, help="soak: how long")
    p.add_argument("--limit", type=int, default=7200, help="seconds after which the whole run is given up")
    p.add_argument("--build-only", action="store_true", help="build the clients, install the peers, measure nothing")
    return p.parse_args(argv)


def competitors(kind: str, a: argparse.Namespace) -> list[str]:
    """The servers that take part in one kind of measurement, the gateway first."""
    ours = [] if a.no_gateway else ["millrace"]
    if kind in PER_FLUSH and ours:
        ours = [f"millrace:{x}" for x in a.flush_ms.split(",")]
    peers = [x for x in a.peers.split(",") if x]
    return [x for x in ours + peers if KINDS[kind][0] in find(x)[0].serves]


def plan(a: argparse.Namespace) -> Iterator[tuple[str, str, Options]]:
    """(kind, server, options) of every row, in the order in which they are measured."""
    counts = [int(x) for x in a.viewers.split(",")]
    for kind in KINDS if a.what == "all" else [a.what]:
        for n in counts if kind in PER_VIEWER_COUNT else counts[:1]:
            o = Options(n, a.publishers, a.joiners, a.stalled, a.seconds, a.rate, chunk=a.chunk)
            for _ in range(a.rounds):
                yield from ((kind, server, o) for server in competitors(kind, a))


def measure(a: argparse.Namespace) -> int:
    """Measures the plan row by row; a server that fails costs its own row only. Returns the exit status."""
    rows, failed = [], 0
    everything = list(plan(a))
    missing: set[str] = set()
    for spec in dict.fromkeys(server for _, server, _ in everything):
        try:
            find(spec)[0].check()
        except BenchError as e:
            if find(spec)[0] is Gateway:
                raise
            print(f"left out: {e}", file=sys.stderr)
            missing.add(spec)
    everything = [x for x in everything if x[1] not in missing]
    if not everything:
        raise BenchError(f"none of the chosen servers is here and serves {a.what}")
    if a.build_only:
        return 0
    for kind, spec, options in everything:
        server_type, variant = find(spec)
        try:
            got = KINDS[kind][1](server_type(variant), options)
        except BenchError as e:
            print(f"{kind} {spec}: {e}", file=sys.stderr, flush=True)
            failed = 1
            continue
        for row in got if isinstance(got, list) else [got]:
            rows.append(report.save(a.file, kind, spec, row))
            print(report.brief(rows[-1]), flush=True)
    print(report.tables(rows))
    return failed


def run_soak(a: argparse.Namespace) -> int:
    """The soak run; status 1 when a fault was seen."""
    server_type, variant = find(a.peers.split(",")[0] if a.no_gateway else "millrace")
    server_type.check()
    viewers = min(int(a.viewers.split(",")[0]), 400)
    row = soak(server_type(variant), a.minutes, min(a.publishers, 8), viewers)
    report.save(a.file, "soak", server_type.name, row)
    print(json.dumps(row, indent=1))
    return 0 if row["ok"] else 1


def main() -> int:
    """Runs one command; 0 fine, 1 something failed or missed, 2 usage or a missing tool."""
    a = arguments()
    set_limits(a.limit)
    try:
        if a.what == "table":
            lines = (json.loads(x) for x in a.file.read_text().splitlines())
            print(report.tables(x for x in lines if x["kind"] in KINDS))
            return 0
        clients.build("webrtc" if a.what == "soak" else "all")
        return run_soak(a) if a.what == "soak" else measure(a)
    except (BenchError, OSError, ValueError) as e:
        print(f"bench: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
