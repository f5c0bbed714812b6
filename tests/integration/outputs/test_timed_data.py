"""Cues, timed metadata and private data of real pushes, in every output, as ffprobe and other parsers see them."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from gateway.formats import amf0
from gateway.media.timed_data import Script
from gateway.media.track import TimedData
from tests.support.clients import Program, until
from tests.support.gateway import Channel, Gateway, http
from tests.support.hls_rules import Follower, parse
from tests.support.media import Film
from tests.support.run_folder import run_folder
from tests.support.script_push import ad_cue, pushing
from tests.support.shared_gateway import shared_gateway
from tests.support.splices import splice_insert
from tests.support.time_outs import at_most
from tests.unit.packaging.test_events_in_segments import emsgs

FILM = Film("timed-data", seconds=40, gop=15)
gateway = shared_gateway("ffmpeg", films=[FILM], MILLRACE_HLS__CUE_TAGS="true", MILLRACE_EGRESS__ALLOW="127.0.0.0/8")


def timed() -> list[TimedData]:
    """A break of 4.5 s every 10 s, told 3 s before, and metadata of two forms."""
    found = []
    for n in range(4):
        begin = 4500 + 10_000 * n
        out, back = splice_insert(1, event=n), splice_insert(2, event=n, out=False)
        found.append(ad_cue(begin - 3000, out, ahead=3000, kind="out", id=f"b{n}", seconds=4.5))
        found.append(ad_cue(begin + 1500, back, ahead=3000, kind="in", id=f"b{n}"))
    for dts in range(1000, 40_000, 1000):
        found.append(TimedData(dts, Script("onTimedMetadata", amf0.encode({"text": f"metadata {dts}"}))))
        found.append(TimedData(dts + 500, Script("onScore", amf0.encode({"home": float(dts)}))))
    return found


@pytest.fixture(scope="module")
def stage(gateway: Gateway) -> Iterator[Channel]:
    channel = gateway.channel(hls_time=2)
    with pushing(channel, FILM, timed()):
        channel.wait_live()
        channel.wait_playable("live.m3u8", "master.m3u8", "manifest.mpd")
        for path in ("live.m3u8", "video/index.m3u8", "audio/index.m3u8"):
            until(lambda: "EXT-X-CUE-IN" in http("GET", channel.url(path)).text, "a break has ended", 30)  # noqa: B023
        yield channel


def described(path: str | Path, *options: str) -> tuple[set[str], Counter[str]]:
    """The codecs that ffprobe finds, and the packets of each."""
    command = ["ffprobe", "-v", "error", *options, "-show_streams", "-show_packets", "-of", "json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=at_most(60), check=False)
    assert done.returncode == 0, done.stderr[-600:]
    shown: dict[str, Any] = json.loads(done.stdout)
    names = {s["index"]: s.get("codec_name", s.get("codec_tag_string", "")) for s in shown["streams"]}
    return set(names.values()), Counter(names[packet["stream_index"]] for packet in shown["packets"])


def media(channel: Channel, playlist: str) -> list[bytes]:
    folder = playlist.rpartition("/")[0]
    uris = [segment.uri for segment in parse(http("GET", channel.url(playlist)).text).segments]
    return [http("GET", channel.url(f"{folder}/{uri}".lstrip("/"))).body for uri in uris]


def test_segments_of_mpeg_ts_have_both_streams(stage: Channel, tmp_path: Path) -> None:
    path = tmp_path / "live.ts"
    path.write_bytes(b"".join(media(stage, "live.m3u8")))
    codecs, packets = described(path)
    assert {"h264", "aac", "timed_id3", "scte_35"} <= codecs
    assert packets["timed_id3"] >= 8 and packets["scte_35"] >= 1


def test_every_segment_alone_names_them(stage: Channel, tmp_path: Path) -> None:
    path = tmp_path / "one.ts"
    path.write_bytes(media(stage, "live.m3u8")[-1])
    assert {"timed_id3", "scte_35"} <= described(path)[0]


@pytest.mark.nightly
def test_srt_players_get_them(stage: Channel) -> None:
    codecs, packets = described(stage.srt, "-read_intervals", "%+11", "-probesize", "2000000")
    assert {"timed_id3", "scte_35"} <= codecs
    assert packets["timed_id3"] >= 5 and packets["scte_35"] >= 1


def test_playlists_name_breaks_and_begin_segments_at_them(stage: Channel) -> None:
    for path in ("live.m3u8", "video/index.m3u8", "audio/index.m3u8"):
        playlist = Follower().see(http("GET", stage.url(path)).text)
        assert playlist.ranges and playlist.cue_tags, path
        begun = [found for found in playlist.ranges.values() if "END-DATE" in found]
        assert all(re.fullmatch(r"0xFC[0-9A-F]+", found["SCTE35-OUT"]) for found in playlist.ranges.values())
        assert all(4.4 < float(found["DURATION"]) < 4.6 for found in begun)
        durations = [segment.duration for segment in playlist.segments]
        # Breaks begin on the half second, where a key frame is.
        assert path == "audio/index.m3u8" or any(0.4 < duration < 1.9 for duration in durations), durations


def test_fragments_have_event_messages_and_play(stage: Channel, tmp_path: Path) -> None:
    manifest = http("GET", stage.url("manifest.mpd")).text
    assert manifest.count("<InbandEventStream ") == 2 * manifest.count("<Period ") > 0
    playlist = http("GET", stage.url("video/index.m3u8")).text
    init = re.search(r'MAP:URI="([^"]+)"', playlist)
    assert init is not None
    segments = media(stage, "video/index.m3u8")
    schemes = Counter(event.scheme for segment in segments for event in emsgs(segment))
    assert schemes["https://aomedia.org/emsg/ID3"] >= 8 and schemes["urn:scte:scte35:2013:bin"] >= 1
    path = tmp_path / "video.mp4"
    path.write_bytes(http("GET", stage.url(f"video/{init[1]}")).body + b"".join(segments))
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 100
    assert described(path)[1]["h264"] > 100


# ---- private data ----


def klv_film() -> Path:
    """A transport stream with KLV every 0.5 s, written by ffmpeg's muxer."""
    film = Film("klv", seconds=20, audio="aac", container="mpegts")
    path = run_folder() / "klv.ts"
    if path.exists():
        return path
    with av.open(str(film.path())) as source, av.open(str(path) + ".part", "w", format="mpegts") as to:
        streams = {s.index: to.add_stream_from_template(s) for s in source.streams}
        klv = to.add_data_stream("klv")
        due = 0.0
        for packet in source.demux():
            if packet.dts is None:
                continue
            time = float(packet.dts * packet.time_base)
            if packet.stream.type == "video" and time >= due:
                due = time + 0.5
                data = av.Packet(b"\x06\x0e\x2b\x34" + f"klv {time:.1f}".encode().ljust(24))
                data.stream, data.time_base = klv, packet.time_base
                data.pts = data.dts = packet.dts
                to.mux(data)
            packet.stream = streams[packet.stream.index]
            to.mux(packet)
    Path(str(path) + ".part").rename(path)
    return path


