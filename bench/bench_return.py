"""How long the picture is away when an encoder is cut and connects again at once: to its gateway, or to another one.

    python -m bench.bench_return [--cuts 50] [--registry postgres|sqlite] [--limit-ms 100] [--json FILE]

Two gateways share a registry. The first one holds a stream of 25 numbered pictures a second with sound. HTTP-FLV
viewers watch it at both gateways. The encoder's connection is reset at a random place of its GOP, and the
encoder connects again at once, in turn:

    same      to the gateway that holds the stream
    other     to the other gateway, while the first one holds the stream
    back      from the other gateway to the first one

sent: from the new key frame's sending until it is at a viewer. back: from connect() until then; accepted: the part
until the push is accepted. The exit status is 1 if the p99 of `sent` is above --limit-ms, or if anything was refused.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness.hls import percentile
from bench.harness.limits import set_limits
from bench.harness.numbered import Encoder, FlvPictures, Push, dropped, pushing
from bench.harness.servers import Gateway
from bench.harness.verdict import conclude
from tests.support.postgres import postgres_server

SECRETS = {"MILLRACE_CLUSTER__SECRET": "what all nodes share", "MILLRACE_SIGNING__SECRET": "what keys are signed with"}
WAYS = ("same", "other", "back")
# A stream allows one change of its tracks in a second, and each return is one (`gateway.live.track_changes`).
PAUSE = (1.05, 2.05)  # seconds between two cuts
VIEWERS = ("holder", "replica")


@dataclass
class Viewer:
    """Watches for ever. ended: how often its connection ended."""

    port: int
    channel: str
    number: int = -1
    ended: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _times: dict[int, float] = field(default_factory=dict)

    async def run(self) -> None:
        while True:
            reader = FlvPictures(self._saw)
            source, sink = await asyncio.open_connection("127.0.0.1", self.port)
            sink.write(f"GET /{self.channel}/live.flv HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            try:
                with contextlib.suppress(ConnectionError):
                    while data := await source.read(1 << 20):
                        reader.receive(data)
                        async with self._changed:
                            self._changed.notify_all()
            finally:
                await dropped(sink)
            self.ended += 1
            await asyncio.sleep(0.1)

    def _saw(self, number: int) -> None:
        self.number = max(self.number, number)
        self._times.setdefault(number, time.monotonic())
        self._times.pop(number - 1000, None)

    async def when(self, number: int) -> float:
        """When this picture or, without it, a later one was there first."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.number >= number)
            return min(at for seen, at in self._times.items() if seen >= number)


@contextlib.contextmanager
def pair(registry: str) -> Any:
    """Yields two running gateways."""
    with contextlib.ExitStack() as stack:
        first, second = Gateway(), Gateway()
        stack.callback(first.stop)
        stack.callback(second.stop)
        if registry == "postgres":
            shared = {"MILLRACE_DATABASE": stack.enter_context(postgres_server()).new_database()}
        else:
            folder = first.folder
            shared = {f"MILLRACE_{name}": f"sqlite:///{folder}/{name}.db" for name in ("REGISTRY", "CHANNELS")}
        for gateway in (first, second):
            gateway.settings |= shared | SECRETS
            gateway.start(packaged=True)
        yield first, second


@contextlib.asynccontextmanager
async def watching(*viewers: Viewer) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(viewer.run()) for viewer in viewers]
    try:
        async with asyncio.timeout(20):
            await asyncio.gather(*(viewer.when(0) for viewer in viewers))
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def measure(a: argparse.Namespace) -> dict[str, Any]:
    """Returns the figures of each way. Raises BenchError."""
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with pair(a.registry) as gateways:
        urls = gateways[0].streams(1, packaged=True)
        channel, key = gateways[0].ids[0], urls.push[0].rpartition("/")[2]
        rtmp = [gateway.ports["rtmp"] for gateway in gateways]
        encoder = Encoder(rtmp[0], key, with_sound=True, gop=a.gop)
        viewers = [Viewer(gateway.ports["http"], channel) for gateway in gateways]
        async with pushing([encoder]), watching(*viewers):
            for n in range(len(WAYS) * a.cuts):
                way = WAYS[n % len(WAYS)]
                await asyncio.sleep(random.uniform(*PAUSE))
                async with asyncio.timeout(30):
                    push = await encoder.cut(reset=True, port=rtmp[way == "other"])
                    seen = [await viewer.when(push.first) for viewer in viewers]
                rows[way].append(_row(push, seen))
        refused = [code for _, code in encoder.refused]
    result = {way: {name: _figures([row[name] for row in found]) for name in found[0]} for way, found in rows.items()}
    ended = [viewer.ended for viewer in viewers]
    return {"cuts": a.cuts, "refused": refused, "viewers_ended": ended, "lost": len(encoder.lost), "ms": result}


def _row(push: Push, seen: list[float]) -> dict[str, float]:
    row = {"accepted": push.accepted - push.connecting}
    for name, at in zip(VIEWERS, seen, strict=True):
        row |= {f"sent, {name}": at - push.sent, f"back, {name}": at - push.connecting}
    return row


def _figures(values: list[float]) -> dict[str, float]:
    found = {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99), "max": max(values)}
    return {name: round(value * 1000, 1) for name, value in found.items()}


def faults(result: dict[str, Any], limit: float) -> list[str]:
    """What is above the limit or was refused."""
    late = [
        f"{way}: the new picture was at the viewer of the {name} after {result['ms'][way][f'sent, {name}']['p99']} ms"
        for way in result["ms"]
        for name in VIEWERS
        if result["ms"][way][f"sent, {name}"]["p99"] > limit
    ]
    refused = [f"{len(result['refused'])} pushes were refused: {result['refused'][0]}"] if result["refused"] else []
    ended = [f"{sum(result['viewers_ended'])} viewers were disconnected"] if any(result["viewers_ended"]) else []
    return late + refused + ended


def table(result: dict[str, Any]) -> str:
    lines = [f"{'way':6} {'ms':15} {'p50':>7} {'p99':>7} {'max':>7}"]
    for way, rows in result["ms"].items():
        lines += [f"{way:6} {name:15} {x['p50']:7.1f} {x['p99']:7.1f} {x['max']:7.1f}" for name, x in rows.items()]
    return "\n".join(lines)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=50, help="of each way")
    parser.add_argument("--gop", type=int, default=50, help="pictures; two seconds")
    parser.add_argument("--registry", choices=("postgres", "sqlite"), default="postgres")
    parser.add_argument("--limit-ms", type=float, default=100)
    parser.add_argument("--json", type=Path, help="a file for the result")
    return parser.parse_args(argv)


def main() -> int:
    a = arguments()
    set_limits(60 + 10 * 3 * a.cuts)
    return conclude(measure(a), lambda result: faults(result, a.limit_ms), table, "nothing was late or refused", a.json)


if __name__ == "__main__":
    sys.exit(main())
