"""Ad cues of real pushes and of the API at a real gateway: players, relays, recordings, inputs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.formats import amf0
from gateway.formats.script_data import read_timed
from gateway.formats.scte35 import BreakDuration, SpliceInfo, SpliceInsert, write_section
from gateway.formats.splices import read_splice
from gateway.media.timed_data import AdCue, CueType, Metadata
from gateway.media.track import TimedData
from tests.support.clients import push, until
from tests.support.fleet import sharing
from tests.support.gateway import Channel, Gateway
from tests.support.media import PLAIN, Film
from tests.support.rtmp import DATA, Peer, connected
from tests.support.shared_gateway import shared_gateway
from tests.support.srt import call
from tests.support.time_outs import at_most
from tests.support.ts_cues import first_time, with_cues
from tests.support.waiting import until_in_thread

FILM = Film("cues", seconds=40)
INSERT = write_section(SpliceInfo(SpliceInsert(77, True, None, True, None, BreakDuration(900_000))))
gateway = shared_gateway(
    "ffmpeg",
    "ffprobe",
    films=[FILM, PLAIN],
    MILLRACE_EGRESS__ALLOW="127.0.0.0/8",
    MILLRACE_STREAM__LINGER="1",
    MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0",
)


@contextlib.asynccontextmanager
async def playing(channel: Channel) -> AsyncIterator[Peer]:
    """A player of RTMP, which has got media."""
    async with connected(channel.gateway.ports["rtmp"]) as peer:
        assert (await peer.play(channel.id)).code == "NetStream.Play.Start"
        await peer.media()
        yield peer


async def scripts(peer: Peer, kind: str, count: int) -> list[TimedData]:
    """Reads until there are some data of a kind."""
    async with asyncio.timeout(at_most(20)):
        while len(found := [one for one in _scripts(peer) if one.kind == kind]) < count:
            await peer.read()
    return found


def _scripts(peer: Peer) -> list[TimedData]:
    found = []
    for message in peer.heard:
        if message.type_id == DATA:
            values = amf0.decode(message.payload)
            found.append(read_timed(message.timestamp, str(values[0]), amf0.encode(*values[1:])))
    return found


async def cues(peer: Peer, count: int) -> list[AdCue]:
    found = [timed.value for timed in await scripts(peer, "AdCue", count)]
    return [cue for cue in found if isinstance(cue, AdCue)]


def listed(channel: Channel) -> list[dict[str, Any]]:
    return list(channel.gateway.api("GET", f"/videostream/{channel.id}/cues").json())


def told(channel: Channel) -> list[tuple[str, float | None]]:
    """Returns the events of a node about cues, the newest first."""
    events = channel.gateway.api("GET", f"/events?channel={channel.id}&type=cue").json()
    return [(event["data"]["type"], event["data"]["seconds"]) for event in events]


async def post(channel: Channel, what: str, body: dict[str, Any]) -> int:
    path = f"/videostream/{channel.id}/{what}"
    return (await asyncio.to_thread(channel.gateway.api, "POST", path, body)).status


async def test_cues_of_the_api_reach_players_and_relays(gateway: Gateway) -> None:
    there = gateway.channel("there")
    here = gateway.channel("here", isRelay=True, relayURL=there.push)
    with push(FILM, here.push, loop=True):
        await asyncio.to_thread(here.wait_live)
        await asyncio.to_thread(there.wait_live)
        async with playing(here) as near, playing(there) as far:
            assert await post(here, "cues", {"type": "out", "id": "b1", "seconds": 20}) == 202
            assert await post(here, "cues", {"type": "in"}) == 202
            assert await post(here, "metadata", {"metadata": "Goal!"}) == 204
            for peer in (near, far):
                begin, end = await cues(peer, 2)
                assert (begin.type, begin.id, begin.seconds) == (CueType.OUT, "b1", 20.0)
                assert (end.type, end.id) == (CueType.IN, "b1")
                (timed,) = await scripts(peer, "Metadata", 1)
                assert timed.value == Metadata("Goal!")
                newest = max(message.timestamp for message in peer.heard if message.type_id in (8, 9))
                assert abs(begin.at - newest) < 3000
        assert [(cue["id"], cue["origin"]) for cue in listed(here)] == [("b1", "api")] * 2
        assert [(cue["id"], cue["origin"]) for cue in listed(there)] == [("b1", "rtmp")] * 2
    await until_in_thread(lambda: told(here) == [("in", None), ("out", 20.0)], "both are events")


async def test_a_push_over_rtmp_sends_cues_and_survives_hostile_ones(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with connected(gateway.ports["rtmp"]) as encoder:
        assert (await encoder.publish(channel.obs_key)).code == "NetStream.Publish.Start"
        await encoder.headers()
        await encoder.film(range(0, 800, 40))
        async with playing(channel) as player:
            await encoder.body(DATA, script("onCuePoint", name="b1", time=2.0, type="event",
                                            parameters={"type": "out", "duration": 30.0}), 800)  # fmt: skip
            for hostile in (
                script("onAdCue", scte35="nonsense"),
                script("onAdCue", scte35=base64.b64encode(INSERT[:-1] + b"\0").decode()),
                script("onCuePoint", parameters={"type": "out", "duration": float("nan")}),
                script("onCuePoint", parameters={"type": "out", "duration": -1.0}),
                amf0.encode("onAdCue"),
                amf0.encode("onCuePoint") + b"\x03\x00\x04time\x00",
                amf0.encode("onCuePoint") + b"\x08\xff\xff\xff\xff",
            ):
                await encoder.body(DATA, hostile, 800)
            await encoder.body(DATA, script("onAdCue", scte35=base64.b64encode(INSERT).decode()), 800)
            await encoder.film(range(800, 1600, 40), number=20)
            first, second = await cues(player, 2)
            assert (first.type, first.id, first.at, first.seconds) == (CueType.OUT, "b1", 2000, 30.0)
            assert (second.id, second.at, second.seconds, second.section) == ("77", 800, 10.0, INSERT)
        session = await asyncio.to_thread(channel.session)
        assert session["publisher"]["dropped"]["cues"] == 5
        assert [(cue["id"], cue["origin"]) for cue in listed(channel)] == [("77", "rtmp"), ("b1", "rtmp")]


def script(name: str, /, **values: Any) -> bytes:
    return amf0.encode(name, values)


@pytest.mark.nightly
async def test_a_transport_stream_over_srt_sends_cues(gateway: Gateway) -> None:
    channel = gateway.channel()
    command = ["ffmpeg", "-v", "error", "-i", str(FILM.path()), "-t", "8", "-c", "copy", "-f", "mpegts", "-"]
    stream = subprocess.run(command, capture_output=True, check=True, timeout=at_most(60)).stdout
    insert = SpliceInsert(88, True, (first_time(stream) + 6 * 90_000) % (1 << 33), duration=BreakDuration(900_000))
    section = write_section(SpliceInfo(insert))
    cued = with_cues(stream, {0.4: section, 0.5: section, 0.6: INSERT})

    def send() -> None:
        with call(gateway.ports["srt"], f"publish:{channel.id}?sign={channel.key}") as peer:
            peer.play(cued, 8)

    sending = asyncio.create_task(asyncio.to_thread(send))
    await asyncio.to_thread(channel.wait_live)
    async with playing(channel) as player:
        first, second = await cues(player, 2)
        assert (first.id, first.type, first.seconds) == ("88", CueType.OUT, 10.0)
        assert second.id == "77"
        assert read_splice(first.section) is not None
        # The section came after two fifths of eight seconds, for the sixth one.
        (message, _) = await scripts(player, "AdCue", 2)
        assert abs(first.at - message.dts - 2800) < 800
    await sending
    assert [(cue["id"], cue["origin"]) for cue in listed(channel)] == [("77", "srt"), ("88", "srt")]


async def test_cues_survive_a_change_of_the_input(gateway: Gateway) -> None:
    inputs = [{"kind": "push"}, {"kind": "backup", "name": "second"}]
    channel = gateway.channel(inputs=inputs)
    shown = gateway.api("GET", f"/videostream/{channel.id}/inputs").json()
    backup = next(one["pushUrl"] for one in shown if one["name"] == "second")
    with push(FILM, channel.push, loop=True) as main, push(FILM, backup, loop=True):
        await asyncio.to_thread(channel.wait_live)
        async with playing(channel) as player:
            assert await post(channel, "cues", {"type": "out", "id": "a"}) == 202
            (first,) = await cues(player, 1)
            await asyncio.to_thread(main.stop)
            await until_in_thread(lambda: channel.session()["input"] == "second", "the backup is on air")
            assert await post(channel, "cues", {"type": "in"}) == 202
            _, second = await cues(player, 2)
            assert (second.id, second.type) == ("a", CueType.IN)
            assert second.at > first.at
            await player.media(sum(message.type_id == 9 for message in player.heard) + 50)
            newest = max(message.timestamp for message in player.heard if message.type_id == 9)
            assert 0 < newest - second.at < 10_000
        assert [cue["id"] for cue in listed(channel)] == ["a", "a"]


async def test_another_node_takes_cues_and_plays_them(tmp_path: Path) -> None:
    with sharing(tmp_path, 2) as (holder, other):
        channel = holder.channel()
        asked = Channel(other, channel.item)
        with push(FILM, channel.push, loop=True):
            await asyncio.to_thread(channel.wait_live)
            async with playing(asked) as player:
                assert await post(asked, "cues", {"type": "out", "id": "b1", "seconds": 20}) == 202
                assert await post(asked, "metadata", {"metadata": "Goal!"}) == 204
                (cue,) = await cues(player, 1)
                assert (cue.id, cue.seconds) == ("b1", 20.0)
                await scripts(player, "Metadata", 1)
            assert [cue["id"] for cue in listed(asked)] == [cue["id"] for cue in listed(channel)] == ["b1"]
        await until_in_thread(lambda: told(channel) == [("out", 20.0)], "the holder has told it once")
        assert told(asked) == []


def test_a_recording_has_a_chapter_at_each_cue(gateway: Gateway) -> None:
    channel = gateway.channel(isVideo=True, video_time="600")
    path = f"/videostream/{channel.id}/cues"
    with push(FILM, channel.push):
        channel.wait_live()
        until(lambda: channel.session()["publisher"]["seconds"] > 1.5, "the recording has begun")
        assert gateway.api("POST", path, {"type": "out"}).status == 202
        until(lambda: channel.session()["publisher"]["seconds"] > 2.5, "the break lasts a while")
        assert gateway.api("POST", path, {"type": "in"}).status == 202
        until(lambda: channel.session()["publisher"]["seconds"] > 3.5, "the program goes on")
    until(lambda: gateway.api("GET", f"/videostream/{channel.id}/recordings").json(), "the recording is stored", 30)
    (file,) = (gateway.data / "media" / channel.id).rglob("*.mp4")
    command = ["ffprobe", "-v", "error", "-show_chapters", "-of", "json", str(file)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=at_most(30)).stdout)["chapters"]
    assert [one["tags"]["title"] for one in found] == ["Program", "Break", "Program"]
    starts = [float(one["start_time"]) for one in found]
    assert starts[0] == 0
    assert 1 < starts[1] < starts[2] < 6