def test_klv_of_an_srt_push_reaches_srt_players_only(gateway: Gateway) -> None:
    channel = gateway.channel()
    command = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(klv_film()), "-map", "0"]
    with Program([*command, "-c", "copy", "-f", "mpegts", channel.srt_push]):
        channel.wait_live()
        codecs, packets = described(channel.srt, "-read_intervals", "%+6")
        assert "klv" in codecs and packets["klv"] >= 3
        channel.wait_playable("live.m3u8")
        assert channel.session()["state"] == "live"
        flv = Program(["ffmpeg", "-nostdin", "-v", "error", "-i", channel.url("live.flv"), "-t", "2", "-c", "copy",
                       "-f", "flv", str(run_folder() / "klv.flv"), "-y"])  # fmt: skip
        with flv as player:
            player.wait(30)
        assert b"onPrivateData" not in (run_folder() / "klv.flv").read_bytes()


def test_klv_passes_a_relay_over_srt(gateway: Gateway) -> None:
    there = gateway.channel()
    stream_id = f"publish:{there.id}%3Fsign%3D{there.key}"
    here = gateway.channel(isRelay=True, relayURL=[f"{there.srt_server}?streamid={stream_id}"])
    command = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(klv_film()), "-map", "0"]
    with Program([*command, "-c", "copy", "-f", "mpegts", here.srt_push]):
        there.wait_live(30)
        until(lambda: described(there.srt, "-read_intervals", "%+3")[1]["klv"], "KLV arrives", 40)
