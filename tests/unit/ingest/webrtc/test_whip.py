"""WHIP pushes: admission, offers, and release of publisher, quota and session at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from gateway.channels.channel import Channel
from gateway.channels.stream_key import SigningSecrets
from gateway.ingest.admission import Admission, PushRequest
from gateway.ingest.services import ListenerServices
from gateway.ingest.webrtc.whip import WhipPush, WhipPushes
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.lib.refusals import Refusals
from gateway.lib.sockets import listen
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub
from gateway.live.sink import EndReason
from gateway.media.track import AccessUnit
from gateway.ports.errors import NoSuchChannel, StoreUnavailable
from gateway.ports.events import Events
from gateway.protocols.rtp import rtcp
from gateway.protocols.rtp.packetizers.packetizer import MAX_PAYLOAD, packetizer_of
from gateway.protocols.rtp.sender import rtp_packet
from gateway.settings.layers import load
from gateway.webrtc.signalling import SDP, Signalling
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.builders import FAR
from tests.support.http import Listener, Reply, serving
from tests.support.rtp_viewers import coded
from tests.support.time_outs import at_most
from tests.support.waiting import until
from tests.support.webrtc import Client, Recorder, Wire
from tests.support.whip_client import AUDIO_TYPE, VIDEO_TYPE, offer

SECRETS = SigningSecrets("a-secret")
KEY = SECRETS.sign("c1", FAR)
PATH = "/c1/whip"


class Store:
    """A `ChannelReader` with one channel. answer: cleared while the store does not answer."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked, self.answer = asyncio.Event(), asyncio.Event()
        self.answer.set()

    async def get(self, id: str) -> Channel:
        self.asked.set()
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        if id != "c1":
            raise NoSuchChannel(id)
        return builders.channel("c1", key=KEY)


class Lab:
    def __init__(self, hub: Hub, wire: Wire, tasks: Tasks, options: list[str]) -> None:
        self.hub, self.wire, self.store = hub, wire, Store()
        self.sessions = Signalling(wire.endpoint)
        settings = load(environ={}, overrides=options)
        self.admission = Admission(
            self.store, SECRETS, Events(), publishers_per_address=1, refusals=Refusals(2), monotonic=wire.clock
        )
        self.workers = WorkerPool(settings.workers, Counter(WORKER_RESTARTS))
        self.workers.limit = 0  # nothing here may need a worker
        services = ListenerServices(
            settings=settings,
            opener=listen,
            tls=None,
            tasks=tasks,
            acquire_publisher=hub.acquire_publisher,
            admission=self.admission,
            pending=cast(Any, None),
            streams=hub,
            plays=cast(Any, None),
            srt_play=cast(Any, None),
            ports=cast(Any, None),
            browser_streams=cast(Any, None),
            browser_media=cast(Any, None),
            sessions=self.sessions,
        )
        self.whip = WhipPushes(services, self.workers)
        self.listener: Listener

    async def post(self, client: Client, target: str = f"{PATH}?sign={KEY}", body: str = "", **options: Any) -> Reply:
        body = body or offer(client, "sendonly", **{"audio": False, **options})
        async with self.listener.connect() as wire:
            await wire.send(
                f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Type: {SDP}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            )
            return await wire.reply()

    async def ask(self, method: str, path: str) -> int:
        async with self.listener.connect() as wire:
            return (await wire.get(path, method, If_Match="*", Content_Length="0")).status

    async def open(self, client: Client | None = None, **options: Any) -> tuple[Client, str]:
        """Opens a session; returns the connected publisher and the path of the session."""
        client = client or Client()
        reply = await self.post(client, **options)
        assert reply.status == 201, reply.text
        lines = reply.text.split("\r\n")
        found = {name: value for name, _, value in (line.partition(":") for line in lines)}
        client.remote = found["a=ice-ufrag"], found["a=ice-pwd"]
        client.address = ("192.0.2.77", 5000 + len(self.wire.clients))
        self.wire.clients.append(client)
        for _ in range(20):
            client.send_check()
            await self.wire.exchange()
            if client.connected:
                return client, reply.headers["location"]
            self.pass_time(0.1)
        raise AssertionError("not connected")

    async def push(self, client: Client, unit: AccessUnit, sequence: int) -> int:
        """Sends one picture. Returns the next sequence number."""
        packetizer = packetizer_of(unit.track)
        assert packetizer is not None
        payloads = packetizer.split(unit.payload, MAX_PAYLOAD, unit.key)
        for index, payload in enumerate(payloads):
            marker = index == len(payloads) - 1
            client.send_rtp(rtp_packet(VIDEO_TYPE, marker, sequence + index, unit.dts * 90, 77, payload))
        await self.wire.exchange()
        return sequence + len(payloads)

    async def live(self) -> tuple[Client, str]:
        """A publisher that has already sent a key frame."""
        client, path = await self.open()
        await self.push(client, coded(0, True), 1)
        stream = self.hub.find("c1")
        assert stream is not None and stream.tracks is not None
        return client, path

    def pass_time(self, seconds: float) -> None:
        self.wire.clock.now += seconds
        self.wire.endpoint.tick(self.wire.clock())

    async def assert_ended(self, client: Client, path: str) -> None:
        """Asserts that the client got a goodbye and a close, the session is gone, and all resources are free."""
        await self.wire.exchange()
        assert client.closed
        assert any(isinstance(item, rtcp.Bye) for data in client.rtcp for item in rtcp.parse(data))
        assert [await self.ask(method, path) for method in ("DELETE", "PATCH")] == [404, 404]
        self.assert_nothing_is_held()

    def assert_nothing_is_held(self) -> None:
        assert self.admission.connections["127.0.0.1"] == 0
        assert not len(self.sessions) and not self.wire.endpoint.peers
        stream = self.hub.find_recent("c1")
        assert stream is None or stream.publisher is None


