"""The RTMP listener in this process, over stores and outputs that misbehave as no real one can be made to."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.hub.access import Secrets
from gateway.hub.channel import Channel
from gateway.hub.errors import NoSuchChannel, StoreAway
from gateway.hub.events import Events
from gateway.hub.hub import Hub
from gateway.hub.output import OutputSpec
from gateway.lib.aio import Tasks
from gateway.lib.quota import Quota
from gateway.lib.refusals import Refusals
from gateway.packagers.rtmp import RtmpOutput
from gateway.servers import admission, rtmp
from gateway.servers.admission import Admission
from gateway.servers.ingest import RtmpListener
from gateway.servers.listen import tls_context
from gateway.servers.rtmp_door import RtmpDoor, RtmpLimits
from tests.support import builders
from tests.support.builders import FAR
from tests.support.rtmp import Peer, connected, self_signed

STARTED, FAILED = "NetStream.Publish.Start", "NetStream.Publish.Failed"
SECRETS = Secrets("a-secret")
KEY = f"c1?sign={SECRETS.sign('c1', FAR)}"


class Store:
    """A ChannelReader with one channel; `asked` is set when somebody waits for it, and `answer` lets it answer."""

    def __init__(self) -> None:
        self.asked, self.answer = asyncio.Event(), asyncio.Event()
        self.answer.set()
        self.error: Exception | None = None

    async def get(self, id: str) -> Channel:
        self.asked.set()
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        if id != "c1":
            raise NoSuchChannel(id)
        return builders.channel("c1", key=SECRETS.sign("c1", FAR))


class Lab:
    def __init__(self, hub: Hub, store: Store, listener: RtmpListener, crashes: list[str]) -> None:
        self.hub, self.store, self.listener, self.crashes = hub, store, listener, crashes

    async def asking(self, peer: Peer) -> None:
        """A publish whose key the store is being asked for."""
        self.store.answer.clear()
        await peer.handshake()
        await peer.connect()
        await peer.command("publish", 5, None, KEY, "live", stream=1)
        await asyncio.wait_for(self.store.asked.wait(), 5)

    async def empty(self) -> None:
        """Returns once no connection is left."""
        async with asyncio.timeout(5):
            while self.listener.connections:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(*, tls: ssl.SSLContext | None = None, output: object = None, **changes: float) -> AsyncIterator[Lab]:
    def make(stream: object) -> object:
        return output or RtmpOutput(stream, 65536, 0.05, 30)  # type: ignore[arg-type]

    hub = builders.hub([OutputSpec("rtmp", make, lambda s: True, listed=False)], linger=0.0)  # type: ignore[arg-type]
    store, events, crashes = Store(), Events(), []
    values = {"chunk_size": 65536, "message": 8_000_000, "handshake": 1.0, "first_media": 10.0, "ping_interval": 10.0}
    values |= {"ping_timeout": 20.0, "idle_timeout": 60.0, "wait_for_publisher": 1.0, "viewer_backlog": 786_432}

    async def anybody(name: str, query: dict[str, str], address: str) -> None:
        return None

    async with Tasks("test", lambda name, error: crashes.append(f"{name}: {error!r}")) as tasks:
        door = RtmpDoor(
            streams=hub,
            lease=hub.lease,
            admission=Admission(store, SECRETS, events, publishers_per_address=0, refusals=Refusals(0)),
            may_play=anybody,
            players=Quota(0),
            limits=RtmpLimits(**(values | changes)),  # type: ignore[arg-type]
            tasks=tasks,
        )
        listener = RtmpListener(door, "127.0.0.1", 0, (), tls)
        await listener.start()
        tasks.start(hub.run())
        tasks.start(listener.run())
        yield Lab(hub, store, listener, crashes)
        listener.close()
        await listener.hang_up(grace=0.1)
    assert crashes == []


async def test_a_store_that_never_answers_is_told_as_away(monkeypatch: pytest.MonkeyPatch) -> None:
    assert admission.STORE_SECONDS < 8, "what clients are promised"
    monkeypatch.setattr(admission, "STORE_SECONDS", 0.2)
    async with running() as lab, connected(lab.listener.port) as peer:
        await lab.asking(peer)
        said = await peer.until()
        assert (said.level, said.code) == ("error", FAILED)
        assert await peer.closed()


async def test_a_store_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as lab, connected(lab.listener.port) as peer:
        lab.store.error = StoreAway("it is locked")
        said = await peer.publish(KEY)
        assert (said.level, said.code) == ("error", FAILED)
        assert "locked" not in said.words["description"]
        assert await peer.closed()


async def test_who_breaks_the_protocol_while_the_store_is_asked_gets_no_stream() -> None:
    async with running() as lab, connected(lab.listener.port) as peer:
        await lab.asking(peer)
        await peer.send(b"\xff" * 100)
        assert await peer.closed()
        lab.store.answer.set()
        await peer.reset()
        await lab.empty()
        assert list(lab.hub) == []


async def test_who_leaves_while_the_store_is_asked_leaves_no_stream() -> None:
    async with running() as lab, connected(lab.listener.port) as peer:
        await lab.asking(peer)
        await peer.reset()
        await lab.empty()
        lab.store.answer.set()
        await asyncio.sleep(0)
        assert list(lab.hub) == []


async def test_who_sends_too_much_while_the_store_is_asked_is_closed() -> None:
    async with running() as lab, connected(lab.listener.port) as peer:
        await lab.asking(peer)
        with contextlib.suppress(ConnectionError):
            await peer.chunk_size(65536)
            for n in range(40):
                await peer.film([n], number=n)
                await peer.body(9, bytes(60_000))
        assert await peer.closed()
        lab.store.answer.set()
        await peer.reset()
        await lab.empty()


async def test_closing_and_publishing_again_while_the_store_is_asked() -> None:
    """All of it is held until the first answer, then done in order."""
    async with running() as lab, connected(lab.listener.port) as peer:
        await lab.asking(peer)
        await peer.headers()
        await peer.film([0, 40])
        await peer.command("closeStream", 0, None, stream=1)
        await peer.command("publish", 6, None, KEY, "live", stream=1)
        lab.store.answer.set()
        assert [(await peer.until(STARTED, "NetStream.Unpublish.Success")).code for _ in range(3)] == [
            STARTED,
            "NetStream.Unpublish.Success",
            STARTED,
        ]


async def test_a_player_of_an_output_that_fails_is_told() -> None:
    class Broken:
        async def run(self, stream: object) -> None:
            await asyncio.Event().wait()

    async with running(output=Broken()) as lab, connected(lab.listener.port) as peer:
        await peer.publish(KEY)
        await peer.headers()
        await peer.film([0, 40])
        async with connected(lab.listener.port) as player:
            said = await player.play("c1")
            assert (said.level, said.code) == ("error", "NetStream.Play.Failed")
            assert await player.closed()


async def test_a_publisher_may_rest_after_hours_before_it_publishes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is how long nothing was asked, not how old the connection is."""
    monkeypatch.setattr(rtmp, "NOTHING_ASKED", 1.5)
    async with running() as lab, connected(lab.listener.port) as peer, connected(lab.listener.port) as idle:
        await idle.handshake()
        await idle.connect()
        await peer.publish(KEY)
        await peer.headers()
        await peer.film([0, 40])
        assert await idle.closed(), "who never asks is closed"
        await peer.command("FCUnpublish", 6, None, "c1")
        await peer.until("NetStream.Unpublish.Success")
        assert not await peer.closed(1.1)
        assert (await peer.publish_again(KEY)).code == STARTED


async def test_tls_that_is_never_finished_is_closed(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path)
    async with running(tls=tls_context(cert, key), handshake=0.3) as lab:
        async with connected(lab.listener.port) as silent, connected(lab.listener.port) as half:
            await half.send(b"\x16\x03\x01\x02\x00")
            assert await silent.closed()
            assert await half.closed()
        async with connected(lab.listener.port) as plain:
            await plain.send(b"\x03" + bytes(1536))
            assert await plain.closed()
        assert lab.listener.connections == 0
