"""A forwarded push whose holder dies or leaves is placed again, and its client stays connected."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.cluster.streams import claims as module
from gateway.cluster.streams.forward import ForwardedPush
from gateway.live.next_numbers import NextNumbers
from gateway.live.publisher import StreamPublisher
from gateway.live.pushed_tracks import NO_INFO
from gateway.live.sink import EndReason
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.ports.errors import NameInUse, NoSuchChannel, StoreUnavailable
from gateway.ports.nodes import StreamClaim
from gateway.protocols import wire
from gateway.protocols.nodes import decode_numbers, encode_numbers
from tests.support.builders import Recorder, picture, sound
from tests.support.time_outs import at_most
from tests.support.waiting import until
from tests.unit.cluster.test_claims import Gateway, gateway

SMALL = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"small")


async def forwarded(a: Gateway, b: Gateway) -> StreamPublisher:
    """Returns the publisher of a push at `b`, which `a` holds."""
    (await a.live()).close()
    publisher = await b.live()
    for n in range(1, 15):
        publisher.push(picture(n * 40, key=n == 10), time.monotonic())
        publisher.push(sound(n * 40), time.monotonic())
    return publisher


async def die(node: Gateway) -> None:
    """Closes the listener and all connections of a node."""
    await node.one.server.close()
    node.one.cut()


async def test_a_push_goes_on_at_its_own_node_when_the_holder_dies(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b:
        publisher = await forwarded(a, b)
        since = publisher.on_air.since
        await die(a)
        await until(lambda: b.one.hub.find("c1"))
        stream = b.one.hub.find("c1")
        assert stream is not None
        assert stream.publisher is publisher is not None
        push = publisher.on_air
        assert (push.since, push.protocol, push.peer) == (since, "rtmp", "192.0.2.1")
        viewer = Recorder()
        stream.attach(viewer)
        assert [unit.dts for unit in viewer.units][:2] == [400, 400]
        assert viewer.units[0].key
        publisher.push(picture(600), time.monotonic())
        assert viewer.units[-1].dts == 600
        claim = await b.registry.claim_of("c1")
        assert claim is not None
        assert claim.node == "b"
        assert b.evicted == []
        assert not b.claims.forwards.shelf.holds("c1")
        b.one.hub.end("c1", EndReason.KICKED)
        assert b.evicted == [EndReason.KICKED]


async def test_a_push_that_moved_lingers_like_others_when_its_client_leaves(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b:
        publisher = await forwarded(a, b)
        await die(a)
        await until(lambda: b.one.hub.find("c1"))
        publisher.close(EndReason.STOPPED)
        stream = b.one.hub.find("c1")
        assert stream is not None
        assert stream.publisher is None
        assert stream.is_paused


async def test_additional_tracks_move_with_their_push(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b:
        publisher = await forwarded(a, b)
        publisher.set_additional(1, SMALL, NO_INFO, time.monotonic())
        await die(a)
        await until(lambda: b.one.hub.find("c1"))
        stream = b.one.hub.find("c1")
        assert stream is not None
        assert [track.track for track in stream.pushed_tracks.by_name.values()] == [SMALL]


async def test_a_push_goes_on_at_another_node_that_was_faster(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b, gateway(tmp_path, "c") as c:
        publisher = await forwarded(a, b)
        async with b.claims._push_locks.setdefault("c1", asyncio.Lock()):
            await die(a)
            (await c.live()).close()
        viewer = Recorder()
        held = c.one.hub.find("c1")
        assert held is not None
        held.attach(viewer)
        await until(lambda: sum(unit.key for unit in viewer.units) >= 2)  # what was pushed since the last key frame
        assert held.publisher is not None
        publisher.push(picture(1000, key=True), time.monotonic())
        await until(lambda: sum(unit.key for unit in viewer.units) >= 3)
        assert [unit.dts for unit in viewer.units] == sorted(unit.dts for unit in viewer.units)
        assert publisher.active
        assert not b.one.hub.holds("c1")


async def test_pushes_at_two_nodes_get_one_holder(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b, gateway(tmp_path, "c") as c:
        await forwarded(a, b)
        await a.one.server.close()
        a.one.cut()
        other = asyncio.create_task(c.push())  # both nodes take the claim of the dead node at the same time
        await asyncio.wait([other])
        await until(lambda: b.one.hub.holds("c1") != c.one.hub.holds("c1"))
        if other.exception() is not None:
            assert isinstance(other.exception(), NameInUse)
            assert b.one.hub.holds("c1")


async def test_a_take_over_ends_the_push_as_before(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b:
        await forwarded(a, b)
        held = a.one.hub.find("c1")
        assert held is not None
        assert held.publisher is not None
        held.publisher.last_media = -1000.0
        await a.live()
        await until(lambda: b.evicted)
        assert b.evicted == [EndReason.PUBLISHER_GONE]
        assert not b.one.hub.holds("c1")


async def test_a_push_that_cannot_be_placed_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLACE_SECONDS", 0.5)
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b:
        publisher = await forwarded(a, b)

        async def away(*args: object, **more: object) -> None:
            raise StoreUnavailable("gone")

        monkeypatch.setattr(b.registry, "claim_of", away)
        await die(a)
        await until(lambda: b.evicted)
        assert b.evicted == [EndReason.PUBLISHER_GONE]
        assert not publisher.active


async def test_a_push_that_this_node_has_no_room_for_ends_and_leaves_no_claim(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b", publishers=1) as b:
        await forwarded(a, b)
        await b.live("c2")
        await die(a)
        await until(lambda: b.evicted)
        assert b.evicted == [EndReason.PUBLISHER_GONE]
        assert not b.one.hub.holds("c1")

        async def released() -> None:
            while await b.registry.claim_of("c1") is not None:
                await asyncio.sleep(0.01)

        await asyncio.wait_for(released(), at_most(5))


async def test_a_push_that_each_link_loses_at_once_ends(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b:
        await forwarded(a, b)
        held = a.one.hub.find("c1")
        assert held is not None
        first = held.publisher
        a.one.cut()
        await until(lambda: held.publisher not in (None, first))
        a.one.cut()
        await until(lambda: b.evicted)
        assert b.evicted == [EndReason.PUBLISHER_GONE]


async def test_a_push_waits_for_a_registry_that_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b:
        await forwarded(a, b)
        claim_of, calls = b.registry.claim_of, []

        async def away(stream: str) -> StreamClaim | None:
            calls.append(stream)
            if len(calls) < 3:
                raise StoreUnavailable("gone")
            return await claim_of(stream)

        monkeypatch.setattr(b.registry, "claim_of", away)
        await die(a)
        await until(lambda: b.one.hub.find("c1"))
        assert b.evicted == []


async def test_a_push_to_a_deleted_channel_ends(tmp_path: Path) -> None:
    class Gone:
        async def get(self, id: str) -> None:
            raise NoSuchChannel(id)

    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b:
        await forwarded(a, b)
        b.claims.channels = Gone()  # type: ignore[assignment]
        await die(a)
        await until(lambda: b.evicted)
        assert b.evicted == [EndReason.DELETED]


async def test_a_client_that_leaves_meanwhile_leaves_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b:
        publisher = await forwarded(a, b)
        claim = b.registry.claim

        async def slow(*args: object, **more: object) -> None:
            await claim(*args, **more)  # type: ignore[arg-type]
            publisher.close()

        monkeypatch.setattr(b.registry, "claim", slow)
        await die(a)

        async def released() -> None:
            while await b.registry.claim_of("c1") is not None:
                await asyncio.sleep(0.01)

        await asyncio.wait_for(released(), at_most(5))
        assert not b.one.hub.holds("c1")
        assert b.evicted == []


async def test_numbers_of_the_holder_are_continued(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b:
        await forwarded(a, b)
        held = a.one.hub.find("c1")
        assert held is not None
        place, interrupted = b.claims.forwards.on_interrupted, []

        def on_interrupted(push: ForwardedPush) -> None:
            interrupted.append(push.link.numbers)
            place(push)

        b.claims.forwards.on_interrupted = on_interrupted
        held.playback.next_numbers.set("hls", (700, 2, 900))
        held.playback.next_numbers.set("hls", (701, 2, 901))
        await asyncio.sleep(0)
        await die(a)
        await until(lambda: b.one.hub.find("c1"))
        stream = b.one.hub.find("c1")
        assert stream is not None
        assert stream.spec.continues == {"hls": (701, 2, 901)}
        assert b.one.hub.continued == {}
        assert interrupted == [{"hls": (701, 2, 901)}]


def test_numbers_are_written_and_read() -> None:
    numbers = {"hls": (1, 2, 3), "cmaf": (4, 5)}
    assert decode_numbers(encode_numbers(numbers)) == numbers


@pytest.mark.parametrize("values", [1, "1", {"a": 1}, [1.5], [True], [-1], [None]])
def test_wrong_numbers_are_refused(values: object) -> None:
    with pytest.raises(InvalidData):
        decode_numbers(wire.write_json({"hls": values}))


def test_watchers_get_changes_only() -> None:
    numbers, calls = NextNumbers(), []
    numbers.set("hls", (1,))

    def watcher() -> None:
        calls.append(dict(numbers.by_output))

    numbers.watch(watcher)
    for value in (1, 2, 2):
        numbers.set("hls", (value,))
    assert calls == [{"hls": (1,)}, {"hls": (2,)}]
    numbers.unwatch(watcher)
    numbers.unwatch(watcher)
    numbers.set("hls", (3,))
    assert len(calls) == 2
