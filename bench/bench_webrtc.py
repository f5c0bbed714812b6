"""WHIP in and WHEP out, side by side with MediaMTX in the same run. Loopback only.

    bench_webrtc crowd -n 100,300,400 --core 0      WHEP viewers of one stream: CPU per GB, lost packets, memory
    bench_webrtc join -n 300                        first picture after the answer, of viewers that join a crowd
    bench_webrtc latency                            Chromium to Chromium: WHIP in, WHEP out
    bench_webrtc rtmp                               RTMP in, WHEP out: the sockets of the load clients, and Chromium
    bench_webrtc loss --seconds 300                 5 % loss and 80 ms round trip, on the way in and on the way out
    bench_webrtc ingest -m 20                       CPU per publisher-minute, WHIP beside RTMP
    bench_webrtc all

Servers (--servers): millrace, mediamtx (an executable named by $BENCH_MEDIAMTX), given (one that runs already, named by
--whip, --whep, --rtmp and --pid). Rounds go A B A B; the tables show medians. Rows are appended to
build/bench/webrtc.jsonl.

Every packet that counts has been decrypted. CPU is that of the server's processes only. MediaMTX gives no sound to WHEP
viewers of an RTMP push, because it does not transcode AAC; with --push whip (the default) both servers pass Opus on.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urljoin

from bench.harness import clients, paths, report, webrtc_pages
from bench.harness.clients import Publishers
from bench.harness.limits import set_limits
from bench.harness.measures import Row, Window, owned, running, settle
from bench.harness.picture_clock import PictureClock
from bench.harness.procs import BenchError, Usage, own_cpu, usage
from bench.harness.servers import Gateway, MediaMtx, Server, Urls
from bench.harness.webrtc import BadNetwork, WebRtcClient, WhepViewers, WhipPublishers
from tests.support.browser import chromium

RESULTS = paths.BUILD / "webrtc.jsonl"


class Given(Server):
    """A server that runs already: its addresses and the process that its CPU is read from."""

    name = "given"
    serves = frozenset({"webrtc"})
    urls = Urls([], [], [], [], [], [])
    pid = 0

    @classmethod
    def check(cls) -> None:
        if not cls.urls.whep or not cls.pid:
            raise BenchError("given: --whep and --pid are needed")

    def start(self, *, packaged: bool) -> float:
        return 0.0

    def streams(self, n: int, *, packaged: bool) -> Urls:
        if n > 1:
            raise BenchError("given: one stream only")
        return self.urls

    def usage(self) -> Usage:
        return usage(self.pid)


SERVERS: dict[str, type[Server]] = {s.name: s for s in (Gateway, MediaMtx, Given)}


def server(a: argparse.Namespace) -> Server:
    """A new server of the kind that is being measured."""
    made = SERVERS[a.server]()
    if isinstance(made, Gateway):
        made.settings |= {"MILLRACE_WEBRTC__HOST": "127.0.0.1", "MILLRACE_WEBRTC__PORT": "0"}
        made.settings |= {"MILLRACE_WEBRTC__HALF_OPEN_PER_ADDRESS": "0"}  # all of the load comes from one address
    return made


@contextmanager
def started(made: Server, n: int, core: int | None = None) -> Iterator[Urls]:
    """The server with n streams, on one core where `core` names it; the clients run on the others."""
    everything = os.sched_getaffinity(0)
    with ExitStack() as stack:
        if core is not None:
            os.sched_setaffinity(0, {core})
            stack.callback(os.sched_setaffinity, 0, everything)
        urls = stack.enter_context(running(made, n))
        if core is not None and everything - {core}:
            os.sched_setaffinity(0, everything - {core})
        yield urls


def pushing(a: argparse.Namespace, urls: Urls) -> WebRtcClient | Publishers:
    """The publishers of all streams, by the protocol that was chosen."""
    return WhipPublishers(urls.whip) if a.push == "whip" else Publishers(urls.push)


def crowd(a: argparse.Namespace) -> list[Row]:
    """N viewers of one stream: CPU, packets that never came, memory."""
    rows = []
    for n in (int(x) for x in a.viewers.split(",")):
        made = server(a)
        everything = a.seconds + n / a.rate + 30
        with (
            started(made, 1, a.core) as urls,
            owned(pushing(a, urls)) as push,
            owned(WhepViewers(urls.whep, 1, everything)),  # what the first viewer needs is no memory of the others
        ):
            quiet = settle(made, 6)
            window = Window(made, push.process.pid)
            options = [*(["-tcp"] if a.tcp else []), "-warm", 4]
            with owned(WhepViewers(urls.whep, n, a.seconds, *options, rate=a.rate)) as load:
                seen = load.until(window.events)
            push.finish()
        if not seen["bytes"]:
            raise BenchError(f"{a.server}: nothing arrived ({seen['status']})")
        seconds = seen["seconds"]
        per_gb = window.cpu / (seen["bytes"] / 1e9)
        rows.append(
            {
                "viewers": n,
                "connected": seen["connected"],
                "push": a.push,
                "tcp": a.tcp,
                "one_core": a.core is not None,
                "cpu_s_per_gb": round(per_gb, 2),
                "cpu_pct": round(100 * window.cpu / seconds, 1),
                "viewers_per_core": round(1 / (per_gb * paths.STREAM_BITS / 8e9)),
                "packets": seen["packets"],
                "holes": seen["holes"],
                "lost": seen["lost"],
                "viewers_losing": seen["viewers_losing"],
                "client_drops": seen["socket_drops"],
                "auth_failures": seen["auth_failures"],
                "freezes": seen["freezes"],
                "missing_frames": seen["missing_frames"],
                "latency_p50_ms": seen["latency_ms"]["p50"],
                "latency_p99_ms": seen["latency_ms"]["p99"],
                "rss_kb_per_viewer": round((window.after.rss - quiet.rss) / 1e3 / max(1, seen["connected"]), 1),
                "viewer_mbps": round(seen["viewer_bytes"]["p50"] * 8e-6 / seconds, 2),
                "client_cpu_pct": round(100 * seen["client_cpu_s"] / seconds, 1),
                "other_cpu_pct": window.other_cpu(seconds, seen["client_cpu_s"]),
                "status": seen["status"],
            }
        )
        show(a, "whep", rows[-1])
    return rows


def join(a: argparse.Namespace) -> list[Row]:
    """Time from the answer to the first picture, of viewers that join a stream with N of them."""
    made, n = server(a), int(a.viewers.split(",")[0])
    with started(made, 1, a.core) as urls, owned(pushing(a, urls)):
        settle(made, 4)
        with owned(WhepViewers(urls.whep, n, n / a.rate + a.joiners / a.rate + 12, rate=a.rate)):
            settle(made, n / a.rate + 4)
            options = ("-warm", 3, "-pause", "1ms")
            with owned(WhepViewers(urls.whep, a.joiners, 1, *options, rate=a.rate)) as load:
                seen = load.until({})
    picture = seen["first_picture_ms"]
    row = {
        "viewers": n,
        "joined": picture["n"],
        "answer_p50_ms": seen["answer_ms"]["p50"],
        "connected_p50_ms": seen["connected_ms"]["p50"],
        **{f"picture_{k}_ms": picture[k] for k in ("p50", "p95", "max")},
    }
    show(a, "whep-join", row)
    return [row]


def ages_row(what: str, ages: list[float]) -> Row:
    """The percentiles of the ages of pictures."""
    if not ages:
        raise BenchError(f"{what}: no picture with a readable time was shown")
    ordered = sorted(ages)
    at = {f"p{p}_ms": round(ordered[(len(ordered) - 1) * p // 100], 1) for p in (50, 95, 99)}
    return {"what": what, "pictures": len(ordered), **at}


def latency(a: argparse.Namespace) -> list[Row]:
    """Chromium's canvas by WHIP to Chromium's video by WHEP."""

    async def measured(urls: Urls) -> list[float]:
        async with (
            chromium(*webrtc_pages.FLAGS, whole=True) as browser,
            webrtc_pages.opened(browser, urls.whip[0]) as camera,
            webrtc_pages.opened(browser, urls.whep[0]) as screen,
        ):
            await webrtc_pages.publish(camera, urls.whip[0])
            await asyncio.sleep(2)
            return await webrtc_pages.latency(screen, urls.whep[0], a.seconds)

    with started(server(a), 1) as urls:
        row = ages_row("Chromium, WHIP to WHEP", asyncio.run(measured(urls)))
    show(a, "webrtc-latency", row)
    return [row]


def rtmp(a: argparse.Namespace) -> list[Row]:
    """RTMP without B-frames in, WHEP out: between the sockets of the clients, then from ffmpeg to Chromium's screen."""

    async def measured(urls: Urls) -> list[float]:
        async with (
            chromium(*webrtc_pages.FLAGS, whole=True) as browser,
            webrtc_pages.opened(browser, urls.whep[0]) as screen,
        ):
            return await webrtc_pages.latency(screen, urls.whep[0], a.seconds)

    made = server(a)
    with started(made, 1) as urls, owned(Publishers(urls.push)):
        settle(made, 4)
        with owned(WhepViewers(urls.whep, 10, a.seconds, "-pause", "0")) as load:
            seen = load.until({})["latency_ms"]
    found = {f"{k}_ms": seen[k] for k in ("p50", "p95", "p99")}
    rows = [{"what": "RTMP socket to WHEP socket", "pictures": seen["n"], **found}]
    show(a, "webrtc-latency", rows[0])
    made = server(a)
    with started(made, 1) as urls, PictureClock(urls.push[0]):
        settle(made, 4)
        rows.append(ages_row("RTMP picture to Chromium, WHEP", asyncio.run(measured(urls))))
    show(a, "webrtc-latency", rows[1])
    return rows


