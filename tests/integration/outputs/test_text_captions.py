"""Captions that somebody writes: they reach players of every format as text, at their time."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import av
import pytest

from tests.support.clients import push, until
from tests.support.gateway import Channel, Gateway, http
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

FILM = Film("text-captions", seconds=20)
TRACKS = [
    {"source": "text", "language": "en", "label": "English", "default": True},
    {"source": "text", "language": "de", "label": "Deutsch"},
]

gateway = shared_gateway("ffmpeg", films=[FILM])


@pytest.fixture(scope="module")
def stage(gateway: Gateway) -> Iterator[Channel]:
    channel = gateway.channel(captions=TRACKS, hls_time="1")
    with push(FILM, channel.push, loop=True):
        channel.wait_playable("live.m3u8", "master.m3u8", "manifest.mpd")
        yield channel


def say(gateway: Gateway, channel: Channel, text: str, **more: object) -> None:
    answer = gateway.api("POST", f"/videostream/{channel.id}/captions", {"text": text, **more})
    assert answer.status == 202, answer.text


def texts(channel: Channel, playlist: str) -> str:
    """The text of all segments and parts of a playlist of captions."""
    folder = playlist.rpartition("/")[0]
    listed = http("GET", channel.url(playlist)).text
    names = re.findall(r'(?:^|EXT-X-PART:[^\n]*URI=")([0-9a-z-]+\.vtt)', listed, re.MULTILINE)
    assert names
    return "\n".join(http("GET", channel.url(f"{folder}/{name}")).text for name in names)


@pytest.mark.parametrize("playlist", ["captions/text-en/live.m3u8", "captions/text-en/index.m3u8"])
def test_segments_of_hls_have_them(gateway: Gateway, stage: Channel, playlist: str) -> None:
    text = f"a <b>bold</b> line for {playlist[-9:]}"
    say(gateway, stage, text)
    escaped = text.replace("<", "&lt;").replace(">", "&gt;")
    until(lambda: escaped in texts(stage, playlist), "a segment has the caption")
    assert text not in texts(stage, playlist.replace("-en", "-de"))


def test_each_language_has_its_track(gateway: Gateway, stage: Channel) -> None:
    say(gateway, stage, "Guten Tag", language="de")
    until(lambda: "Guten Tag" in texts(stage, "captions/text-de/index.m3u8"), "a part has the caption")
    assert "Guten Tag" not in texts(stage, "captions/text-en/index.m3u8")
    shown = {entry["label"]: entry for entry in gateway.api("GET", f"/videostream/{stage.id}/captions").json()}
    assert shown["Deutsch"]["last"] == "Guten Tag" and shown["Deutsch"]["found"]


@pytest.mark.parametrize("name", ["master.m3u8", "index.m3u8"])
def test_playlists_name_them(stage: Channel, name: str) -> None:
    playlist = http("GET", stage.url(name)).text
    media = [line for line in playlist.splitlines() if "TYPE=SUBTITLES" in line]
    assert len(media) == 2 and 'NAME="English",LANGUAGE="en",DEFAULT=YES' in media[0]
    assert all('SUBTITLES="subtitles"' in line for line in playlist.splitlines() if "STREAM-INF" in line)
    for uri in re.findall(r'TYPE=SUBTITLES.*URI="([^"]*)"', playlist):
        assert "#EXTINF" in http("GET", stage.url(uri)).text


def test_dash_has_them_in_mp4(gateway: Gateway, stage: Channel, tmp_path: Path) -> None:
    manifest = http("GET", stage.url("manifest.mpd")).text
    assert 'contentType="text" lang="en" mimeType="application/mp4"' in manifest and 'codecs="wvtt"' in manifest
    found = re.search(r'media="\$RepresentationID\$/([0-9]+)-\$Number\$\.m4s"', manifest)
    assert found
    init = http("GET", stage.url(f"captions/text-en/{found[1]}-init-1.mp4")).body
    say(gateway, stage, "for DASH")

    def read() -> list[str]:
        listed = http("GET", stage.url("captions/text-en/index.m3u8")).text
        segments = re.findall(r"^([0-9]+-[0-9]+)\.vtt$", listed, re.MULTILINE)
        media = b"".join(http("GET", stage.url(f"captions/text-en/{name}.m4s")).body for name in segments)
        out = tmp_path / "captions.mp4"
        out.write_bytes(init + media)
        with av.open(str(out)) as file:
            return [bytes(packet).decode("utf-8", "replace") for packet in file.demux(file.streams[0]) if packet.size]

    until(lambda: any("for DASH" in text for text in read()), "a segment has the caption")


def test_the_next_part_is_sent_when_it_is_complete(gateway: Gateway, stage: Channel) -> None:
    playlist = http("GET", stage.url("captions/text-en/index.m3u8")).text
    hint = re.search(r'PRELOAD-HINT:TYPE=PART,URI="([^"]*\.vtt)"', playlist)
    assert hint
    answer = http("GET", stage.url(f"captions/text-en/{hint[1]}"))
    assert answer.status == 200 and answer.text.startswith("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:")
    number, part = re.findall(r"REPORT:URI=\"../../video/index.m3u8\",LAST-MSN=([0-9]+),LAST-PART=([0-9]+)", playlist)[
        0
    ]
    blocking = http("GET", stage.url(f"captions/text-en/index.m3u8?_HLS_msn={number}&_HLS_part={int(part) + 1}"))
    assert blocking.status == 200


def test_invalid_captions_are_refused(gateway: Gateway, stage: Channel) -> None:
    path = f"/videostream/{stage.id}/captions"
    for body in ({}, {"text": "x" * 501}, {"text": "x", "language": "?"}, {"text": "x", "from": time.time() + 9_999}):
        assert gateway.api("POST", path, body).status == 400
    idle = gateway.channel()
    assert gateway.api("POST", f"/videostream/{idle.id}/captions", {"text": "x"}).status == 409
    statuses = {gateway.api("POST", path, {"text": f"flood {n}"}).status for n in range(40)}
    assert statuses == {202, 429}


def test_no_other_captions_exist(stage: Channel) -> None:
    for path in ("captions/cc1/index.m3u8", "captions/text-en/1-2-3.vtt", "captions/text-en/0.vtt", "captions/x"):
        assert http("GET", stage.url(path)).status == 404


def test_recordings_have_them_beside_the_film(gateway: Gateway) -> None:
    channel = gateway.channel(isVideo=True, video_time="3", isHls=False, isCMAF=False)
    with push(FILM, channel.push, loop=True):
        channel.wait_live()
        say(gateway, channel, "recorded")
        path = f"/videostream/{channel.id}/recordings"
        until(lambda: len(gateway.api("GET", path).json()) >= 2, "two files are stored", 30)
    films = [entry["key"] for entry in gateway.api("GET", path).json()]
    assert all(key.endswith(".mp4") for key in films)
    beside = {key: f"{key.removesuffix('.mp4')}.text.vtt".partition("/")[2] for key in films}
    found = {key: http("GET", channel.url(f"vod/{name}")) for key, name in beside.items()}
    [key] = [key for key, answer in found.items() if answer.status == 200 and "recorded" in answer.text]
    times = re.search(r"00:00:0([0-3])\.[0-9]{3} --> 00:00:0([0-9])\.[0-9]{3}", found[key].text)
    assert times and int(times[1]) < int(times[2])
    assert gateway.api("DELETE", f"{path}/{key.partition('/')[2]}?final=true").status == 200
    assert http("GET", channel.url(f"vod/{beside[key]}")).status == 404


def recorded(channel: Channel) -> float:
    """Seconds for which the open file of the recording has been written."""
    outputs = {output["name"]: output for output in channel.session()["outputs"]}
    return time.time() - outputs["video"].get("openSince", time.time())


def test_clips_have_them_inside(gateway: Gateway, tmp_path: Path) -> None:
    channel = gateway.channel(captions=TRACKS[:1], isVideo=True, video_time="60", isHls=False, isCMAF=False)
    with push(FILM, channel.push, loop=True):
        channel.wait_live()
        until(lambda: recorded(channel) > 2.5, "enough is recorded")
        say(gateway, channel, "in the clip")
        at, before = time.time(), recorded(channel)
        until(lambda: recorded(channel) > before + 1, "the caption is recorded")
        made = gateway.api("POST", f"/videostream/{channel.id}/clips", {"last": 3})
    assert made.status == 201, made.text
    start, time_in_clip = clip_captions(channel, made.json(), tmp_path, "in the clip")
    assert abs(start + time_in_clip - at) < 0.5


def clip_captions(channel: Channel, made: dict[str, Any], folder: Path, text: str) -> tuple[float, float]:
    """The start of a clip, seconds since 1970, and the time of a text in it, as ffmpeg reads it."""
    clip = folder / "clip.mp4"
    clip.write_bytes(http("GET", channel.url(f"vod/{made['key'].partition('/')[2]}")).body)
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-map", "0:s:0", "-f", "webvtt", "-"]
    written = subprocess.run(command, capture_output=True, text=True, check=True, timeout=at_most(30)).stdout
    found = re.search(rf"([0-9]+):([0-9]+)\.([0-9]{{3}}) --> [^\n]*\n{text}", written)
    assert found, written
    start = datetime.fromisoformat(made["start"].replace("Z", "+00:00")).timestamp()
    return start, int(found[1]) * 60 + int(found[2]) + int(found[3]) / 1000


@pytest.mark.nightly
def test_clips_of_a_finished_session_have_them_too(gateway: Gateway, tmp_path: Path) -> None:
    channel = gateway.channel(captions=TRACKS[:1], isOnDemand=True, ondemand_time="2", isHls=False, isCMAF=False)
    with push(FILM, channel.push, loop=True):
        channel.wait_live()
        began = time.time()
        until(lambda: segments(channel) >= 2, "two segments are stored", 30)
        say(gateway, channel, "long ago", to=time.time() + 1)
        at = time.time()
        until(lambda: segments(channel) >= 4, "the caption is stored", 30)
    assert gateway.api("DELETE", f"/videostream/{channel.id}/session").status in (200, 204, 404)
    until(lambda: channel.session()["state"] == "idle", "the session has ended", 30)
    made = gateway.api("POST", f"/videostream/{channel.id}/clips", {"from": began, "to": at + 1.5})
    assert made.status == 201, made.text
    start, time_in_clip = clip_captions(channel, made.json(), tmp_path, "long ago")
    assert abs(start + time_in_clip - at) < 0.5


def segments(channel: Channel) -> int:
    outputs = {output["name"]: output for output in channel.session()["outputs"]}
    return int(outputs["ondemand"].get("segments", 0))
