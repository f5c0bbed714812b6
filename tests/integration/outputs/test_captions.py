"""Closed captions of the pictures: every output carries them, and playlists name them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import av
import pytest

from gateway.media.closed_captions import ClosedCaptions
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from tests.support.at_night import at_night
from tests.support.caption_judges import ffmpeg_cues
from tests.support.caption_writer import captioned, captions_of, popped_on, with_pairs
from tests.support.clients import Program, push, until
from tests.support.gateway import Channel, Gateway, http
from tests.support.media import VIDEO_ONLY, Film
from tests.support.shared_gateway import shared_gateway
from tests.support.webvtt_times import cues

LINES = {"THE FIRST LINE": 10, "A SECOND ONE": 70, "NUMBER THREE": 130, "IT BEGINS AGAIN": 190}
FILM = Film("captions", seconds=8, audio=None)
LONG = Film("captions-long", seconds=12, audio=None)  # does not repeat within the segments of a playlist
PADDING = b"\xfc\x80\x80\xfd\x80\x80"
_TRACK = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"")
MARKED = {"isWaterMark": True, "WaterMarkText": "x", "WaterMarkFontSize": 20, "WaterMarkFontColor": "#00ff00"}

gateway = shared_gateway("ffmpeg", films=[VIDEO_ONLY, FILM])


@pytest.fixture(scope="module")
def film() -> Path:
    return captioned(FILM, [(first, text) for text, first in LINES.items()])


@pytest.fixture(scope="module")
def stage(gateway: Gateway, film: Path) -> Iterator[Channel]:
    channel = gateway.channel(isCodec=True, ld=True, sd=False, hd=False)
    with push(film, channel.push, loop=True):
        channel.wait_live()
        channel.wait_playable("live.m3u8", "master.m3u8")
        until(lambda: http("GET", channel.url("index.m3u8")).status == 200, "the ladder is playable", 30)
        until(lambda: "INSTREAM-ID" in http("GET", channel.url("master.m3u8")).text, "captions are found", 20)
        yield channel


def play(url: str, out: Path) -> Program:
    """ffmpeg that stores the pictures of a whole turn of the film."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", url, "-t", str(FILM.seconds), "-map", "0:v:0", "-c", "copy"]
    return Program([*command, "-f", "mpegts", str(out)])


def whole_lines(out: Path) -> set[str]:
    """The lines in a file. The first one may lack its beginning, and the last one its end."""
    return set(captions_of(out)) & LINES.keys()


def test_every_output_carries_them(stage: Channel, tmp_path: Path) -> None:
    files = ("live.flv", "live.m3u8", "master.m3u8", "360p/index.m3u8")
    urls = {name: stage.url(name) for name in files} | {"rtmp": stage.rtmp, "srt": stage.srt}
    outs = {name: tmp_path / f"{name.replace('/', '-')}.ts" for name in urls}
    with ExitStack() as stack:
        players = [stack.enter_context(play(url, outs[name])) for name, url in urls.items()]
        for player in players:
            player.wait(60)
    assert {name for name, out in outs.items() if len(whole_lines(out)) < 2} == set()


@pytest.mark.nightly
def test_pictures_with_a_watermark_carry_them(gateway: Gateway, film: Path, tmp_path: Path) -> None:
    channel, out = gateway.channel(**MARKED), tmp_path / "out.ts"
    with push(film, channel.push, loop=True):
        channel.wait_live()
        with play(channel.url("live.flv"), out) as player:
            player.wait(60)
    assert len(whole_lines(out)) >= 2


@pytest.mark.parametrize("name", ["master.m3u8", "index.m3u8"])
def test_playlists_of_hls_name_them(stage: Channel, name: str) -> None:
    playlist = http("GET", stage.url(name)).text
    assert 'TYPE=CLOSED-CAPTIONS,GROUP-ID="cc",NAME="CC1"' in playlist and 'INSTREAM-ID="CC1"' in playlist
    variants = [line for line in playlist.splitlines() if line.startswith("#EXT-X-STREAM-INF")]
    assert variants and all(line.endswith('CLOSED-CAPTIONS="cc"') for line in variants)


def test_the_manifest_of_dash_names_them(stage: Channel) -> None:
    manifest = http("GET", stage.url("manifest.mpd")).text
    assert '<Accessibility schemeIdUri="urn:scte:dash:cc:cea-608:2015" value="CC1=und"/>' in manifest


@pytest.mark.parametrize("folder", ["", "360p/"])
def test_they_are_decoded_to_webvtt(stage: Channel, folder: str) -> None:
    def lines() -> set[str]:
        listed = http("GET", stage.url(f"{folder}captions/cc1/live.m3u8")).text
        files = re.findall(r"^[0-9]+\.vtt", listed, re.MULTILINE)
        return {
            line for name in files for line in http("GET", stage.url(f"{folder}captions/cc1/{name}")).text.split("\n")
        }

    until(lambda: bool(lines() & LINES.keys()), "a line is decoded", 20)