def loss(a: argparse.Namespace) -> list[Row]:
    """Freezes with a bad network before the viewers ("whep"), or before the publisher ("whip")."""
    rows = []
    for what in a.legs.split(","):
        made = server(a)
        with ExitStack() as stack:
            urls = stack.enter_context(started(made, 1))
            network = BadNetwork(urls.whep[0], a.loss, a.rtt, a.jitter)
            stack.callback(network.stop)
            on_the_way_in = what.startswith("whip")
            push = [network.url(urls.whip[0])] if on_the_way_in else urls.whip
            watch = urls.whep[0] if on_the_way_in else network.url(urls.whep[0])
            publisher = stack.enter_context(owned(WhipPublishers(push)))
            settle(made, 4)
            if what.endswith("-chromium"):
                row = asyncio.run(chromium_pauses(watch, a.seconds))
            elif what == "whep-page":
                row = asyncio.run(page_pauses(urljoin(watch, made.whep_page), a.seconds))
            else:
                viewers = WhepViewers([watch], a.few, a.seconds, "-warm", 5)
                seen = stack.enter_context(owned(viewers)).until({})
                row = {k: seen[k] for k in LOSS_FIGURES} | {"viewers": a.few}
            pushed = publisher.finish()
            counted = network.finish()
        row |= {"what": what, "seconds": a.seconds, "forwarder_dropped": counted["dropped"], "plis": pushed["plis"]}
        row |= {"forwarded": counted["forwarded"], "nacked": pushed["nacked"]}
        rows.append(row)
        show(a, "webrtc-loss", row)
    return rows


