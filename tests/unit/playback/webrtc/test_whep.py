"""WHEP: permission, answers to offers, and the release of quota, pictures and session at each end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from gateway.channels.stream_key import SignatureUse
from gateway.lib.quota import Quota
from gateway.lib.sockets import listen
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason, SinkNeeds
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.packaging.feed import FeedCounts
from gateway.packaging.rtp.clock import AUDIO_SSRC, VIDEO_SSRC
from gateway.packaging.rtp.output import KIND, RtpOutput
from gateway.playback.play import PlayAdmission
from gateway.playback.protection import PlaybackProtection
from gateway.playback.services import PlayServices
from gateway.playback.webrtc.whep import WhepPlayback
from gateway.ports.errors import AtCapacity, OutputError
from gateway.protocols.rtp import rtcp
from gateway.protocols.sdp.sections import parse_sections
from gateway.settings.layers import load
from gateway.webrtc.signalling import SDP, Signalling
from tests.support import builders
from tests.support.builders import VIDEO
from tests.support.http import Listener, Reply, serving
from tests.support.playback import SECRETS, Channels
from tests.support.rtp_viewers import coded
from tests.support.waiting import until
from tests.support.webrtc import Client, Wire
from tests.support.whip_client import AUDIO_TYPE, offer

PATH = "/c1/whep"
OPUS = MediaTrack(Kind.AUDIO, Codec.OPUS, 48_000, b"")


class Media:
    """A BrowserMedia that gives the stream itself, or `pictures`.

    error: raised instead. waits: delays each answer.
    """

    def __init__(self) -> None:
        self.acquired = self.released = 0
        self.pictures: Stream | None = None
        self.error: Exception | None = None
        self.waits: asyncio.Future[None] | None = None
        self.asked = asyncio.Event()

    async def acquire(self, stream: Stream, playable: Collection[Codec]) -> Stream:
        self.asked.set()
        if self.waits is not None:
            await self.waits
        if self.error is not None:
            raise self.error
        self.acquired += 1
        return self.pictures or stream

    def smaller(self, stream: Stream, pictures: Stream) -> list[Stream]:
        return []

    def release(self, stream: Stream, pictures: Stream) -> None:
        self.released += 1


class Lab:
    def __init__(self, hub: Hub, wire: Wire, media: Media, channels: Channels, auth: str, wait: float) -> None:
        self.hub, self.wire, self.media, self.channels = hub, wire, media, channels
        self.sessions = Signalling(wire.endpoint)
        protection = PlaybackProtection(
            auth=auth, referers=(), secrets=SECRETS, cloudfront=None, refusals_per_minute=100
        )
        self.connections = Quota(2)
        plays = PlayAdmission(channels=channels, protection=protection, wait=wait, connections=self.connections)
        settings = load(environ={})
        services = PlayServices(
            settings=settings,
            opener=listen,
            tls=None,
            tasks=cast(Any, None),
            pending=cast(Any, None),
            streams=hub,
            plays=plays,
            srt_play=cast(Any, None),
            browser_streams=hub,
            browser_media=media,
            ports=cast(Any, None),
            sessions=self.sessions,
        )
        self.whep = WhepPlayback(services)
        self.listener: Listener

    def live(self, audio: MediaTrack | None = None, video: MediaTrack | None = VIDEO) -> StreamPublisher:
        publisher = builders.publish(self.hub)
        publisher.set_tracks(video, audio, {})
        if video is not None:
            publisher.push(coded(0, True), time.monotonic())
        return publisher

    async def post(self, client: Client, query: str = "", *, more: str = "", **options: Any) -> Reply:
        body = offer(client, "recvonly", **options) + more
        head = f"POST {PATH}{query} HTTP/1.1\r\nHost: a\r\nContent-Type: {SDP}\r\nContent-Length: {len(body)}\r\n\r\n"
        async with self.listener.connect() as wire:
            await wire.send(head + body)
            return await wire.reply()

    async def watch(self, **options: Any) -> Client:
        """A connected viewer."""
        client = Client()
        reply = await self.post(client, **options)
        assert reply.status == 201, reply.text
        await self.connect(client, reply)
        return client

    async def connect(self, client: Client, reply: Reply) -> None:
        lines = reply.text.split("\r\n")
        found = {name: value for name, _, value in (line.partition(":") for line in lines)}
        client.remote = found["a=ice-ufrag"], found["a=ice-pwd"]
        client.address = ("192.0.2.77", 5000 + len(self.wire.clients))
        self.wire.clients.append(client)
        for _ in range(20):
            client.send_check()
            await self.wire.exchange()
            if client.connected:
                return
            self.wire.clock.now += 0.1
            self.wire.endpoint.tick(self.wire.clock())
        raise AssertionError("not connected")

    @property
    def places(self) -> int:
        """The sessions that count for the address, besides open connections of HTTP."""
        return self.connections["127.0.0.1"] - len(self.listener.server)

    def assert_nothing_is_held(self) -> None:
        assert self.media.acquired == self.media.released
        assert not len(self.sessions) and not self.wire.endpoint.peers
        assert self.places == 0


@asynccontextmanager
async def serving_viewers(auth: str = "none", wait: float = 0.0, **fields: Any) -> AsyncIterator[Lab]:
    counts = FeedCounts()
    spec = OutputSpec(KIND, lambda s: RtpOutput(s, lambda feed: _attach(s, feed), counts), lambda s: True)
    lab = Lab(builders.hub([spec], linger=0.0), Wire(**fields), Media(), Channels(builders.channel()), auth, wait)
    async with serving(
        lambda r: lab.whep.respond(r, "c1"), hidden=("POST", "PATCH", "DELETE"), of_address=lab.connections
    ) as listener:
        lab.listener = listener
        yield lab
    lab.hub.drain()
    await lab.hub.drained()
    await lab.wire.exchange()
    await lab.wire.endpoint.close()
    lab.assert_nothing_is_held()


def _attach(stream: Stream, feed: Any) -> Any:
    stream.attach(feed, SinkNeeds(cache=False))
    return lambda: stream.detach(feed)


def viewers(publisher: StreamPublisher) -> int:
    return publisher.stream.viewers[KIND]


async def test_a_viewer_gets_its_requested_tracks_and_releases_everything_at_the_end() -> None:
    async with serving_viewers() as lab:
        publisher = lab.live(OPUS)
        await until(lambda: publisher.stream.output(KIND))
        client = await lab.watch()
        assert (viewers(publisher), lab.media.acquired) == (1, 1)
        sound_only = await lab.watch(video=False)
        assert (viewers(publisher), lab.media.acquired) == (2, 1), "a listener needs no pictures"
        assert client.rtp, "the pictures since the last key frame"
        sound_only.send_rtcp(rtcp.receiver_report(1, (), "x") + rtcp.bye(99))
        await lab.wire.exchange()
        assert viewers(publisher) == 2, "another source than that of its reports has ended"
        client.close()
        sound_only.send_rtcp(rtcp.receiver_report(1, (), "x") + rtcp.bye(1))
        await lab.wire.exchange()
        assert viewers(publisher) == 0
        lab.assert_nothing_is_held()


async def test_a_viewer_uses_the_stream_from_its_offer_to_its_end() -> None:
    """A replica of the stream stays, although the viewer is counted only when it is connected."""
    async with serving_viewers() as lab:
        publisher, client = lab.live(), Client()
        await until(lambda: publisher.stream.output(KIND))
        playback, pictures = publisher.stream.playback, asyncio.get_running_loop().create_future()
        lab.media.waits = pictures
        asking = asyncio.create_task(lab.post(client))
        await lab.media.asked.wait()
        assert (playback.uses, viewers(publisher)) == (1, 0)
        pictures.set_result(None)
        reply = await asking
        assert (playback.uses, viewers(publisher)) == (1, 0)
        await lab.connect(client, reply)
        assert (playback.uses, viewers(publisher)) == (1, 1)
        client.close()
        await lab.wire.exchange()
        assert playback.uses == 0


async def test_a_slash_at_the_end_of_the_address_changes_nothing() -> None:
    async with serving_viewers() as lab:
        publisher = lab.live()
        await until(lambda: publisher.stream.output(KIND))
        reply = await lab.post(Client(), "/")
        assert reply.status == 201, reply.text
        assert reply.headers["location"].startswith(f"{PATH}/") and "//" not in reply.headers["location"]


async def test_rejected_media_of_an_offer_stay_rejected() -> None:
    async with serving_viewers() as lab:
        publisher = lab.live()
        await until(lambda: publisher.stream.output(KIND))
        data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:9\r\n"
        reply = await lab.post(Client(), more=data)
        lines = [line for line in reply.text.split("\r\n") if line.startswith("m=")]
        assert [line.split()[1] for line in lines] == ["9", "0", "0"], "pictures; no sound; no data"


async def test_the_first_medium_of_a_bundle_is_kept_for_its_transport() -> None:
    """Chromium and Safari with the policy max-bundle refuse an answer that rejects it."""
    async with serving_viewers() as lab:
        publisher, client = lab.live(OPUS, video=None), Client()
        await until(lambda: publisher.stream.output(KIND))
        reply = await lab.post(client)
        session, video, audio = parse_sections(reply.text.encode())
        assert session.value("group") == "BUNDLE 0 1"
        assert (video.port, video.value("inactive"), video.value("msid")) == (9, "", None)
        assert (audio.port, audio.value("sendonly")) == (9, "")
        assert [section.value("candidate") is not None for section in (video, audio)] == [True, False]
        await lab.connect(client, reply)
        publisher.push(AccessUnit(OPUS, 0, 0, True, 0.0, b"\xf8\xff\xfe"), time.monotonic())
        await lab.wire.exchange()
        assert [data[1] & 0x7F for data in client.rtp] == [AUDIO_TYPE]


@pytest.mark.parametrize("reason", [EndReason.KICKED, EndReason.PUBLISHER_GONE])
@pytest.mark.parametrize("kinds", [{}, {"video": False}], ids=["pictures and sound", "sound only"])
async def test_viewers_end_with_the_stream(reason: EndReason, kinds: dict[str, bool]) -> None:
    async with serving_viewers() as lab:
        publisher = lab.live(OPUS)
        await until(lambda: publisher.stream.output(KIND))
        client = await lab.watch(**kinds)
        lab.hub.end("c1", reason)
        await until(lambda: not len(lab.sessions))
        await lab.wire.exchange()
        assert client.closed
        ended = [item.sources for data in client.rtcp for item in rtcp.parse(data) if isinstance(item, rtcp.Bye)]
        assert ended == [(AUDIO_SSRC if kinds else VIDEO_SSRC,)], "the source that the viewer has got"
        lab.assert_nothing_is_held()


@pytest.mark.parametrize("kinds", [{}, {"video": False}], ids=["pictures and sound", "sound only"])
async def test_a_viewer_that_connects_after_the_end_of_the_stream_ends_at_once(kinds: dict[str, bool]) -> None:
    async with serving_viewers() as lab:
        publisher = lab.live(OPUS)
        await until(lambda: publisher.stream.output(KIND))
        client = Client()
        reply = await lab.post(client, **kinds)
        output = publisher.stream.output(KIND)
        lab.hub.end("c1", EndReason.KICKED)
        await asyncio.sleep(0)
        await lab.connect(client, reply)
        await lab.wire.exchange()
        assert client.closed
        assert isinstance(output, RtpOutput) and not output.connections
        assert viewers(publisher) == 0
        lab.assert_nothing_is_held()


async def test_a_viewer_whose_pictures_end_before_it_connects_ends_at_once() -> None:
    async with serving_viewers() as lab:
        publisher, pictures = lab.live(OPUS), builders.publish(lab.hub, "c2")
        pictures.set_tracks(VIDEO, None, {})
        await until(lambda: publisher.stream.output(KIND))
        output, client = publisher.stream.output(KIND), Client()
        lab.media.pictures = pictures.stream
        reply = await lab.post(client)
        lab.hub.end("c2", EndReason.PUBLISHER_GONE)
        await lab.connect(client, reply)
        await lab.wire.exchange()
        assert client.closed
        assert isinstance(output, RtpOutput) and not output.connections
        assert viewers(publisher) == 0
        lab.assert_nothing_is_held()


async def test_a_viewer_that_never_connects_releases_everything() -> None:
    async with serving_viewers() as lab:
        publisher = lab.live()
        await until(lambda: publisher.stream.output(KIND))
        for _ in range(2):
            assert (await lab.post(Client())).status == 201
        refused = await lab.post(Client())
        assert refused.status == 429 and refused.headers["retry-after"], "two viewers of an address are allowed"
        lab.wire.clock.now += 10
        lab.wire.endpoint.tick(lab.wire.clock())
        await until(lambda: not len(lab.listener.server))
        lab.assert_nothing_is_held()
        assert (await lab.post(Client())).status == 201
        lab.hub.end("c1", EndReason.KICKED)
        lab.wire.clock.now += 10
        lab.wire.endpoint.tick(lab.wire.clock())


@pytest.mark.parametrize(
    ("error", "status"), [(OutputError("no encoder"), 406), (AtCapacity("all are busy"), 503), (ValueError("bug"), 500)]
)
async def test_without_pictures_the_viewer_gets_the_reason_and_its_place_is_free(error: Exception, status: int) -> None:
    async with serving_viewers() as lab:
        publisher = lab.live(OPUS)
        await until(lambda: publisher.stream.output(KIND))
        lab.media.error = error
        for _ in range(3):
            reply = await lab.post(Client())
            assert reply.status == status
            assert (status == 500) or str(error) in reply.text
            lab.assert_nothing_is_held()


async def test_an_endpoint_without_room_releases_the_pictures() -> None:
    async with serving_viewers(half_open_per_address=1) as lab:
        publisher = lab.live()
        await until(lambda: publisher.stream.output(KIND))
        assert (await lab.post(Client())).status == 201
        assert (await lab.post(Client())).status == 503
        assert (lab.media.acquired, lab.media.released, len(lab.sessions)) == (2, 1, 1)
        lab.wire.clock.now += 10
        lab.wire.endpoint.tick(lab.wire.clock())


async def test_a_viewer_that_leaves_while_its_pictures_are_made_releases_its_place() -> None:
    async with serving_viewers() as lab:
        publisher = lab.live()
        await until(lambda: publisher.stream.output(KIND))
        lab.media.waits = asyncio.get_running_loop().create_future()
        asking = asyncio.create_task(lab.post(Client()))
        await lab.media.asked.wait()
        assert lab.places == 1
        asking.cancel()
        await until(lambda: lab.places == 0)
        lab.assert_nothing_is_held()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"H264": "H999"}, "H.264"),
        ({"recvonly": "sendonly"}, "codec"),
        ({"packetization-mode=1": "packetization-mode=2", "H264": "VP8"}, "VP8"),
    ],
)
async def test_an_offer_without_a_codec_of_the_stream_is_406(changes: dict[str, str], word: str) -> None:
    async with serving_viewers() as lab:
        publisher = lab.live(OPUS)
        await until(lambda: publisher.stream.output(KIND))
        body = offer(Client(), "recvonly")
        for old, new in changes.items():
            body = body.replace(old, new)
        head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: {SDP}\r\nContent-Length: {len(body)}\r\n\r\n"
        async with lab.listener.connect() as wire:
            await wire.send(head + body)
            reply = await wire.reply()
        assert (reply.status, word in reply.text) == (406, True), reply.text
        lab.assert_nothing_is_held()


@pytest.mark.parametrize(("second", "status"), [("packetization-mode=2", 406), ("packetization-mode=1", 201)])
async def test_each_video_section_releases_the_pictures_of_the_one_before(second: str, status: int) -> None:
    async with serving_viewers() as lab:
        publisher = lab.live()
        await until(lambda: publisher.stream.output(KIND))
        head, video = offer(Client(), "recvonly", audio=False).split("m=", 1)
        sections = [video.replace("packetization-mode=1", mode) for mode in ("packetization-mode=2", second)]
        body = "m=".join([head.replace("BUNDLE 0", "BUNDLE 0 1"), sections[0], sections[1].replace("mid:0", "mid:1")])
        head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: {SDP}\r\nContent-Length: {len(body)}\r\n\r\n"
        async with lab.listener.connect() as wire:
            await wire.send(head + body)
            reply = await wire.reply()
        assert reply.status == status, reply.text
        assert (lab.media.acquired, lab.media.released) == (2, 2 - len(lab.sessions))
        lab.hub.end("c1", EndReason.KICKED)
        lab.wire.clock.now += 10
        lab.wire.endpoint.tick(lab.wire.clock())


async def test_an_idle_channel_is_404_and_a_stream_without_tracks_503() -> None:
    async with serving_viewers() as lab:
        assert (await lab.post(Client())).status == 404
        lab.channels.away = True
        assert (await lab.post(Client())).status == 503
        lab.channels.away = False
        lab.assert_nothing_is_held()


async def test_a_viewer_that_waits_gets_the_stream_when_it_begins() -> None:
    async with serving_viewers(wait=10.0) as lab:
        asking = asyncio.create_task(lab.post(Client()))
        await until(lambda: len(lab.listener.server) == 1)
        publisher = lab.live()
        assert (await asking).status == 201
        lab.hub.end("c1", EndReason.KICKED)
        lab.wire.clock.now += 10
        lab.wire.endpoint.tick(lab.wire.clock())
        assert viewers(publisher) == 0


async def test_the_offer_of_a_viewer_that_waits_is_not_read() -> None:
    async with serving_viewers() as lab, lab.listener.connect() as wire:
        await wire.send(f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: {SDP}\r\nContent-Length: 60000\r\n\r\n")
        assert (await wire.reply()).status == 404


async def test_a_protected_stream_needs_a_sign_also_if_it_becomes_protected_during_the_wait() -> None:
    sign = SECRETS.sign("c1", builders.FAR, SignatureUse.PLAY)
    async with serving_viewers(wait=10.0) as lab:
        asking = asyncio.create_task(lab.post(Client()))
        await until(lambda: len(lab.listener.server) == 1)
        await asyncio.sleep(0.05)
        publisher = builders.publish(lab.hub, playAuth="sign")
        publisher.set_tracks(VIDEO, None, {})
        publisher.push(coded(0, True), time.monotonic())
        refused = await asking
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        wrong = await lab.post(Client(), "?sign=1-2")
        assert (wrong.status, wrong.headers["www-authenticate"]) == (401, "Bearer")
        assert (await lab.post(Client(), f"?sign={sign}")).status == 201
        lab.hub.end("c1", EndReason.KICKED)
        lab.wire.clock.now += 10
        lab.wire.endpoint.tick(lab.wire.clock())
        lab.assert_nothing_is_held()


async def test_invalid_feedback_of_a_viewer_is_ignored() -> None:
    async with serving_viewers() as lab:
        publisher = lab.live(OPUS)
        await until(lambda: publisher.stream.output(KIND))
        client = await lab.watch()
        for packet in (
            rtcp.receiver_report(1, (), "x") + rtcp.nack(1, 999, [1, 2, 3]),  # of an SSRC that nobody sends
            rtcp.receiver_report(1, (), "x") + rtcp.pli(1, 999),
            b"\x80\xc9\x00\x00" + b"\0" * 4,
            b"\x80\xc8\xff\xff" + b"\0" * 4,
        ):
            client.send_rtcp(packet)
        await lab.wire.exchange()
        assert viewers(publisher) == 1 and not client.closed
        client.close()
        await lab.wire.exchange()
