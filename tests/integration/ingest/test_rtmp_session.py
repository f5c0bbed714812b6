"""The RTMP listener in this process, with stores and outputs that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.channels.addresses import OpenPorts
from gateway.channels.channel import Channel
from gateway.channels.stream_key import SigningSecrets
from gateway.ingest import admission
from gateway.ingest.admission import Admission
from gateway.ingest.rtmp import session as rtmp
from gateway.ingest.rtmp.listener import RtmpListener
from gateway.ingest.rtmp.session import RtmpSession
from gateway.ingest.services import ListenerServices
from gateway.lib.certificates import Certificate
from gateway.lib.refusals import Refusals
from gateway.lib.sockets import listen
from gateway.lib.tasks import Tasks
from gateway.listeners.pending_connections import EARLY_BYTES, EARLY_READ, PendingConnections
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.sink import EndReason
from gateway.media.track import AccessUnit
from gateway.packaging.feed import Feed
from gateway.packaging.rtmp_output import RtmpOutput
from gateway.playback.play import PlayAdmission
from gateway.playback.protection import PlaybackProtection
from gateway.ports.errors import NoSuchChannel, StoreUnavailable
from gateway.ports.events import Events
from gateway.settings.layers import load
from tests.support import builders
from tests.support.builders import FAR
from tests.support.rtmp import AUDIO, VIDEO, Peer, command, connected, message, picture, self_signed, trusting_anyone
from tests.support.time_outs import at_most
from tests.unit.live.test_unusual_bodies import Converter

STARTED, FAILED = "NetStream.Publish.Start", "NetStream.Publish.Failed"
SECRETS = SigningSecrets("a-secret")
PROTECTION = PlaybackProtection(auth="none", referers=(), secrets=SECRETS, cloudfront=None, refusals_per_minute=0)
KEY = f"c1?sign={SECRETS.sign('c1', FAR)}"


class Store:
    """A `ChannelReader` with one channel. `asked` is set by a request, and `answer` releases the answer."""

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
        """Starts a publish whose key the store is still checking."""
        self.store.answer.clear()
        await peer.handshake()
        await peer.connect()
        await peer.command("publish", 5, None, KEY, "live", stream=1)
        await asyncio.wait_for(self.store.asked.wait(), at_most(5))

    def session(self) -> RtmpSession:
        """Returns the only connection."""
        (session,) = self.listener._sessions
        return session

    async def until(self, condition: Callable[[], object], what: str) -> None:
        try:
            async with asyncio.timeout(at_most(10)):
                while not condition():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"never: {what}") from None

    async def empty(self) -> None:
        """Returns once no connection is left."""
        async with asyncio.timeout(at_most(5)):
            while self.listener.connections:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(
    *,
    tls: ssl.SSLContext | None = None,
    output: object = None,
    pending: PendingConnections | None = None,
    proxies: Sequence[str] = (),
    handshake: float = 1.0,
) -> AsyncIterator[Lab]:
    def make(stream: object) -> object:
        return output or RtmpOutput(lambda rendering: Feed(stream, rendering, 0.05, 30))  # type: ignore[arg-type]

    hub = builders.hub([OutputSpec("rtmp", make, lambda s: True, listed=False)], linger=0.0)  # type: ignore[arg-type]
    store, events, crashes = Store(), Events(), []
    options = {"rtmp.ping_interval": 10, "rtmp.ping_timeout": 20, "rtmp.idle_timeout": 60}
    options |= {"limits.handshake": handshake, "stream.wait_for_publisher": 1}
    options["rtmp.proxy_from"] = ",".join(proxies)
    settings = load(environ={}, overrides=[f"{name}={value}" for name, value in options.items()])

    async with Tasks("test", lambda name, error: crashes.append(f"{name}: {error!r}")) as tasks:
        shared = ListenerServices(
            settings=settings,
            opener=listen,
            tls=tls,
            tasks=tasks,
            acquire_publisher=hub.acquire_publisher,
            admission=Admission(store, SECRETS, events, publishers_per_address=0, refusals=Refusals(0)),
            pending=PendingConnections() if pending is None else pending,
            streams=hub,
            plays=PlayAdmission(channels=store, protection=PROTECTION, wait=1),
            srt_play=cast(Any, None),
            browser_streams=cast(Any, None),
            browser_media=cast(Any, None),
            sessions=cast(Any, None),
            ports=OpenPorts,
        )
        listener = RtmpListener(shared, "127.0.0.1", 0, tls)
        await listener.start()
        tasks.start(hub.run())
        tasks.start(listener.run())
        yield Lab(hub, store, listener, crashes)
        listener.close()
        await listener.hang_up(grace=0.1)
    assert crashes == []


async def test_a_store_that_never_answers_ends_the_publish_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert admission.STORE_SECONDS < 8, "what clients are promised"
    monkeypatch.setattr(admission, "STORE_SECONDS", 0.2)
    async with running() as lab, connected(lab.listener.port) as peer:
        await lab.asking(peer)
        said = await peer.until()
        assert (said.level, said.code) == ("error", FAILED)
        assert await peer.closed()


async def test_an_unavailable_store_ends_the_publish_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as lab, connected(lab.listener.port) as peer:
        lab.store.error = StoreUnavailable("it is locked")
        said = await peer.publish(KEY)
        assert (said.level, said.code) == ("error", FAILED)
        assert "locked" not in said.info["description"]
        assert await peer.closed()


async def test_a_protocol_violation_during_the_key_check_opens_no_stream() -> None:
    async with running() as lab, connected(lab.listener.port) as peer:
        await lab.asking(peer)
        await peer.send(b"\xff" * 100)
        assert await peer.closed()
        lab.store.answer.set()
        await peer.reset()
        await lab.empty()
        assert list(lab.hub) == []


async def test_a_connection_that_ends_in_the_read_of_its_publish_leaves_no_coroutine() -> None:
    """The publish is cancelled before its first step. A coroutine that was never awaited fails the test."""
    async with running() as lab, connected(lab.listener.port) as peer:
        await peer.handshake()
        await peer.connect()
        session = lab.session()
        session.bytes_received(command("publish", 5, None, KEY, "live", stream=1))
        session.shutdown()
        await lab.empty()
        assert not lab.store.asked.is_set()


async def test_a_disconnect_during_the_key_check_leaves_no_stream() -> None:
    async with running() as lab, connected(lab.listener.port) as peer:
        await lab.asking(peer)
        await peer.reset()
        await lab.empty()
        lab.store.answer.set()
        await asyncio.sleep(0)
        assert list(lab.hub) == []


async def test_data_sent_during_the_key_check_wait_in_the_kernel() -> None:
    async with running() as lab, connected(lab.listener.port) as peer:
        await lab.asking(peer)

        async def send() -> None:
            await peer.chunk_size(65536)
            await peer.headers()
            for n in range(60):
                await peer.body(VIDEO, picture(n, n % 10 == 0, 60_000), n * 40)

        sending = asyncio.create_task(send())
        session = lab.session()
        await lab.until(lambda: session._core.held > EARLY_BYTES, "much is held")
        received = session._core.received
        await asyncio.sleep(0.1)  # the server must read nothing more in this time
        assert session._core.received == received, "nothing is read any more"
        assert session._core.held < 65_536
        lab.store.answer.set()
        await asyncio.wait_for(sending, at_most(10))
        (stream,) = lab.hub
        await lab.until(lambda: stream.received.bytes >= 60 * 60_000, "all of it is published")


async def test_data_sent_during_the_key_check_of_a_second_publish_wait_too() -> None:
    async with running() as lab, connected(lab.listener.port) as peer:
        await peer.publish(KEY)
        await peer.headers()
        await peer.film([0, 40])
        await peer.command("FCUnpublish", 6, None, "c1")
        await peer.until("NetStream.Unpublish.Success")
        lab.store.answer.clear()
        lab.store.asked.clear()
        await peer.command("publish", 7, None, KEY, "live", stream=1)
        await asyncio.wait_for(lab.store.asked.wait(), at_most(5))

        async def send() -> None:
            await peer.headers()
            for n in range(60):
                await peer.body(VIDEO, picture(n, n % 10 == 0, 60_000), 80 + n * 40)

        sending = asyncio.create_task(send())
        await lab.until(lambda: lab.session()._core.held > EARLY_BYTES, "much is held")
        lab.store.answer.set()
        assert (await peer.until(STARTED)).code == STARTED
        await asyncio.wait_for(sending, at_most(10))
        (stream,) = lab.hub
        await lab.until(lambda: stream.received.bytes >= 60 * 60_000, "all of it is published")


async def test_a_publisher_may_close_and_publish_again_during_the_key_check() -> None:
    """All commands wait for the first answer, and then run in order."""
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


async def test_an_evicted_push_closes_its_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Converter] = []

    def make(deliver: Callable[[AccessUnit], None]) -> Converter:
        made.append(Converter(deliver))
        return made[-1]

    monkeypatch.setattr(ListenerServices, "sound_converter", lambda services, stream: make)
    async with running() as lab, connected(lab.listener.port) as peer:
        await peer.publish(KEY)
        await peer.body(AUDIO, b"\xb6" + bytes(40), 0)  # Speex
        await lab.until(lambda: made, "the sound is converted")
        lab.hub.end("c1", EndReason.KICKED)
        assert [converter.closed for converter in made] == [1]
        await lab.empty()
        assert [converter.closed for converter in made] == [1]


async def test_a_player_of_a_failed_output_gets_an_error() -> None:
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


async def test_a_publisher_may_pause_before_it_publishes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit counts the time without a request, not the age of the connection."""
    monkeypatch.setattr(rtmp, "MAX_IDLE_SECONDS", 1.5)
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