async def chromium_pauses(url: str, seconds: float) -> Row:
    """Chromium as the viewer of `loss`."""
    async with chromium(*webrtc_pages.FLAGS, whole=True) as browser, webrtc_pages.opened(browser, url) as screen:
        await webrtc_pages.view(screen, url)
        return await webrtc_pages.pauses(screen, seconds)


async def page_pauses(url: str, seconds: float) -> Row:
    """The server's own page in Chromium as the viewer of `loss`."""
    async with chromium(*webrtc_pages.FLAGS, whole=True) as browser, webrtc_pages.player(browser, url) as screen:
        return await webrtc_pages.pauses(screen, seconds)


def ingest(a: argparse.Namespace) -> list[Row]:
    """CPU and memory per publisher whom nobody watches, by WHIP and by RTMP.

    main: what the server's first process takes of it; the rest is that of its workers.
    """
    rows: list[Row] = []
    for what in ("whip", "rtmp"):
        made = server(a)
        with started(made, a.publishers) as urls:
            idle = settle(made, 2)
            with owned(WhipPublishers(urls.whip) if what == "whip" else Publishers(urls.push)) as push:
                settle(made, 5)
                window = Window(made, push.process.pid)
                pid = made.process.pid if made.process is not None else Given.pid
                window.open()
                begin, main = time.monotonic(), own_cpu(pid)
                time.sleep(a.seconds)
                window.close()
                seconds, main = time.monotonic() - begin, own_cpu(pid) - main
                pushed = push.finish()
        minutes = seconds / 60 * a.publishers
        rows.append(
            {
                "what": what,
                "publishers": a.publishers,
                "live_at_end": pushed["live_at_end" if what == "whip" else "live"],
                "cpu_s_per_publisher_minute": round(window.cpu / minutes, 4),
                "main_cpu_s_per_publisher_minute": round(main / minutes, 4),
                "rss_kb_per_publisher": round((window.after.rss - idle.rss) / 1e3 / a.publishers),
                "other_cpu_pct": window.other_cpu(seconds),
            }
        )
        if what == "rtmp" and window.cpu:
            rows[-1]["whip_is_times"] = round(rows[0]["cpu_s_per_publisher_minute"] * minutes / window.cpu, 1)
        show(a, "whip-ingest", rows[-1])
    return rows