@asynccontextmanager
async def serving_pushes(
    *options: str, linger: float = 10.0, takeover: float = 2.0, **fields: Any
) -> AsyncIterator[Lab]:
    hub, wire = builders.hub(linger=linger, takeover_after=takeover), Wire(**fields)
    wire.clock.now = time.monotonic()
    crashes: list[str] = []
    async with Tasks("test", lambda name, error: crashes.append(f"{name}: {error!r}")) as tasks:
        lab = Lab(hub, wire, tasks, list(options))
        respond = lambda r: lab.whip.respond(r, "" if r.path == "/whip" else "c1")  # noqa: E731
        async with serving(respond, hidden=("POST", "PATCH", "DELETE")) as listener:
            lab.listener = listener
            yield lab
            hub.drain()
        await hub.drained()
        await wire.endpoint.close()
        lab.assert_nothing_is_held()
    assert not crashes


async def test_a_push_is_published_and_its_end_frees_all_resources() -> None:
    async with serving_pushes() as lab:
        client, path = await lab.live()
        stream = lab.hub.find("c1")
        assert stream is not None and stream.publisher is not None and stream.publisher.on_air.protocol == "whip"
        assert lab.admission.connections["127.0.0.1"] == 1
        assert await lab.ask("DELETE", path) == 200
        await lab.wire.exchange()
        assert client.closed
        assert await lab.ask("DELETE", path) == 404
        lab.assert_nothing_is_held()


@pytest.mark.parametrize("way", ["goodbye", "close_notify"])
async def test_a_publisher_that_disconnects_frees_all_resources(way: str) -> None:
    async with serving_pushes() as lab:
        client, path = await lab.live()
        if way == "goodbye":
            client.send_rtcp(rtcp.receiver_report(1, (), "x") + rtcp.bye(77))
        else:
            client.close()
        await lab.wire.exchange()
        assert await lab.ask("PATCH", path) == 404
        lab.assert_nothing_is_held()


async def test_a_push_ends_when_all_its_sources_have_said_goodbye() -> None:
    """Browsers send BYE for one source if the page mutes it, and use this source again later."""
    async with serving_pushes() as lab:
        client, path = await lab.open(audio=True)

        async def say_goodbye(ssrc: int) -> None:
            client.send_rtcp(rtcp.receiver_report(ssrc, (), "x") + rtcp.bye(ssrc))
            await lab.wire.exchange()

        await say_goodbye(77)
        client.send_rtp(rtp_packet(AUDIO_TYPE, True, 1, 0, 78, b"\xf8\xff\xfe"))
        sequence = await lab.push(client, coded(0, True), 1)
        stream = lab.hub.find("c1")
        assert stream is not None
        pictures = []
        for ssrc, at in ((99, 40), (78, 80), (78, 120)):
            await say_goodbye(ssrc)
            sequence = await lab.push(client, coded(at), sequence)
            pictures.append(len(list(stream.gop.units())))
        assert pictures == [2, 3, 4]
        await say_goodbye(77)
        await lab.assert_ended(client, path)


async def test_a_source_that_sends_again_after_its_goodbye_keeps_the_push() -> None:
    async with serving_pushes() as lab:
        client, path = await lab.open(audio=True)
        sequence = await lab.push(client, coded(0, True), 1)
        for number, ssrc in enumerate((78, 77)):
            client.send_rtp(rtp_packet(AUDIO_TYPE, True, 1 + number, 960 * number, 78, b"\xf8\xff\xfe"))
            sequence = await lab.push(client, coded(40 + 40 * number), sequence)
            client.send_rtcp(rtcp.receiver_report(ssrc, (), "x") + rtcp.bye(ssrc))
            await lab.wire.exchange()
        assert not client.closed and len(lab.sessions) == 1
        assert await lab.ask("DELETE", path) == 200


