"""Viewers over Media over QUIC, beside those over WHEP in the same run. Loopback only.

    bench_moq -n 50,200                   CPU per GB, delay and joining of N viewers of one stream of 2.5 Mbit/s
    bench_moq -n 200 --protocols moq      without WHEP, whose load client needs Go
    bench_moq --glass                     from ffmpeg's picture to Chromium's, in both pages

CPU is that of the gateway's processes. The delay is from the encoder's socket to the viewer's program, by stamps in the
pictures. Rows are appended to build/bench/moq.jsonl.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import urllib.request
from typing import Any

from bench.harness import clients, paths, report, webrtc_pages
from bench.harness.clients import Publishers
from bench.harness.limits import set_limits
from bench.harness.measures import Row, Window, owned, running, settle
from bench.harness.picture_clock import PictureClock, ages
from bench.harness.procs import BenchError, Process
from bench.harness.servers import Gateway
from bench.harness.webrtc import WhepViewers
from tests.support.browser import chromium

RESULTS = paths.BUILD / "moq.jsonl"
MOQ, WHEP = "moq", "whep"


class MoqViewers(clients.Client):
    """n viewers of one address; `until` gives their report."""

    def __init__(self, page: dict[str, Any], n: int, seconds: int) -> None:
        command = [sys.executable, "-P", "-m", "bench.harness.moq_viewers", page["url"], page["name"], *page["hashes"]]
        self.list = paths.BUILD / "moq.urls"
        log = paths.LOGS / "moq_viewers.log"
        self.process = Process(
            "moq_viewers", [*command, str(n), str(seconds)], cwd=paths.PROJECT, log=log, capture=True
        )


def configured() -> Gateway:
    gateway = Gateway()
    gateway.settings |= {"MILLRACE_MOQ__PORT": "0", "MILLRACE_MOQ__HOST": "127.0.0.1"}
    gateway.settings |= {"MILLRACE_WEBRTC__HOST": "127.0.0.1", "MILLRACE_WEBRTC__PORT": "0"}
    gateway.settings |= {"MILLRACE_WEBRTC__HALF_OPEN_PER_ADDRESS": "0"}
    return gateway


def measure(protocol: str, n: int, seconds: int) -> Row:
    gateway = configured()
    with running(gateway, 1) as urls, owned(Publishers(urls.push)) as push:
        quiet = settle(gateway, 6)
        window = Window(gateway, push.process.pid)
        if protocol == MOQ:
            request = urllib.request.Request(urls.whep[0].removesuffix(WHEP) + MOQ, method="POST")
            with urllib.request.urlopen(request, timeout=60) as answer:
                load: clients.Client = MoqViewers(json.load(answer), n, seconds)
        else:
            load = WhepViewers(urls.whep, n, seconds, "-warm", 4)
        with owned(load):
            seen = load.until(window.events)
        push.finish()
    if not seen["bytes"]:
        raise BenchError(f"{protocol}: nothing arrived")
    latency = seen.get("latency_ms", {})
    return {
        "viewers": n,
        "connected": seen["connected"],
        "cpu_pct": round(100 * window.cpu / seen["seconds"], 1),
        "cpu_s_per_gb": round(window.cpu / (seen["bytes"] / 1e9), 2),
        "delay_p50_ms": seen.get("delay_p50_ms", latency.get("p50")),
        "delay_p99_ms": seen.get("delay_p99_ms", latency.get("p99")),
        "join_p50_ms": seen.get("join_p50_ms"),
        "rss_kb_per_viewer": round((window.after.rss - quiet.rss) / 1e3 / max(1, seen["connected"]), 1),
        "other_cpu_pct": window.other_cpu(seen["seconds"], seen["client_cpu_s"]),
    }


def glass(protocol: str, seconds: int) -> Row:
    """Milliseconds from the making of a picture to its presentation in the page of the protocol."""

    async def measured(url: str) -> list[float]:
        async with (
            chromium(*webrtc_pages.FLAGS) as browser,
            webrtc_pages.player(browser, url) as page,
        ):
            return await ages(page, seconds, 5)

    gateway = configured()
    with running(gateway, 1) as urls, PictureClock(urls.push[0]):
        settle(gateway, 4)
        found = sorted(asyncio.run(measured(f"{urls.whep[0].removesuffix(WHEP)}{protocol}.html")))
    if not found:
        raise BenchError(f"{protocol}: no picture with a readable time was shown")
    return {"pictures": len(found), **{f"p{p}_ms": round(found[(len(found) - 1) * p // 100], 1) for p in (50, 95, 99)}}


def main() -> None:
    parser = argparse.ArgumentParser(description="Viewers over Media over QUIC beside WHEP.")
    parser.add_argument("-n", "--viewers", default="200", help="numbers of viewers, with commas")
    parser.add_argument("--protocols", default=f"{MOQ},{WHEP}")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--glass", action="store_true", help="the delay in Chromium")
    a = parser.parse_args()
    protocols = a.protocols.split(",")
    clients.build("webrtc" if WHEP in protocols else "all")
    counts = [int(n) for n in a.viewers.split(",")]
    set_limits(60 + 120 * len(counts) * len(protocols) * a.rounds)
    if a.glass:
        for protocol in protocols * a.rounds:
            print(
                json.dumps(report.save(RESULTS, f"{protocol} glass", "millrace", glass(protocol, a.seconds))),
                flush=True,
            )
        return
    for n in counts:
        for _ in range(a.rounds):
            for protocol in protocols:
                row = report.save(RESULTS, protocol, "millrace", measure(protocol, n, a.seconds))
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