LOSS_FIGURES = (
    "connected", "status", "frames", "freezes", "frozen_ms", "longest_ms", "holes", "recovered", "lost",
    "missing_frames",
)  # fmt: skip

MEASURES: dict[str, tuple[str, Callable[[argparse.Namespace], list[Row]]]] = {
    # command: (kind of its rows, how it is measured)
    "crowd": ("whep", crowd),
    "join": ("whep-join", join),
    "latency": ("webrtc-latency", latency),
    "rtmp": ("webrtc-latency", rtmp),
    "loss": ("webrtc-loss", loss),
    "ingest": ("whip-ingest", ingest),
}


def show(a: argparse.Namespace, kind: str, row: Row) -> None:
    """Keeps a row and prints it as soon as it is there."""
    a.rows.append(report.save(RESULTS, kind, a.server, row))
    print(report.brief(a.rows[-1]), flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=[*MEASURES, "all"])
    p.add_argument("--servers", default="millrace,mediamtx")
    p.add_argument("-n", "--viewers", default="300", help="viewers; several: 100,300,400")
    p.add_argument("-j", "--joiners", type=int, default=50)
    p.add_argument("-m", "--publishers", type=int, default=20)
    p.add_argument("-t", "--seconds", type=float, default=20, help="the measured window")
    p.add_argument("-r", "--rate", type=float, default=50, help="new viewers a second")
    p.add_argument("--few", type=int, default=3, help="loss: viewers")
    p.add_argument("--push", choices=["whip", "rtmp"], default="whip", help="how the stream of viewers comes")
    p.add_argument("--tcp", action="store_true", help="crowd: ICE over TCP")
    p.add_argument("--core", type=int, help="the server runs on this core only, the clients on the others")
    p.add_argument("--loss", type=float, default=5, help="percent, each way")
    p.add_argument("--rtt", type=float, default=80, help="ms")
    p.add_argument("--jitter", type=float, default=10, help="ms")
    p.add_argument("--legs", default="whep,whip", help="loss: whep, whip, whep-chromium, whip-chromium, whep-page")
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--limit", type=int, default=7200, help="seconds after which the whole run is given up")
    for name in ("whip", "whep", "rtmp"):
        p.add_argument(f"--{name}", default="", help=f"given: its {name.upper()} address")
    p.add_argument("--pid", type=int, default=0, help="given: its process")
    return p.parse_args()


def measure(a: argparse.Namespace) -> int:
    """Measures what was asked for; a server that fails costs its own row only."""
    failed, a.rows = 0, []
    Given.urls = Urls(
        [a.rtmp] if a.rtmp else [], [], [], [], [], [], [a.whip] if a.whip else [], [a.whep] if a.whep else []
    )
    Given.pid = a.pid
    names = [x for x in a.servers.split(",") if x]
    for name in names:
        if name not in SERVERS:
            raise BenchError(f"no such server: {name} (there are {', '.join(SERVERS)})")
        SERVERS[name].check()
    for what in MEASURES if a.what == "all" else [a.what]:
        for _ in range(a.rounds):
            for a.server in names:
                try:
                    MEASURES[what][1](a)
                except BenchError as e:
                    print(f"{what} {a.server}: {e}", file=sys.stderr, flush=True)
                    failed = 1
    print(report.tables(a.rows))
    return failed


def main() -> int:
    """Runs one command; 0 fine, 1 something failed, 2 usage or a missing tool."""
    a = arguments()
    set_limits(a.limit)
    try:
        clients.build("webrtc")
        return measure(a)
    except (BenchError, OSError, ValueError) as e:
        print(f"bench: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