async def test_an_unfinished_tls_handshake_is_closed(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path)
    async with running(tls=Certificate.read(cert, key).context, handshake=0.3) as lab:
        async with connected(lab.listener.port) as silent, connected(lab.listener.port) as half:
            await half.send(b"\x16\x03\x01\x02\x00")
            assert await silent.closed()
            assert await half.closed()
        async with connected(lab.listener.port) as plain:
            await plain.send(b"\x03" + bytes(1536))
            assert await plain.closed()
        assert lab.listener.connections == 0


# ---- floods ----


async def _turns_until_all_is_received(lab: Lab, sent: int) -> int:
    """Returns the turns of the loop until the only connection has received `sent` bytes."""
    session, turns = lab.session(), 0
    async with asyncio.timeout(at_most(20)):
        while session._core.received < sent:
            await asyncio.sleep(0)
            turns += 1
    return turns


async def test_data_of_an_unauthenticated_peer_are_read_in_small_pieces() -> None:
    flood = command("deleteStream", 0, None, 1.0) * 2000
    async with running() as lab, connected(lab.listener.port) as peer:
        await peer.handshake()
        await peer.connect()
        reads: list[int] = []
        session = lab.session()
        handle = session.bytes_received

        def counted(data: bytes) -> None:
            reads.append(len(data))
            handle(data)

        session.bytes_received = counted  # type: ignore[method-assign]
        before = session._core.received
        await peer.send(flood)
        await _turns_until_all_is_received(lab, before + len(flood))
        assert max(reads) <= EARLY_READ
        assert len(reads) >= len(flood) // EARLY_READ


