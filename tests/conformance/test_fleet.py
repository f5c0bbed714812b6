"""A fleet on one machine: gateways behind HAProxy, an edge, DynamoDB, S3, an encoder, players; and every fault."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.authority import Authority
from tests.support.browser import Watched, chromium, opened
from tests.support.clients import Program, so_far, until
from tests.support.farm import Farm, farm
from tests.support.gate import Gate
from tests.support.gateway import Channel
from tests.support.haproxy import PLAYERS, Front, haproxy, wire
from tests.support.media import Film, framehash_command
from tests.support.names import name_server
from tests.support.rtmp import connected
from tests.support.time_outs import at_most
from tests.support.tools import need

FILM = Film("fleet", seconds=120, size="640x360")
REGION, BUCKET = "eu-central-1", "millrace-fleet"
CROWD = 40  # viewers beside those who look at the pictures
ENOUGH = 100_000  # bytes: some two seconds of the film
BACK = 30.0  # seconds after which a picture is away for good; how soon it is back is bench_failover's matter


# ---- what runs ----


@dataclass
class Looping:
    """A program that is started again as soon as it has ended, as encoders and players do; `runs` counts them."""

    start: Any
    runs: int = 0
    _program: Program | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Looping:
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(at_most(20))

    def _loop(self) -> None:
        while not self._ended.is_set():
            self.runs += 1
            with self.start() as program:
                while program.running and not self._ended.is_set():
                    self.look(program)
                    self._ended.wait(0.1)
            self._ended.wait(0.3)

    def look(self, program: Program) -> None:
        """Called while it runs, ten times a second."""


@dataclass
class Player(Looping):
    """ffmpeg playing an address. seen: the hashes of all pictures that came, of its last run and those before."""

    before: list[str] = field(default_factory=list)
    now: list[str] = field(default_factory=list)

    def look(self, program: Program) -> None:
        found = [frame.digest for frame in so_far(program).video]
        if len(found) < len(self.now):
            self.before += self.now
        self.now = found

    @property
    def seen(self) -> list[str]:
        return self.before + self.now


class Crowd:
    """Viewers of live.flv that count their bytes, and reconnect whenever they are disconnected."""

    def __init__(self, front: Front, channel: Channel, size: int) -> None:
        self._port, self._path = front.ports["http"], f"/{channel.id}/live.flv"
        self.came = [0] * size
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Crowd:
        self._tasks = [asyncio.create_task(self._watch(number)) for number in range(len(self.came))]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, number: int) -> None:
        while True:
            with contextlib.suppress(OSError, EOFError, TimeoutError, ValueError):
                async with wire(self._port) as client:
                    await client.send(f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    if (await client.head()).status == 200:
                        while data := await client.chunk():
                            self.came[number] += len(data)
            await asyncio.sleep(0.5)

    async def goes_on(self) -> None:
        """Returns once every one of them has got some seconds of it."""
        before = list(self.came)
        while any(now < then + ENOUGH for now, then in zip(self.came, before, strict=True)):
            await asyncio.sleep(0.1)


@dataclass
class Fleet:
    """The whole fleet.

    tables, media: links to DynamoDB and S3.
    links: the links to each gateway from other nodes, by its address.
    """

    farm: Farm
    front: Front
    tables: Gate
    media: Gate
    links: dict[str, Gate]
    channel: Channel
    encoder: Looping
    crowd: Crowd
    players: dict[str, Player]
    pages: dict[str, Watched]

    async def goes_on(self, what: str) -> None:
        """Returns once every viewer has got new pictures."""
        began = {name: len(player.seen) for name, player in self.players.items()}

        def moved(name: str) -> bool:
            return len(self.players[name].seen) >= began[name] + 30

        async def player(name: str) -> None:
            await asyncio.to_thread(until, lambda: moved(name), f"{name} sees the picture, {what}", BACK)

        async def page(name: str) -> None:
            try:
                await self.pages[name].plays(within=BACK)
            except AssertionError as error:
                raise AssertionError(f"{name}, {what}: {error}") from None

        async def crowd() -> None:
            async with asyncio.timeout(at_most(BACK)):
                await self.crowd.goes_on()

        await asyncio.gather(crowd(), *map(player, self.players), *map(page, self.pages))

    async def refuses(self, channel: Channel) -> str:
        """Returns the status code that an encoder gets for a push to another channel."""
        async with connected(self.front.ports["rtmp"]) as peer:
            return (await peer.publish(channel.obs_key)).code

    async def holder(self) -> str:
        return await asyncio.to_thread(self.farm.holder, self.channel)

    async def other(self) -> str:
        (other,) = set(self.farm.gateways) - {await self.holder()}
        return other


def _boto(service: str) -> Any:
    import boto3

    return boto3.client(service, region_name=REGION)


@pytest.fixture
def account(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An AWS account with the original's tables and a bucket; this process is its client, without any Gate."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in _aws(moto_url, moto_url).items():
        monkeypatch.setenv(name, value)
    for table, key in (("fleet-metadata", "id"), ("fleet-streaming", "UUID")):
        _boto("dynamodb").create_table(
            TableName=table,
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    _boto("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    return moto_url


def _aws(tables: str, media: str) -> dict[str, str]:
    return {
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_ENDPOINT_URL_DYNAMODB": tables,
        "AWS_ENDPOINT_URL_S3": media,
    }


@contextlib.contextmanager
def _behind(site: Farm, names: str, certificate: Path) -> Iterator[Front]:
    variables = site.variables | {"FRONT_PLAYERS": PLAYERS}
    with haproxy(names, certificate, **variables) as front:
        front.wait_up("rtmp-ready", *site.gateways)
        front.wait_up("playback-ready", *site.edges)
        yield front


def _encoder(url: str) -> list[str]:
    """ffmpeg pushing the film for ever."""
    film = ["-stream_loop", "-1", "-i", str(FILM.path())]
    return ["ffmpeg", "-nostdin", "-v", "error", "-re", *film, "-c", "copy", "-f", "flv", url]


def _player(url: str) -> Player:
    before = ("-rw_timeout", "15000000")
    return Player(lambda: Program(framehash_command(url, before=before)))


@contextlib.asynccontextmanager
async def fleet(account: str, folder: Path) -> AsyncIterator[Fleet]:
    """A fleet that is live and watched."""
    authority = Authority(folder)
    certificate = folder / "front.pem"
    certificate.write_bytes(b"".join(path.read_bytes() for path in authority.files("localhost", "127.0.0.1")))
    async with contextlib.AsyncExitStack() as stack:
        tables, media = [await stack.enter_async_context(Gate(account)) for _ in range(2)]
        names = stack.enter_context(name_server())
        settings = _aws(tables.url, media.url) | {
            "MILLRACE_CHANNELS": "dynamodb://fleet-metadata",
            "MILLRACE_REGISTRY": "dynamodb://fleet-streaming",
            "MILLRACE_OBJECTS": f"s3://{BUCKET}",
            "MILLRACE_SERVE__DRAIN": "15",
        }
        site = stack.enter_context(farm(names, 0, **settings))
        links: dict[str, Gate] = {}
        for host in ("127.0.0.11", "127.0.0.12"):
            links[host] = await stack.enter_async_context(Gate(f"http://{host}:{site.ports['http']}"))
            site.reached_at[host] = links[host].url.removeprefix("http://")
            await asyncio.to_thread(site.gateway, host)
        await asyncio.to_thread(site.edge)
        front = stack.enter_context(_behind(site, names.address, certificate))
        channel = await asyncio.to_thread(lambda: site.channel(isVideo=True, video_time="4"))
        secure = f"https://127.0.0.1:{front.ports['https']}/{channel.id}"
        address = f"rtmp://127.0.0.1:{front.ports['rtmp']}/stream/{channel.obs_key}"
        encoder = stack.enter_context(Looping(lambda: Program(_encoder(address))))
        await asyncio.to_thread(site.holder, channel)
        players = {path: _player(f"{secure}/{path}") for path in ("live.flv", "live.m3u8")}
        browser = await stack.enter_async_context(chromium())
        for one in players.values():
            stack.enter_context(one)
        pages = {}
        for name in ("flv.html", "hls.html"):
            page = opened(
                browser, f"https://localhost:{front.ports['https']}/{channel.id}/{name}", ignore_https_errors=True
            )
            pages[name] = await stack.enter_async_context(page)
        crowd = await stack.enter_async_context(Crowd(front, channel, CROWD))
        yield Fleet(site, front, tables, media, links, channel, encoder, crowd, players, pages)


# ---- the test ----


@pytest.mark.nightly
async def test_a_fleet_survives_its_faults(account: str, tmp_path: Path) -> None:
    need("chromium", "ffmpeg", "haproxy")
    await asyncio.to_thread(FILM.path)
    async with fleet(account, tmp_path) as one:
        await one.goes_on("at first")
        spoken = await one.pages["hls.html"].page.evaluate(
            "() => performance.getEntriesByType('resource').map((entry) => entry.nextHopProtocol)"
        )
        assert set(spoken) == {"h2"}
        assert one.encoder.runs == 1

        other_channel = await asyncio.to_thread(one.farm.channel)
        await one.tables.cut()
        await one.goes_on("while DynamoDB is away")
        await asyncio.to_thread(one.front.wait_up, "rtmp-ready")
        await one.goes_on("while no node is ready")
        assert await one.refuses(other_channel) == "NetStream.Publish.Failed"
        await one.tables.open()
        await asyncio.to_thread(one.front.wait_up, "rtmp-ready", *one.farm.gateways, timeout=40)
        assert one.encoder.runs == 1, "the push was never cut"

        await one.media.cut()
        await one.goes_on("while S3 is away")
        stored = _stored(one.channel)
        await one.media.open()
        await asyncio.to_thread(until, lambda: _stored(one.channel) > stored, "recordings reach the bucket", 60)
        assert one.encoder.runs == 1

        holder = await one.holder()
        one.links[holder].late = 0.2
        await one.goes_on("over a slow link")
        one.links[holder].late = 0.0
        for fault in ("silent", "cut"):
            if fault == "silent":
                one.links[holder].hush()
            else:
                await one.links[holder].cut()
            await asyncio.sleep(3)
            await one.links[holder].open()
            await one.goes_on(f"after a link was {fault}")
        assert one.encoder.runs == 1

        (edge,) = one.farm.edges
        await asyncio.to_thread(one.farm.kill, edge)
        await asyncio.to_thread(one.farm.edge, edge)
        await one.goes_on("after the edge was started again")
        assert one.encoder.runs == 1

        for end in (one.farm.kill, one.farm.drain):
            holder, other = await one.holder(), await one.other()
            runs = one.encoder.runs
            await asyncio.to_thread(end, holder)
            await asyncio.to_thread(until, lambda runs=runs: one.encoder.runs > runs, "the encoder comes again", BACK)
            await one.goes_on(f"after the gateway was {end.__name__}ed")
            assert await one.holder() == other
            await asyncio.to_thread(one.farm.gateways[holder].process.wait, 30)
            await asyncio.to_thread(one.farm.gateway, holder)
            await asyncio.to_thread(one.front.wait_up, "rtmp-ready", *one.farm.gateways)
        await one.goes_on("at last")

        film = {frame.digest for frame in FILM.hashes().video}
        for name, player in one.players.items():
            wrong = [digest for digest in player.seen if digest not in film]
            assert not wrong, f"{len(wrong)} of {len(player.seen)} pictures at {name} are none of the film's"
        for node in itertools.chain(one.farm.gateways.values(), one.farm.edges.values()):
            assert "Traceback" not in node.log, node.log[-4000:]


def _stored(channel: Channel) -> int:
    """Returns the number of files of this channel in the bucket."""
    return int(_boto("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"{channel.id}/mp4/")["KeyCount"])