@pytest.mark.parametrize("reason", list(EndReason))
async def test_an_evicted_push_is_closed_and_its_later_packets_are_ignored(reason: EndReason) -> None:
    async with serving_pushes() as lab:
        client, path = await lab.live()
        stream = lab.hub.find("c1")
        lab.hub.end("c1", reason)
        await lab.assert_ended(client, path)
        before = stream.gop.units() if stream is not None else []
        await lab.push(client, coded(40), 10)
        client.send_check()
        await lab.wire.exchange()
        assert stream is not None and list(stream.gop.units()) == list(before)
        assert lab.hub.find("c1") is None
        again, _ = await lab.live()  # the key is still valid, as for RTMP
        assert not again.closed


async def test_an_eviction_before_the_handshake_frees_all_resources() -> None:
    async with serving_pushes() as lab:
        reply = await lab.post(Client())
        assert reply.status == 201
        lab.hub.end("c1", EndReason.KICKED)
        lab.assert_nothing_is_held()
        assert await lab.ask("DELETE", reply.headers["location"]) == 404


async def test_a_push_that_never_connects_frees_all_resources() -> None:
    async with serving_pushes(connect_timeout=5) as lab:
        assert (await lab.post(Client())).status == 201
        refused = await lab.post(Client())
        assert refused.status == 503 and refused.headers["retry-after"], "one publisher of an address is allowed"
        lab.pass_time(5)
        lab.assert_nothing_is_held()
        await lab.live()


async def test_a_wrong_certificate_fingerprint_ends_the_push() -> None:
    async with serving_pushes() as lab:
        client = Client()
        body = offer(client, "sendonly", audio=False).replace(client.fingerprint[1], Client().fingerprint[1])
        await lab.open(client=client, body=body)  # it finishes its part of the handshake
        assert lab.wire.endpoint.counters.ended["wrong_fingerprint"] == 1
        lab.assert_nothing_is_held()
        await lab.live()


async def test_a_new_push_replaces_a_silent_one() -> None:
    async with serving_pushes(takeover=0.0) as lab:
        lab.admission.connections._limit = 2
        first, path = await lab.live()
        await asyncio.sleep(0.01)
        second, _ = await lab.live()
        await lab.wire.exchange()
        assert first.closed and not second.closed
        assert await lab.ask("DELETE", path) == 404
        assert lab.admission.connections["127.0.0.1"] == 1


async def test_a_slash_at_the_end_of_the_address_changes_nothing() -> None:
    """Addresses of SRS have one."""
    async with serving_pushes() as lab:
        reply = await lab.post(Client(), f"{PATH}/?sign={KEY}")
        assert reply.status == 201, reply.text
        assert reply.headers["location"].startswith(f"{PATH}/") and "//" not in reply.headers["location"]
        assert await lab.ask("DELETE", reply.headers["location"]) == 200


async def test_a_push_to_a_stream_in_use_is_409_and_takes_no_quota() -> None:
    async with serving_pushes(takeover=60.0) as lab:
        lab.admission.connections._limit = 2
        await lab.live()
        for _ in range(3):
            assert (await lab.post(Client())).status == 409
        assert lab.admission.connections["127.0.0.1"] == 1
        assert len(lab.sessions) == 1


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (PATH, 401),
        (f"{PATH}?sign=wrong", 401),
        (f"{PATH}?sign={SECRETS.sign('other', FAR)}", 401),
        (f"{PATH}?sign={SECRETS.sign('c1', 1_000_000_000)}", 401),
        (f"{PATH}?sign={KEY}&input=unknown", 401),
        (f"/whip?sign={KEY}", 401),
    ],
)
async def test_a_wrong_key_is_401_and_takes_no_resources(target: str, status: int) -> None:
    async with serving_pushes() as lab:
        reply = await lab.post(Client(), target)
        assert (reply.status, reply.headers["www-authenticate"]) == (status, "Bearer")
        assert KEY not in reply.text
        lab.assert_nothing_is_held()


async def test_too_many_wrong_keys_are_429_but_a_valid_one_is_accepted() -> None:
    async with serving_pushes() as lab:
        statuses = [(await lab.post(Client(), f"{PATH}?sign=wrong")).status for _ in range(4)]
        assert (statuses[0], statuses[-1]) == (401, 429)
        assert (await lab.post(Client())).status == 201


async def test_an_unavailable_store_is_503() -> None:
    async with serving_pushes() as lab:
        lab.store.error = StoreUnavailable("away")
        reply = await lab.post(Client())
        assert reply.status == 503 and reply.headers["retry-after"]
        lab.assert_nothing_is_held()


