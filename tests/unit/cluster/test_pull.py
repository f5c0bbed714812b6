"""Pulling a stream from its holder: once, whole, and again where that breaks off."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.cluster.members.node_address import NodeAddress
from gateway.cluster.streams import replicas as module
from gateway.live.sink import EndReason, SinkNeeds
from gateway.media.timed_data import Script
from gateway.media.track import TimedData, Tracks
from gateway.ports.errors import AtCapacity, NoSuchStream
from tests.support.builders import AUDIO, VIDEO, Recorder, publish, sound, stream
from tests.support.holders import Known, holder, puller
from tests.support.waiting import until


def seen(recorder: Recorder) -> list[tuple[str, int, int, bytes]]:
    return [(str(u.track.kind), u.dts, u.cts, u.payload) for u in recorder.units]


async def test_a_replica_equals_the_stream_unit_by_unit() -> None:
    async with holder() as one, puller(Known(one.place())) as two:
        publisher = one.live(playAuth="sign", key="0-secret", relayURL="rtmp://a.example/x/secret")
        there, here = Recorder(), Recorder()
        publisher.stream.attach(there)
        replica = await two.replicas.wait("c1", 5)
        replica.playback.uses += 1
        replica.attach(here)
        for n in range(20):
            one.push(publisher, key=n % 5 == 0)
        publisher.push_timed(TimedData(500, Script("onCuePoint", b"\x02\x00\x01x")))
        await until(lambda: any(isinstance(i, TimedData) for i in here.items))
        assert seen(here) == seen(there)
        assert here.tracks[0].metadata["encoder"] == "test"
        assert (here.tracks[0].video, here.tracks[0].audio) == (there.tracks[0].video, there.tracks[0].audio)
        assert replica.channel.play_auth == "sign"
        assert "secret" not in str(replica.channel.item)


async def test_many_players_cause_one_pull() -> None:
    async with holder() as one, puller(Known(one.place())) as two:
        one.live()
        streams = await asyncio.gather(*(two.replicas.wait("c1", 5) for _ in range(200)))
        assert len(set(map(id, streams))) == 1
        assert (one.pulls, two.replicas.pulls) == (1, 1)


async def test_waiting_players_get_the_stream_when_it_begins() -> None:
    async with holder() as one, puller(Known(one.place())) as two:
        waiting = asyncio.ensure_future(two.replicas.wait("c1", 10))
        await until(lambda: len(two.replicas) == 1)
        one.live()
        assert (await waiting).playable


async def test_the_wait_for_a_stream_without_a_holder_ends_in_time() -> None:
    async with puller(Known()) as two:
        with pytest.raises(NoSuchStream):
            await two.replicas.wait("c1", 0.05)


async def test_the_replica_ends_with_the_stream() -> None:
    async with holder() as one, puller(Known(one.place())) as two:
        one.live()
        replica = await two.replicas.wait("c1", 5)
        here = Recorder()
        replica.attach(here)
        one.hub.end("c1", EndReason.KICKED)
        await until(lambda: here.ended is not None)
        assert here.ended is EndReason.KICKED


async def test_the_replica_follows_changes_of_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.protocols.nodes.PING_SECONDS", 0.02)
    async with holder() as one, puller(Known(one.place())) as two:
        publisher = one.live()
        replica = await two.replicas.wait("c1", 5)
        assert replica.outputs is not None
        assert replica.outputs.enabled("flv")
        assert publisher.stream.outputs is not None
        publisher.stream.outputs.switch("flv", False)
        await until(lambda: replica.outputs is not None and not replica.outputs.enabled("flv"))


async def test_after_a_broken_link_players_get_every_unit_once() -> None:
    async with holder() as one, puller(Known(one.place())) as two:
        publisher = one.live()
        replica = await two.replicas.wait("c1", 5)
        here = Recorder()
        replica.attach(here)
        replica.playback.uses += 1
        for _ in range(5):
            one.push(publisher)
        await until(lambda: len(here.units) == 12)
        one.cut()
        await until(lambda: two.replicas.pulls == 2)
        for _ in range(5):
            one.push(publisher)
        await until(lambda: len(here.units) == 22)
        times = [u.dts for u in here.units if u.track.kind.value == "video"]
        assert times == [n * 40 for n in range(11)]
        assert len({t.epoch for t in here.tracks}) == 1


async def test_after_a_broken_link_a_stream_without_pictures_has_its_timed_data_again() -> None:
    async with holder() as one, puller(Known(one.place())) as two:
        publisher = publish(one.hub)
        publisher.set_tracks(None, AUDIO, {})
        publisher.push(sound(0), time.monotonic())
        replica, here = await two.replicas.wait("c1", 5), Recorder()
        replica.attach(here)
        replica.playback.uses += 1
        await until(lambda: here.units)
        one.cut()
        await until(lambda: two.replicas.pulls == 2)
        publisher.push(sound(40), time.monotonic())
        publisher.push_timed(TimedData(50, Script("onCuePoint", b"\x02\x00\x01x")))
        publisher.push(sound(80), time.monotonic())
        await until(lambda: len(here.units) == 3)
        assert [unit.dts for unit in here.units] == [0, 40, 80]
        assert any(isinstance(item, TimedData) for item in here.items)


async def test_players_wait_for_a_key_frame_when_pictures_are_missing_after_a_broken_link() -> None:
    async with holder(gop_bytes=1) as one, puller(Known(one.place())) as two:
        publisher = one.live()
        replica = await two.replicas.wait("c1", 5)
        here = Recorder()
        replica.attach(here)
        replica.playback.uses += 1
        one.push(publisher)
        await until(lambda: len(here.units) == 2)
        one.cut()
        one.push(publisher)  # the replica does not get it
        await until(lambda: two.replicas.pulls == 2)
        for n in range(5):
            one.push(publisher, key=n == 3)
        await until(lambda: here.units[-1].dts == 280)
        assert [u.dts for u in here.units if u.track.kind.value == "video"] == [40, 240, 280]
        assert [u.dts for u in here.units if u.track.kind.value == "audio"] == [40, 120, 160, 200, 240, 280]


async def test_a_new_holder_causes_one_discontinuity_and_time_keeps_growing() -> None:
    async with holder() as one, holder() as other, puller(Known(one.place())) as two:
        publisher = one.live()
        replica = await two.replicas.wait("c1", 5)
        here = Recorder()
        replica.attach(here)
        replica.playback.uses += 1
        one.push(publisher)
        await until(lambda: len(here.units) == 4)
        other.session = "s2"
        two.where.place = other.place("k2")
        other.live()
        one.hub.drain()
        await until(lambda: len(here.units) == 6)
        assert len({t.epoch for t in here.tracks}) == 2
        times = [u.dts for u in here.units]
        assert times == sorted(times)
        assert times[-1] > 40
        assert here.ended is None


async def test_players_stay_when_another_node_has_taken_the_stream_over() -> None:
    async with holder() as one, holder() as other, puller(Known(one.place())) as two:
        one.live()
        replica, here = await two.replicas.wait("c1", 5), Recorder()
        replica.attach(here)
        replica.playback.uses += 1
        await until(lambda: len(here.units) == 2)
        other.session = "s2"
        two.where.place = other.place("k2")
        other.live()
        one.hub.end("c1", EndReason.MOVED)
        await until(lambda: len(here.units) == 4 or here.ended)
        assert here.ended is None
        assert two.where.lost_places == [one.place()]


async def test_the_replica_ends_when_no_holder_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RESUME_SECONDS", 0.0)
    async with holder() as one, puller(Known(one.place()), linger=0.1) as two:
        one.live()
        replica = await two.replicas.wait("c1", 5)
        here = Recorder()
        replica.attach(here)
        replica.playback.uses += 1
        two.where.place = NodeAddress("gone", "127.0.0.1:1", "k2")
        one.cut()
        await until(lambda: here.ended is not None)
        assert here.ended is EndReason.PUBLISHER_GONE
        assert two.where.lost_places


async def test_a_replica_without_players_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    async with holder() as one, puller(Known(one.place())) as two:
        one.live()
        await two.replicas.wait("c1", 5)
        await until(lambda: len(two.replicas) == 0 and one.pulls == 0)
        assert two.replicas.find("c1") is None


class SlowLookups(Known):
    """A locator that answers while `gate` is set. `asked` is set at each question."""

    def __init__(self, place: NodeAddress) -> None:
        super().__init__(place)
        self.gate, self.asked = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def find(self, name: str) -> NodeAddress | None:
        self.asked.set()
        await self.gate.wait()
        return self.place


async def test_a_replica_that_was_needed_again_during_a_lookup_ends_without_players(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with holder() as one, puller(where := SlowLookups(one.place())) as two:
        one.live()
        await two.replicas.wait("c1", 5)
        pull, checked = two.replicas._pulls["c1"], asyncio.Event()
        is_needed = pull._check_needed

        def check() -> bool:
            checked.set()
            return is_needed()

        where.gate.clear()
        where.asked.clear()
        one.cut()
        await where.asked.wait()
        pull.last_needed = 0.0  # long ago
        monkeypatch.setattr(pull, "_check_needed", check)
        await checked.wait()
        await two.replicas.wait("c1", 5)
        where.gate.set()
        await until(lambda: two.replicas.pulls == 2)
        pull.last_needed = 0.0
        await until(lambda: len(two.replicas) == 0 and one.pulls == 0)


async def test_the_pull_starts_again_when_the_holder_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.protocols.nodes.SILENT_SECONDS", 0.05)
    monkeypatch.setattr("gateway.protocols.nodes.PING_SECONDS", 60.0)
    async with holder() as one, puller(Known(one.place())) as two:
        one.live()
        replica = await two.replicas.wait("c1", 5)
        replica.playback.uses += 1
        await until(lambda: two.replicas.pulls >= 3)


async def test_a_slow_node_loses_whole_groups_of_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cluster.streams.remote_sink.BACKLOG", 100_000)
    async with holder() as one, puller(Known(one.place())) as two:
        publisher = one.live()
        replica = await two.replicas.wait("c1", 5)
        replica.playback.uses += 1
        here = Recorder()
        replica.attach(here)
        for n in range(200):  # in one turn of the loop: nobody reads meanwhile
            one.push(publisher, key=n % 10 == 0, size=50_000)
        dropped = sum(one.metrics.dropped.values.values())
        assert dropped > 0

        def pushed_again() -> bool:
            one.push(publisher, key=True)
            return here.units[-1].dts > 200 * 40

        await until(pushed_again)
        last: int | None = None
        for unit in (u for u in here.units if u.track.kind.value == "video"):
            if last is not None and unit.dts != last + 40:
                assert unit.key, "after a gap comes a key frame"
            last = unit.dts


async def test_a_replica_gets_a_whole_group_of_pictures_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cluster.streams.remote_sink.BACKLOG", 100_000)
    async with holder() as one, puller(Known(one.place())) as two:
        publisher = one.live()
        for n in range(18):
            one.push(publisher, key=not n, size=50_000)
        here = Recorder()
        (await two.replicas.wait("c1", 5)).attach(here)
        await until(lambda: sum(u.track.kind.value == "video" for u in here.units) >= 18)
        assert sum(one.metrics.dropped.values.values()) == 0


async def test_a_pull_for_waiting_players_gets_the_stream_from_its_first_unit() -> None:
    async with holder(beginning=5.0) as one, puller(Known(one.place())) as early, puller(Known(one.place())) as late:
        waiting = asyncio.ensure_future(early.replicas.wait("c1", 10))
        await until(lambda: any(pull._early for pull in early.replicas._pulls.values()))
        publisher = one.live()
        for n in range(40):  # in one turn of the loop, four groups of pictures and a change of the sound
            if n == 20:
                publisher.set_tracks(VIDEO, replace(AUDIO, config=b"\x11\x90"), {"encoder": "test"})
            one.push(publisher, key=n % 10 == 0)
        all_of_it, last_group = Recorder(), Recorder()
        (await waiting).attach(all_of_it, SinkNeeds(from_start=True))
        (await late.replicas.wait("c1", 5)).attach(last_group, SinkNeeds(from_start=True))
        await until(lambda: sum(u.track.kind.value == "video" for u in all_of_it.units) >= 41)
        await until(lambda: last_group.units)
        times = [u.dts for u in all_of_it.units if u.track.kind.value == "video"]
        assert times == sorted(set(times))
        assert [tracks.epoch for tracks in all_of_it.tracks] == [0, 1]
        assert len(last_group.units) < 40


async def test_a_replica_passes_on_the_holders_epochs_for_earlier_tracks_too() -> None:
    replica = stream()
    for _ in range(3):
        current = replica.set_tracks(VIDEO, AUDIO, {}, False)
    source = module.ReplicaSource(cast(Any, SimpleNamespace(epoch=7)), replica)
    earlier = Tracks(VIDEO, AUDIO, current.epoch - 1, {})
    assert [source.map_tracks(tracks).epoch for tracks in (earlier, current)] == [6, 7]


async def test_nodes_with_very_different_clocks_can_pull() -> None:
    async with holder(clock=lambda: time.time()) as one, puller(Known(one.place())) as two:
        one.live()
        two.replicas.peers._clock = lambda: time.time() - 86_400
        assert (await two.replicas.wait("c1", 5)).playable


async def test_a_node_of_another_cluster_gets_nothing() -> None:
    async with holder(secret="another") as one, puller(Known(one.place())) as two:
        one.live()
        with pytest.raises(NoSuchStream):
            await two.replicas.wait("c1", 0.3)
        assert two.replicas.pulls == 0


async def test_requests_for_invented_stream_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with puller(Known()) as two:
        monkeypatch.setattr(module, "MAX_REPLICAS", 3)
        waiting = [asyncio.ensure_future(two.replicas.wait(f"made-up-{n}", 0.2)) for n in range(3)]
        await until(lambda: len(two.replicas) == 3)
        with pytest.raises(AtCapacity):
            await two.replicas.wait("one-more", 0.2)
        assert {type(e) for e in await asyncio.gather(*waiting, return_exceptions=True)} == {NoSuchStream}