@pytest.mark.nightly
def test_their_times_are_those_of_the_pictures(gateway: Gateway, tmp_path: Path) -> None:
    """The times in WebVTT, on the clock of the segments, against what ffmpeg decodes from the pictures of these."""
    pairs = {n * 45 + at: pair for n in range(8) for at, pair in enumerate(popped_on(1, f"TEXT {n}"))}
    channel = gateway.channel(hls_list_size="20")
    with push(with_pairs(LONG, pairs), channel.push, loop=True):
        channel.wait_live()
        until(lambda: "#EXTINF" in http("GET", channel.url("captions/cc1/live.m3u8")).text, "captions are found", 20)
        until(lambda: http("GET", channel.url("live.m3u8")).text.count("#EXTINF") >= 8, "eight segments exist", 30)
        names = re.findall(r"^([0-9]+)\.ts", http("GET", channel.url("live.m3u8")).text, re.MULTILINE)
        joined = tmp_path / "joined.ts"
        joined.write_bytes(b"".join(http("GET", channel.url(f"{name}.ts")).body for name in names))
        files = [http("GET", channel.url(f"captions/cc1/{name}.vtt")).text for name in names]
    with av.open(str(joined)) as file:
        first = float(file.streams.video[0].start_time * file.streams.video[0].time_base)
    theirs = {text: time for time, text in ffmpeg_cues(joined)}
    ours: dict[str, float] = {}
    for text, start in (cue for file in files for cue in cues(file)):
        ours[text] = min(start - first, ours.get(text, start))
    both = ours.keys() & theirs.keys()
    assert len(both) >= 4
    assert {text: abs(ours[text] - theirs[text]) for text in both if abs(ours[text] - theirs[text]) > 1 / 30} == {}


def test_the_captions_of_a_channel_are_named_before_they_are_found(gateway: Gateway) -> None:
    channel = gateway.channel(captions=[{"source": "cc1", "language": "pt-BR", "label": "Português", "default": True}])
    with push(VIDEO_ONLY, channel.push):
        channel.wait_playable("master.m3u8")
        playlist = http("GET", channel.url("master.m3u8")).text
        assert 'NAME="Português",LANGUAGE="pt-BR",DEFAULT=YES,AUTOSELECT=YES,INSTREAM-ID="CC1"' in playlist
        assert 'value="CC1=pt-BR"' in http("GET", channel.url("manifest.mpd")).text
        services = [{"source": "service1", "language": "de"}]
        assert gateway.api("PUT", f"/videostream/{channel.id}", {"captions": services}).status == 200
        until(lambda: 'INSTREAM-ID="SERVICE1"' in http("GET", channel.url("master.m3u8")).text, "the change applies")
        until(lambda: 'value="1=lang:de"' in http("GET", channel.url("manifest.mpd")).text, "also in DASH")
    refused = gateway.api("PUT", f"/videostream/{channel.id}", {"captions": [{"source": "cc9"}]})
    assert (refused.status, refused.json()["field"]) == (400, "captions")


def test_playlists_say_that_there_are_none(gateway: Gateway) -> None:
    channel = gateway.channel()
    with push(VIDEO_ONLY, channel.push):
        channel.wait_playable("master.m3u8")
        assert "CLOSED-CAPTIONS=NONE" in http("GET", channel.url("master.m3u8")).text
        assert "Accessibility" not in http("GET", channel.url("manifest.mpd")).text


def pairs_of(path: Path) -> list[bytes]:
    """The data of captions of each picture of a file, in the order in which the pictures are shown."""
    captions, found = ClosedCaptions(), []
    with av.open(str(path)) as file:
        for packet in file.demux(file.streams.video[0]):
            if packet.pts is not None:
                unit = AccessUnit(_TRACK, 0, 0, True, 0.0, bytes(packet))
                found.append((packet.pts, captions.look(unit)))
    return [pairs for _, pairs in sorted(found)]


@pytest.mark.parametrize("fields", [MARKED, *at_night({"isCodec": True, "ld": True, "sd": False, "hd": False})])
def test_all_pairs_pass_an_encoder(gateway: Gateway, film: Path, tmp_path: Path, fields: dict[str, object]) -> None:
    channel, out = gateway.channel(**fields), tmp_path / "out.ts"
    name = "360p/index.m3u8" if "ld" in fields else "live.m3u8"
    with push(film, channel.push, loop=True):
        channel.wait_live()
        until(lambda: "#EXTINF" in http("GET", channel.url(name)).text, "it can be played", 30)
        with play(channel.url(name), out) as player:
            player.wait(60)
    sent, got = pairs_of(film), pairs_of(out)
    assert len(got) >= 200 and sum(pairs != PADDING for pairs in got) >= 20
    twice = sent + sent  # the film repeats
    assert any(twice[at : at + len(got)] == got for at in range(len(sent)))