async def test_a_client_that_disconnects_during_the_store_request_holds_no_resources() -> None:
    async with serving_pushes() as lab:
        lab.store.answer.clear()
        asking = asyncio.create_task(lab.post(Client()))
        await lab.store.asked.wait()
        asking.cancel()
        await until(lambda: not len(lab.listener.server))
        lab.store.answer.set()
        await asyncio.sleep(0)
        lab.assert_nothing_is_held()


async def test_a_full_webrtc_endpoint_is_503_and_frees_the_stream() -> None:
    async with serving_pushes(half_open=1, linger=0.0) as lab:
        other = Client()
        lab.wire.endpoint.open_peer(other.offer, Recorder(), "192.0.2.1", has_key=True)
        for _ in range(2):
            reply = await lab.post(Client())
            assert reply.status == 503 and reply.headers["retry-after"]
            assert lab.admission.connections["127.0.0.1"] == 0
            assert lab.hub.find("c1") is None
        lab.pass_time(10)
        assert (await lab.post(Client())).status == 201


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        (lambda text: text.replace("H264", "H999"), 406, "H.264"),
        (lambda text: text.replace("opus", "speex"), 406, "Opus"),
        (lambda text: text.replace("H264", "VP8").replace("opus/48000/2", "PCMU/8000"), 406, "VP8 needs Opus"),
        (lambda text: text.replace("sendonly", "recvonly"), 406, ""),
        (lambda text: text.replace("sendonly", "inactive"), 406, ""),
        (lambda text: bundled(text) + again(text, "video"), 422, "video"),
        (lambda text: bundled(text) + again(text, "audio"), 422, "audio"),
        (lambda text: text.replace("a=rtcp-mux\r\n", ""), 400, "rtcp-mux"),
        (lambda text: text.replace("sha-256", "sha-1"), 400, "fingerprint"),
        (lambda text: text.replace("a=setup:actpass", "a=setup:holdconn"), 400, "DTLS"),
        (lambda text: text.replace("a=group", "a=grp"), 400, "BUNDLE"),
    ],
)
async def test_an_offer_that_cannot_be_accepted_completely_is_refused(change: Any, status: int, word: str) -> None:
    """RFC 9725 §4.4.2 and §4.4.3: one track of each kind, and all offered tracks must be usable."""
    async with serving_pushes() as lab:
        reply = await lab.post(Client(), body=change(offer(Client(), "sendonly")))
        assert (reply.status, word in reply.text) == (status, True), reply.text
        lab.assert_nothing_is_held()


def bundled(text: str) -> str:
    """The offer with two more ids in its bundle."""
    return text.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0 1 0x 1x")


def again(text: str, kind: str) -> str:
    """A second media section of a kind."""
    part = text[text.index(f"m={kind}") :]
    part = part[: part.index("m=", 2)] if "m=" in part[2:] else part
    return part.replace("a=mid:0", "a=mid:0x").replace("a=mid:1", "a=mid:1x")


@pytest.mark.parametrize("audio", [False, True])
async def test_a_push_without_media_is_ended(monkeypatch: pytest.MonkeyPatch, audio: bool) -> None:
    monkeypatch.setattr("gateway.ingest.webrtc.whip._CHECK_SECONDS", 0.01)
    async with serving_pushes("limits.first_media=0.05") as lab:
        client, path = await lab.open(audio=audio)
        await until(lambda: not len(lab.sessions))
        await lab.assert_ended(client, path)


async def test_a_push_whose_media_stops_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.ingest.webrtc.whip._CHECK_SECONDS", 0.01)
    async with serving_pushes(f"rtmp.idle_timeout={at_most(1)}") as lab:
        client, path = await lab.live()
        await until(lambda: not len(lab.sessions))
        await lab.assert_ended(client, path)


async def test_malformed_packets_of_a_publisher_are_ignored() -> None:
    async with serving_pushes() as lab:
        client, _ = await lab.live()
        for number, size in enumerate((0, 1, 3, 11)):
            client.send_rtp(rtp_packet(VIDEO_TYPE, True, 20 + number, 0, 77, b"\xff" * size))
        client.send_rtp(rtp_packet(5, False, 30, 0, 77, b"unknown payload type"))
        client.send_rtcp(b"\x80\xc8\xff\xff" + b"\0" * 4)
        client.send_rtcp(b"\x81\xc9\x00\x01" + b"\0" * 4)
        await lab.wire.exchange()
        assert not client.closed and len(lab.sessions) == 1


async def test_releasing_a_push_twice_frees_its_quota_once() -> None:
    async with serving_pushes() as lab:
        push = lab.whip.services.make_push(PushRequest("c1", KEY, "192.0.2.1", "whip"))
        await push.begin(lambda reason: None)
        assert lab.admission.connections["192.0.2.1"] == 1
        handler = WhipPush(lab.whip, push)
        handler.release("refused")
        handler.release("refused")
        assert lab.admission.connections["192.0.2.1"] == 0
