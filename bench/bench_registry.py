"""What nodes ask of DynamoDB for their streams, counted as it goes out, and that viewers do not count.

    python -m bench.bench_registry [--streams 100] [--gateways 2] [--edges 2] [--viewers 0,100,5000] [--seconds 60]

Gateways that claim and hold streams, edges whose viewers ask all the time where theirs is: the gateway's own Claims,
Locator and Membership over its own adapter, on MiniStack. Each row of the table is one run; "steady" is while streams
last, after everybody has found them; "a push" is its begin and end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from gateway.adapters.aws.registry import DynamoRegistry
from gateway.adapters.aws.session import AwsSession
from gateway.cluster.members.membership import Membership
from gateway.cluster.members.peers import Peers
from gateway.cluster.members.registry_locator import RegistryLocator
from gateway.cluster.streams.claims import Claims, SessionRows
from gateway.cluster.streams.forward import PushForwarder
from gateway.lib.metrics import Metrics
from gateway.lib.tasks import Tasks
from gateway.live.publisher import PushOrigin
from gateway.live.session_record import session_item
from gateway.live.shelf import StreamLimits
from gateway.live.sink import EndReason
from gateway.ports.nodes import Node, NodeRole
from tests.support.builders import AUDIO, VIDEO, channel, picture
from tests.support.holders import SECRET, Holder, holder
from tests.support.ministack import ministack

TABLE: Final = "video-streaming"
_PAUSE: Final = 0.2  # between a viewer's questions


class Requests:
    """What went out, by operation; a repeated try is a request too. Failures of the client's side are none."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()

    def count(self, request: Any, **_: Any) -> None:
        self.made[request.headers["X-Amz-Target"].decode().partition(".")[2]] += 1

    def since(self, before: Counter[str]) -> Counter[str]:
        return self.made - before


@contextlib.asynccontextmanager
async def registry(requests: Requests) -> AsyncIterator[DynamoRegistry]:
    async with AwsSession() as session:
        (await session.client("dynamodb")).meta.events.register("before-send.dynamodb", requests.count)
        yield DynamoRegistry(session, TABLE)


@contextlib.asynccontextmanager
async def gateway(id: str, requests: Requests) -> AsyncIterator[tuple[Holder, Claims]]:
    async with (
        holder() as one,
        Peers(SECRET) as peers,
        registry(requests) as opened,
        Tasks(id) as tasks,
    ):
        address = f"127.0.0.1:{one.port}"
        locator = RegistryLocator(opened)
        forwards = PushForwarder(StreamLimits(2, 10, 15, 1_000_000), peers, Metrics("0").dropped)
        rows = SessionRows(opened, id, lambda: address, session_item, lambda channel: False)
        claims = Claims(one.hub, rows, locator, forwards, tasks)
        beats = Membership(opened, lambda: Node(id, NodeRole.GATEWAY, address))
        for work in (locator.run(), forwards.shelf.run(), claims.run(), beats.run()):
            tasks.start(work)
        yield one, claims


@contextlib.asynccontextmanager
async def edge(id: str, requests: Requests) -> AsyncIterator[RegistryLocator]:
    async with registry(requests) as opened, Tasks(id) as tasks:
        locator = RegistryLocator(opened)
        beats = Membership(opened, lambda: Node(id, NodeRole.EDGE, "127.0.0.1:1"))
        tasks.start(locator.run())
        tasks.start(beats.run())
        yield locator


async def watch(locator: RegistryLocator, name: str) -> None:
    """A viewer: asks where its stream is, all the time."""
    while True:
        place = locator.known(name) or await locator.find(name)
        assert place is not None, f"{name} is live and nobody knows where"
        await asyncio.sleep(random.uniform(0.5, 1.5) * _PAUSE)


async def run(options: argparse.Namespace, viewers: int) -> None:
    """One row."""
    requests = Requests()
    names = [f"channel-{secrets.token_hex(4)}" for _ in range(options.streams)]
    async with contextlib.AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(gateway(f"gateway-{n}", requests)) for n in range(options.gateways)]
        edges = [await stack.enter_async_context(edge(f"edge-{n}", requests)) for n in range(options.edges)]
        await asyncio.sleep(1)
        before = requests.made.copy()
        publishers = []
        for n, name in enumerate(names):
            _, claims = gateways[n % len(gateways)]
            publisher = await claims.acquire(channel(name), PushOrigin("rtmp", "192.0.2.1"), lambda reason: None)
            publisher.set_tracks(VIDEO, AUDIO, {})
            publishers.append(publisher)
        begin = requests.since(before)

        async def feed() -> None:
            dts = 0
            while True:
                for publisher in publishers:
                    publisher.push(picture(dts, key=True), time.monotonic())
                dts += 1000
                await asyncio.sleep(1)

        watching = await stack.enter_async_context(Tasks("viewers", lambda name, error: print(f"{name}: {error!r}")))
        watching.start(feed())
        for n in range(viewers):
            watching.start(watch(edges[n % len(edges)], random.choice(names)))
        await asyncio.sleep(3)
        before = requests.made.copy()
        asked = sum(locator.lookups for locator in edges)
        await asyncio.sleep(options.seconds)
        steady = requests.since(before)
        asked = sum(locator.lookups for locator in edges) - asked
        await watching.close()
        before = requests.made.copy()
        for one, _ in gateways:
            for name in names:
                one.hub.end(name, EndReason.KICKED)
        await asyncio.sleep(1)
        end = requests.since(before)
        del end["PutItem"]  # beats
    minutes = options.seconds / 60
    nodes = options.gateways + options.edges
    of_stream = (steady["BatchGetItem"] + steady["GetItem"]) / minutes / options.streams
    print(
        f"| {viewers:,} | {steady['PutItem'] / minutes / nodes:.1f} | {of_stream:.3f} "
        f"| {asked / minutes / options.streams:.2f} | {steady.total() / minutes / options.streams:.2f} "
        f"| {_per(begin, options.streams)} | {_per(end, options.streams)} |",
        flush=True,
    )


def _per(made: Counter[str], streams: int) -> str:
    return ", ".join(f"{name} {count / streams:.2f}" for name, count in sorted(made.items()))


def _counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--edges", type=int, default=2)
    parser.add_argument("--viewers", type=_counts, default=[0, 100, 5000])
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-registry-") as folder, ministack(Path(folder)) as url:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ |= {
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        import boto3

        boto3.client("dynamodb", region_name="eu-central-1").create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "UUID", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "UUID", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        print(
            f"{options.streams} streams, {options.gateways} gateways, {options.edges} edges, {options.seconds:.0f} s\n"
        )
        print(
            "| viewers | beats a node-minute | reads a stream-minute | names looked up | all a stream-minute | ", end=""
        )
        print("a push begins | a push ends |\n|---|---|---|---|---|---|---|")
        for viewers in options.viewers:
            asyncio.run(run(options, viewers))


if __name__ == "__main__":
    main()