async def test_other_connections_are_served_while_one_floods() -> None:
    """The flood is larger than the loop's work for others, so it is not over when they are served."""
    flood = command("foo", 0, None) * 100_000
    async with running() as lab, connected(lab.listener.port) as peer:
        await peer.handshake()
        await peer.connect()
        flooder = lab.session()
        sending = asyncio.create_task(peer.send(flood))
        await lab.until(lambda: flooder._core.received > 20_000, "the flood has begun")
        async with connected(lab.listener.port) as other:
            assert (await other.publish(KEY)).code == STARTED
        assert flooder._core.received < len(flood)
        sending.cancel()


async def test_a_client_that_sends_endless_commands_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtmp, "MESSAGES_PER_SECOND", 0)
    monkeypatch.setattr(rtmp, "MESSAGES_BURST", 50)
    async with running() as lab, connected(lab.listener.port) as peer, connected(lab.listener.port) as modest:
        for each, count in ((peer, 60), (modest, 30)):
            await each.handshake()
            await each.connect()
            await each.send(command("foo", 0, None) * count)
        assert await peer.closed()
        assert (await modest.publish_again(KEY)).code == STARTED


async def test_a_flooding_publisher_gets_a_reason_before_it_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtmp, "MESSAGES_PER_SECOND", 0)
    monkeypatch.setattr(rtmp, "MESSAGES_BURST", 50)
    async with running() as lab, connected(lab.listener.port) as peer:
        await peer.publish(KEY)
        await peer.headers()
        await peer.send(message(4, b"\0\6\0\0\0\1", csid=2) * 60)
        said = await peer.until(FAILED)
        assert "too many messages" in said.info["description"]
        assert await peer.closed()


async def test_media_do_not_count_as_a_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtmp, "MESSAGES_PER_SECOND", 0)
    monkeypatch.setattr(rtmp, "MESSAGES_BURST", 50)
    async with running() as lab, connected(lab.listener.port) as peer:
        await peer.publish(KEY)
        await peer.headers()
        await peer.film(range(0, 20_000, 40))
        (stream,) = lab.hub
        await lab.until(lambda: stream.received.bytes > 400 * 40, "it is published")
        assert not await peer.closed(1.2)


async def test_a_player_that_pauses_and_resumes_too_often_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtmp, "REQUESTS_PER_SECOND", 0)
    monkeypatch.setattr(rtmp, "REQUESTS_BURST", 3)
    async with running() as lab, connected(lab.listener.port) as peer, connected(lab.listener.port) as player:
        await peer.publish(KEY)
        await peer.headers()
        await peer.film([0, 40])
        assert (await player.play("c1")).code == "NetStream.Play.Start"
        for paused in (True, False, True, False):
            with contextlib.suppress(ConnectionError):
                await player.command("pause", 0, None, paused, 0, stream=1)
        assert await player.closed()
        await lab.until(lambda: lab.listener.connections == 1, "it is gone")


