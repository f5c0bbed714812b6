"""A multitrack push with a slate is cut and returns: every rendition goes on."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from pathlib import Path

import pytest

from gateway.formats.flv.tag import TrackStart
from gateway.media.track import AccessUnit, Kind
from tests.integration.cluster.test_nodes import Pair, pair
from tests.integration.ingest.test_multitrack import push_command, shown, tone
from tests.support.clients import Program, until
from tests.support.flv_reader import FlvFileDemuxer
from tests.support.gateway import Channel, Gateway, http
from tests.support.shared_gateway import shared_gateway

__all__ = ["pair"]
INPUTS = [{"name": "main", "kind": "push"}, {"name": "slate", "kind": "slate"}]


gateway = shared_gateway(MILLRACE_EGRESS__ALLOW="127.0.0.0/8")


def until_on_air(channel: Channel, name: str) -> None:
    until(lambda: channel.session()["input"] == name, f"{name} is on air", 30)


def discontinuities(channel: Channel, path: str) -> int:
    text = http("GET", channel.url(path)).text
    past = re.search(r"DISCONTINUITY-SEQUENCE:(\d+)", text)
    return (int(past[1]) if past else 0) + text.count("#EXT-X-DISCONTINUITY\n")


def viewer(stack: contextlib.ExitStack, url: str, file: Path) -> Path:
    """Starts a viewer that stores the FLV data of a player."""
    stack.enter_context(Program(["curl", "-sN", "-o", str(file), url]))
    return file


def units(file: Path) -> list[AccessUnit]:
    events = FlvFileDemuxer().receive(file.read_bytes())
    found = [event.unit if isinstance(event, TrackStart) else event for event in events]
    return [unit for unit in found if isinstance(unit, AccessUnit)]


def times(file: Path, kind: Kind) -> list[int]:
    return [unit.dts for unit in units(file) if unit.track.kind is kind]


def test_every_rendition_continues_after_a_cut(gateway: Gateway, tmp_path: Path) -> None:
    target = gateway.channel("tracks-target")
    fields = {"isVideo": True, "video_time": "3", "recordTracks": "240p, fr", "isFlv": True}
    fields |= {"isRelay": True, "relayURL": target.push, "relayTracks": "all", "hls_time": "2", "hls_list_size": "20"}
    channel = gateway.channel("tracks-cut", audioTracks="en=English, fr=Français, de", inputs=INPUTS, **fields)
    with contextlib.ExitStack() as stack:
        main = stack.enter_context(Program(push_command(channel.push)))
        channel.wait_live()
        channel.wait_playable("index.m3u8", "master.m3u8", "240p/index.m3u8", "audio2/index.m3u8")
        target.wait_playable("240p/index.m3u8")
        names = ["", "@240p", "@audio1"]
        files = [
            viewer(stack, channel.url("live.flv").replace(channel.id, channel.id + name), tmp_path / f"{name}.flv")
            for name in names
        ]
        until(lambda: all(f.exists() and f.stat().st_size > 20_000 for f in files), "viewers see something")
        main.kill()
        until_on_air(channel, "slate")
        playlists = ["video/index.m3u8", "240p/video/index.m3u8", "144p/video/index.m3u8", "240p/index.m3u8"]
        until(lambda: [discontinuities(channel, p) for p in playlists] == [1] * 4, "the cut is in all playlists")
        assert {f["height"] for f in shown(channel.url("240p/index.m3u8"), "-live_start_index", "-1")} == {360}
        stack.enter_context(Program(push_command(channel.push)))
        until_on_air(channel, "main")
        until(lambda: [discontinuities(channel, p) for p in playlists] == [2] * 4, "the return is in all playlists")
        assert {f["height"] for f in shown(channel.url("240p/index.m3u8"), "-live_start_index", "-1")} == {240}
        until(lambda: tone(channel.url("audio1/index.m3u8")) == pytest.approx(800, rel=0.03), "the track has its sound")
        until(lambda: len(target.session()["tracks"]) == 6, "the relay has all tracks")
        target.wait_playable("audio2/index.m3u8")
        recordings = gateway.data / f"media/{channel.id}/mp4"
        until(lambda: heights(recordings)[-1:] == [{360, 240}] and {360} in heights(recordings), "recordings", 40)
    source, small, french = files
    pictures, sounds = times(source, Kind.VIDEO), times(source, Kind.AUDIO)
    for file, expected in ((small, pictures), (french, sounds)):
        found = times(file, Kind.VIDEO if file is small else Kind.AUDIO)
        assert found == sorted(set(found))
        end = min(found[-1], expected[-1])
        late = [t for t in found if expected[0] < t <= end]
        missing = [t for t in expected if late[0] <= t <= end and min(abs(t - f) for f in late) > 20]
        assert len(missing) <= 3, "the tracks have the times of the default ones"


def heights(folder: Path) -> list[set[int]]:
    """The sizes of the pictures in each recording, oldest first."""
    found = []
    for file in sorted(folder.glob("**/*.mp4")):
        command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", str(file)]
        streams = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)["streams"]
        found.append({stream["height"] for stream in streams if stream["codec_type"] == "video"})
    return found


@pytest.mark.nightly
@pytest.mark.parametrize("pair", ["sqlite"], indirect=True)
def test_a_push_that_arrives_at_another_node_has_all_its_tracks(pair: Pair) -> None:
    channel = pair.a.channel(isHls=True, inputs=INPUTS, audioTracks="en, fr, de")
    with Program(push_command(pair.push_url(pair.a, channel))) as first:
        channel.wait_live()
        first.kill()
    until_on_air(channel, "slate")
    with Program(push_command(pair.push_url(pair.b, channel))):
        until_on_air(channel, "main")
        channel.wait_playable("240p/index.m3u8", "audio2/index.m3u8")
        url = pair.at(pair.b, channel, "240p/index.m3u8")
        until(lambda: {f["height"] for f in shown(url, "-live_start_index", "-1")} == {240}, "the track at both nodes")
        assert [t["language"] for t in channel.session()["tracks"] if t["kind"] == "audio"] == ["en", "fr", "de"]
