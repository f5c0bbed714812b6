"""A push that arrives at one node and goes on to the one that holds the stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from gateway.cluster.members.node_address import NodeAddress, PeerRefused, PeerUnavailable
from gateway.cluster.members.peers import Peers
from gateway.cluster.streams.forward import ForwardedPush, PushForwarder
from gateway.cluster.streams.remote_sink import BACKLOG, RemoteSink
from gateway.cluster.streams.unit_receiver import UnitReceiver
from gateway.lib.metrics import Metrics
from gateway.lib.tasks import Tasks
from gateway.live.network_quality import NetworkQuality
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.pushed_tracks import NO_INFO
from gateway.live.shelf import StreamLimits
from gateway.live.sink import EndReason
from gateway.media.track import Codec, Kind, MediaTrack, Tracks
from gateway.ports.errors import AtCapacity, NameInUse
from gateway.protocols import nodes, wire
from gateway.protocols.nodes import LinkMessage
from gateway.protocols.srt.statistics import LinkPath, LinkStatistics
from tests.support.builders import AUDIO, VIDEO, Recorder, channel, hub, picture, publish, sound
from tests.support.holders import SECRET, Holder, holder
from tests.support.waiting import until

SMALL = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"small")


class Front:
    """The node that a push arrives at."""

    def __init__(self, forwards: PushForwarder) -> None:
        self.forwards = forwards
        self.evicted: list[EndReason] = []

    async def push(self, place: NodeAddress, *, keep_time: bool = False, name: str = "c1") -> StreamPublisher:
        origin = PushOrigin("rtmp", "192.0.2.7", keep_time)
        return await self.forwards.publish(place, channel(name), origin, self.evicted.append)


@asynccontextmanager
async def front() -> AsyncIterator[Front]:
    async with Peers(SECRET) as peers, Tasks("front") as tasks:
        forwards = PushForwarder(StreamLimits(2, 10, 15, 1_000_000), peers, Metrics("0").dropped)
        tasks.start(forwards.shelf.run())
        yield Front(forwards)


def send(publisher: StreamPublisher, first: int, count: int) -> None:
    for n in range(first, first + count):
        publisher.push(picture(n * 40, key=n % 10 == 0), time.monotonic())
        publisher.push(sound(n * 40), time.monotonic())


def lingering(one: Holder) -> Recorder:
    """A stream whose publisher has just gone, with a viewer."""
    publisher = one.live()
    viewer = Recorder()
    publisher.stream.attach(viewer)
    publisher.close()
    return viewer


async def returned(one: Holder, two: Front) -> tuple[Recorder, StreamPublisher]:
    """The same, after the publisher came back to another node and its viewer has got media."""
    viewer = lingering(one)
    publisher = await two.push(one.place())
    publisher.set_tracks(VIDEO, AUDIO, {})
    send(publisher, 0, 3)
    await until(lambda: len(viewer.units) == 8)
    return viewer, publisher


async def test_a_publisher_that_returns_to_another_node_continues_its_stream() -> None:
    async with holder() as one, front() as two:
        viewer = lingering(one)
        publisher = await two.push(one.place())
        publisher.set_tracks(VIDEO, AUDIO, {"encoder": "again"})
        send(publisher, 0, 20)
        await until(lambda: len(viewer.units) == 42)
        assert viewer.tracks[-1].metadata["encoder"] == "again"
        assert viewer.tracks[-1].epoch == 1
        times = [u.dts for u in viewer.units]
        assert times == sorted(times)
        stream = one.hub.find("c1")
        assert stream is not None
        assert stream.publisher is not None
        assert (stream.publisher.on_air.peer, stream.publisher.on_air.protocol) == ("192.0.2.7", "rtmp")


async def test_the_holder_refuses_a_second_publisher() -> None:
    async with holder() as one, front() as two:
        one.live()
        with pytest.raises(NameInUse):
            await two.push(one.place())


async def test_a_draining_holder_refuses_pushes() -> None:
    async with holder() as one, front() as two:
        lingering(one)
        one.hub._draining = True
        with pytest.raises(AtCapacity):
            await two.push(one.place())


async def test_a_node_without_the_stream_refuses_a_forwarded_push() -> None:
    async with holder() as one, front() as two:
        with pytest.raises(PeerRefused) as refused:
            await two.push(one.place())
        assert refused.value.status == 404


async def test_a_refused_connection_to_the_holder_is_reported_as_refused() -> None:
    async with front() as two:
        with pytest.raises(PeerUnavailable) as away:
            await two.push(NodeAddress("gone", "127.0.0.1:1", "k"))
        assert away.value.refused


async def test_an_end_at_the_holder_ends_the_push() -> None:
    async with holder() as one, front() as two:
        lingering(one)
        publisher = await two.push(one.place())
        publisher.set_tracks(VIDEO, AUDIO, {})
        send(publisher, 0, 3)
        one.hub.end("c1", EndReason.KICKED)
        await until(lambda: two.evicted)
        assert two.evicted == [EndReason.KICKED]
        assert not publisher.active


async def test_the_reason_of_a_stop_arrives_although_the_holder_writes_at_the_same_time() -> None:
    async with holder() as one, front() as two:
        lingering(one)
        publisher = await two.push(one.place())
        stream = one.hub.find("c1")
        assert stream is not None
        publisher.set_tracks(VIDEO, AUDIO, {})
        send(publisher, 0, 3)
        # A connection that closes with unread data is reset. A write to it then fails before what it received is read.
        stream.playback.next_numbers.set("hls", (1,))
        publisher.close(EndReason.STOPPED)
        asyncio.get_running_loop().call_soon(stream.playback.next_numbers.set, "hls", (2,))
        await until(lambda: stream.publisher is None)
        assert stream.received.was_stopped
        await until(lambda: not one.pulls)


async def test_the_reason_of_an_eviction_arrives_although_media_follow() -> None:
    async with holder() as one, front() as two:
        lingering(one)
        publisher = await two.push(one.place())
        interrupted: list[ForwardedPush] = []
        two.forwards.on_interrupted = interrupted.append
        publisher.set_tracks(VIDEO, AUDIO, {})
        send(publisher, 0, 6)
        one.hub.end("c1", EndReason.KICKED)
        asyncio.get_running_loop().call_soon(send, publisher, 6, 3)
        await until(lambda: two.evicted or interrupted)
        assert (two.evicted, interrupted) == ([EndReason.KICKED], [])
        await until(lambda: not one.pulls)


async def test_the_push_ends_when_its_holder_dies() -> None:
    async with holder() as one, front() as two:
        lingering(one)
        await two.push(one.place())
        one.cut()
        await until(lambda: two.evicted)
        assert two.evicted == [EndReason.PUBLISHER_GONE]


async def test_a_push_that_ends_lets_the_stream_linger() -> None:
    async with holder() as one, front() as two:
        viewer, publisher = await returned(one, two)
        publisher.close()
        stream = one.hub.find("c1")
        assert stream is not None
        await until(lambda: stream.publisher is None)
        assert viewer.ended is None
        assert two.evicted == []


async def test_a_stream_whose_push_came_through_a_node_that_shuts_down_ends_like_others() -> None:
    """Viewers at other nodes would wait for the stream of a node that shuts down for the linger time once more."""
    async with holder() as one, front() as two:
        viewer, _ = await returned(one, two)
        one.hub.limits = replace(one.hub.limits, linger=0.0)
        two.forwards.shelf.drain()
        await until(lambda: viewer.ended)
        assert viewer.ended is EndReason.PUBLISHER_GONE
        assert two.evicted == [EndReason.SHUTDOWN]


async def test_a_jump_in_the_time_of_a_push_causes_one_discontinuity() -> None:
    async with holder() as one, front() as two:
        viewer = lingering(one)
        publisher = await two.push(one.place())
        publisher.set_tracks(VIDEO, AUDIO, {})
        send(publisher, 0, 2)
        publisher.set_tracks(VIDEO, AUDIO, {}, continuous=False)
        send(publisher, 2, 2)
        await until(lambda: len(viewer.units) == 10)
        assert [t.epoch for t in viewer.tracks] == [0, 1, 2]


async def test_renditions_keep_their_time_and_are_published_beside_their_source() -> None:
    async with holder() as one, front() as two:
        one.live()
        publisher = await two.push(one.place(), keep_time=True, name="c1@720p")
        publisher.set_tracks(VIDEO, AUDIO, {})
        send(publisher, 1000, 3)
        await until(lambda: one.hub.find("c1@720p") is not None)
        rung, viewer = one.hub.find("c1@720p"), Recorder()
        assert rung is not None
        rung.attach(viewer)
        await until(lambda: len(viewer.units) == 6)
        assert viewer.units[0].dts == 40_000


async def test_a_forwarded_push_ends_when_the_holder_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with holder() as one, front() as two:
        lingering(one)
        monkeypatch.setattr("gateway.protocols.nodes.SILENT_SECONDS", 0.05)
        monkeypatch.setattr("gateway.protocols.nodes.PING_SECONDS", 0.1)
        await two.push(one.place())
        await until(lambda: two.evicted == [EndReason.PUBLISHER_GONE])


def additional(publisher: StreamPublisher, first: int, count: int) -> None:
    """Sends a small picture and a second sound, with the times of the default ones."""
    now = time.monotonic()
    for n in range(first, first + count):
        publisher.push_additional(2, picture(n * 40, key=n % 10 == 0, track=SMALL), now)
        publisher.push_additional(3, sound(n * 40), now)


async def test_a_forwarded_push_has_all_additional_tracks() -> None:
    async with holder() as one, front() as two:
        lingering(one)
        publisher = await two.push(one.place())
        infos = {"audioTrackIdInfoMap": {"1": {"language": "fr"}}}
        publisher.set_tracks(VIDEO, AUDIO, infos)
        publisher.set_additional(1, SMALL, NO_INFO, time.monotonic())
        publisher.set_additional(1, AUDIO, NO_INFO, time.monotonic())
        send(publisher, 0, 5)
        additional(publisher, 0, 5)
        await until(lambda: one.hub.find("c1@audio1"))
        small, french = Recorder(), Recorder()
        one.hub.find("c1@video1").attach(small)  # type: ignore[union-attr]
        one.hub.find("c1@audio1").attach(french)  # type: ignore[union-attr]
        send(publisher, 5, 10)
        additional(publisher, 5, 10)
        await until(lambda: len(french.units) >= 15)
        pushed = one.hub.find("c1").pushed_tracks.by_name  # type: ignore[union-attr]
        assert {t.name: t.info.language for t in pushed.values()} == {"video1": "", "audio1": "fr"}
        pictures = [u.dts for u in small.units if u.track.kind is Kind.VIDEO]
        assert pictures == [u.dts for u in french.units]
        publisher.set_tracks(VIDEO, AUDIO, {"audioTrackIdInfoMap": {"1": {"language": "de"}}})
        await until(lambda: pushed["audio1"].info.language == "de")
        publisher.close()
        await until(lambda: one.hub.held("c1@audio1").publisher is None)  # type: ignore[union-attr]


class SlowTransport:
    """Counts the written frames, and has unsent bytes as set."""

    def __init__(self) -> None:
        self.unsent = 0
        self.frames = 0

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.frames += 1

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return False


def test_a_node_that_is_too_slow_gets_each_additional_track_from_a_key_frame() -> None:
    transport, dropped = SlowTransport(), Metrics("0").dropped
    sink = RemoteSink(cast(Any, transport), dropped)
    sink.push_additional(2, picture(0, key=True, track=SMALL), 0.0)
    transport.unsent = BACKLOG + 1
    sink.push_additional(2, picture(40, track=SMALL), 0.0)
    transport.unsent = 0
    sink.push_additional(2, picture(80, track=SMALL), 0.0)
    sink.push_additional(4, picture(80, track=SMALL), 0.0)
    assert transport.frames == 2
    sink.push_additional(2, picture(120, key=True, track=SMALL), 0.0)
    assert transport.frames == 3


@pytest.mark.parametrize("number", [0, 1, 3])
async def test_an_additional_track_with_a_wrong_number_ends_the_link(number: int) -> None:
    transport = Link()
    taker = UnitReceiver(cast(Any, transport), cast(Any, Link()), "c1")
    body = wire.encode_tracks(Tracks(SMALL, None), number)
    taker.begin(publish(hub()), wire.frame(LinkMessage.ADDITIONAL_TRACK, body))
    assert transport.aborted


class Link:
    aborted = False

    def abort(self) -> None:
        self.aborted = True

    def release(self) -> None: ...

    def is_closing(self) -> bool:
        return True


async def test_the_quality_of_a_connection_is_known_to_the_node_with_the_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nodes, "PING_SECONDS", 0.05)
    link = LinkStatistics(60.5, 2.5, 7, 1, 240, 230, (LinkPath("192.0.2.7", 100.0, None, "up"),))
    async with holder() as one, front() as two:
        lingering(one)
        publisher = await two.push(one.place())
        stream = one.hub.held("c1")
        assert stream is not None
        for quality in (link, NetworkQuality(None, 0.01, 0.003)):
            publisher.network = lambda quality=quality: quality
            await until(lambda quality=quality: stream.publisher is not None and stream.publisher.network() == quality)
        publisher.unusable.leave_out(Kind.AUDIO, "DTS")
        await until(lambda: stream.publisher is not None and stream.publisher.on_air.unusable.left_out == "DTS")
        publisher.close()
