"""What the history and the data of players cost. Run: python -m bench.bench_experience"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
import timeit
from collections import Counter
from pathlib import Path
from urllib.parse import quote

from gateway.app.parts.diagnosis import NodeValues
from gateway.diagnosis.experience import Experience
from gateway.diagnosis.history import History
from gateway.diagnosis.recorder import Recorder, stream_values
from gateway.http.request import Request
from gateway.lib.metrics import Metrics
from gateway.live.output import OutputSpec
from gateway.live.stream import Stream
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.reports import RequestReports
from gateway.ports.events import Events
from gateway.reports.hub_samples import HubSamples
from gateway.reports.node_status import NodeStatus
from tests.support import builders

MAX_MICROSECONDS = 2.0  # a request with CMCD, beside the count of its viewer
MAX_OF_A_CORE = 0.0005  # 100 streams
STREAMS = 100
ROUNDS = 20_000

V1 = 'bl=21300,br=3200,d=4004,mtp=25400,ot=v,sf=h,sid="6e2fb550-c457-11e9-bb97-0800200c9a66",st=l,tb=6000'
V2 = (
    'bl=(5000;v),br=(3200;v 128;a),d=4004,ltc=1200,mtp=(25400;v),ot=v,sf=h,sid="6e2fb550-c457-11e9-bb97-0800200c9a66",'
    "sn=4,st=l,sta=p,v=2"
)


class Watched:
    """The stream that all requests are for."""

    def __init__(self) -> None:
        self.name = "c1"
        self.viewers: Counter[str] = Counter()


def request_microseconds(query: str, headers: dict[str, str], reports: bool) -> float:
    """The cost to count a player's request, in microseconds; the least of several rounds."""
    metrics = Metrics("1")
    read = RequestReports(Experience(metrics), metrics.viewer_reports) if reports else None
    viewers, watched = HttpViewers(max_viewers=10, reports=read), Watched()
    viewers._timer = _Timer()  # type: ignore[assignment]  # there is no event loop
    request = Request("GET", "/c1/live.m3u8", query, {"host": "a", "user-agent": "b", **headers}, "192.0.2.1")
    request.exempt = True  # from the limit of an address
    rounds = timeit.repeat(
        lambda: viewers.record(request, watched, "hls", media=True), number=ROUNDS, repeat=7, timer=time.process_time
    )
    return min(rounds) / ROUNDS * 1e6


class _Timer:
    def cancel(self) -> None:
        """Nothing runs."""


class Idle:
    """An output that does nothing until its stream ends."""

    async def run(self, stream: Stream) -> None:
        await stream.over()


async def history_share(streams: int) -> float:
    """The share of a core that recording takes, with the copy for the file each minute."""
    events, metrics = Events(), Metrics("1")
    names = ("flv", "rtmp", "hls", "cmaf", "video", "ondemand", "image", "motion", "relay", "kvs", "codec", "watermark")
    hub = builders.hub([OutputSpec(name, lambda s: Idle(), lambda s: True) for name in names], events=events)
    metrics.read_from(HubSamples(hub, events))
    for n in range(streams):
        builders.publish(hub, f"channel-{n}").set_tracks(builders.VIDEO, builders.AUDIO, {})
    status = NodeStatus(Path("/tmp"), {})
    recorder = Recorder(hub, NodeValues(metrics, status), stream_values(lambda s: sum(s.viewers.values())))
    clock = itertools.count(1_800_000_000, 5)

    def minute() -> None:
        for _ in range(12):
            recorder.record(next(clock))
        assert sum(map(len, recorder.history.encode()))

    timeit.timeit(minute, number=30)  # fills the fine values
    seconds = min(timeit.repeat(minute, number=5, repeat=3, timer=time.process_time)) / 5
    hub.drain()
    return seconds / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where it is more than documented")
    wanted = parser.parse_args()
    failed = []
    for name, query, headers in (
        ("CMCD version 1 in the query", "CMCD=" + quote(V1, safe=""), {}),
        ("CMCD version 2 in the query", "CMCD=" + quote(V2, safe=""), {}),
        ("CMCD in headers", "", {"cmcd-session": 'sf=h,sid="6e2f"', "cmcd-object": "br=3200,d=4004,ot=v"}),
        ("no CMCD", "sign=1893456000-0123456789abcdef", {}),
    ):
        with_reports, without = request_microseconds(query, headers, True), request_microseconds(query, headers, False)
        print(f"{name}: {with_reports - without:.2f} µs a request, beside {without:.2f} µs for the count of its viewer")
        if with_reports - without > MAX_MICROSECONDS:
            failed.append(name)
    share = asyncio.run(history_share(STREAMS))
    print(f"history: {share * 100:.3f} % of a core for {STREAMS} streams; {_bytes() / 1000:.1f} kB a channel of a day")
    if share > MAX_OF_A_CORE:
        failed.append("history")
    if wanted.check and failed:
        raise SystemExit(f"too expensive: {', '.join(failed)}")


def _bytes() -> int:
    history = History()
    for at in range(1_800_000_000, 1_800_000_000 + 90_000, 5):
        history.add_channel("c", at, {"live": 1.0, "bitrate": 2.5e6, "viewers": 12.0})
    return sum(map(len, history.encode()))


if __name__ == "__main__":
    main()