async def test_a_client_that_sends_endlessly_without_publishing_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rtmp, "NO_MEDIA_BYTES", 100_000)
    async with running() as lab, connected(lab.listener.port) as peer:
        await peer.handshake()
        await peer.connect()
        chunk_size = message(1, (128).to_bytes(4, "big"), csid=2)

        async def send() -> None:
            while True:
                await peer.send(chunk_size * 2000)
                await asyncio.sleep(0.05)

        sending = asyncio.create_task(send())
        assert await peer.closed()
        sending.cancel()
        await asyncio.wait((sending,))
        await lab.empty()


async def test_data_of_a_refused_peer_are_discarded_unparsed() -> None:
    async with running() as lab, connected(lab.listener.port) as peer:
        said = await peer.publish("c1?sign=wrong")
        assert said.code == "NetStream.Publish.Unauthorized"
        session = lab.session()
        received = session._core.received
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                await peer.send(message(AUDIO, bytes(60_000), csid=4, stream=1))
        assert session._core.received == received
        assert session._core.held == 0
        assert await peer.closed()


# ---- connections without a key ----


async def test_connections_are_pending_from_accept_until_they_publish_or_play() -> None:
    pending = PendingConnections(per_address=2)
    async with running(pending=pending) as lab, connected(lab.listener.port) as peer:
        await peer.publish(KEY)
        await lab.until(lambda: not len(pending), "a publisher is none of them")
        async with connected(lab.listener.port) as first, connected(lab.listener.port) as second:
            await first.handshake()
            await second.handshake()
            async with connected(lab.listener.port) as third:
                assert await third.closed()
            assert pending.refused == {"address": 1}
            await peer.headers()
            await peer.film([0, 40])
            await first.connect()
            await first.command("play", 5, None, "c1", stream=1)
            assert (await first.until("NetStream.Play.Start")).code == "NetStream.Play.Start"
            await lab.until(lambda: len(pending) == 1, "a player is none of them")
        await lab.until(lambda: not len(pending), "they are gone")
        assert pending.bytes == 0


async def test_a_silent_connection_is_closed_for_a_new_one() -> None:
    async with (
        running(pending=PendingConnections(per_address=2)) as lab,
        connected(lab.listener.port) as silent,
        connected(lab.listener.port) as other,
    ):
        await other.handshake()
        async with connected(lab.listener.port) as late:
            assert (await late.publish(KEY)).code == STARTED
            assert await silent.closed()


async def test_tls_connections_are_pending_before_the_tls_handshake(tmp_path: Path) -> None:
    pending = PendingConnections(per_address=1)
    cert, key = self_signed(tmp_path)
    async with running(tls=Certificate.read(cert, key).context, pending=pending) as lab:
        async with connected(lab.listener.port) as silent:
            await lab.until(lambda: len(pending) == 1, "it is counted")
            async with connected(lab.listener.port, tls=trusting_anyone()) as peer:
                assert await silent.closed()
                assert (await peer.publish(KEY)).code == STARTED
                await lab.until(lambda: not len(pending), "a publisher is none of them")
        await lab.empty()
        assert pending.bytes == 0


async def test_pending_connections_behind_a_proxy_count_for_the_clients_address() -> None:
    pending = PendingConnections(per_address=1)

    def header(client: str) -> bytes:
        addresses = socket.inet_aton(client) + socket.inet_aton("127.0.0.1") + bytes(4)
        return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + len(addresses).to_bytes(2, "big") + addresses

    async with running(pending=pending, proxies=["127.0.0.0/8"]) as lab, contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(connected(lab.listener.port)) for _ in range(3)]
        for peer, client in zip(peers, ("192.0.2.1", "192.0.2.1", "192.0.2.2"), strict=True):
            await peer.send(header(client))
            if peer is peers[1]:
                assert await peer.closed()
            else:
                await peer.handshake()
        assert pending.refused == {"address": 1}


async def test_an_unfinished_message_before_authentication_is_limited_by_its_received_bytes() -> None:
    """The declared size does not count: a publisher may send its first picture behind the request."""
    pending = PendingConnections(max_bytes=10_000_000)
    async with running(pending=pending) as lab, connected(lab.listener.port) as peer:
        await peer.handshake()
        await peer.connect()
        await peer.chunk_size(1 << 20)
        large = message(9, bytes(900_000), csid=6, stream=1, size=1 << 20)
        await peer.send(large[:20_000])
        await lab.until(lambda: pending.bytes > 20_000, "it is counted")
        await peer.send(large[20_000:50_000])
        assert await peer.closed()
