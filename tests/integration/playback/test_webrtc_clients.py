"""Programs of other vendors by WHIP and WHEP: GStreamer's webrtcbin, ffmpeg's WHIP muxer, MediaMTX if installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest

from tests.support.at_night import at_night
from tests.support.clients import Program, new_ffmpeg, probe, pull, push, take_of, until
from tests.support.free_ports import free_ports
from tests.support.gateway import Channel, Gateway
from tests.support.media import Film
from tests.support.mediamtx import mediamtx_program
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most
from tests.support.tools import lacking, need
from tests.support.whip_client import pictures_of

GST = Path(__file__).parents[2] / "support" / "gst_webrtc.py"
FILM = Film("clients", seconds=40, bframes=0)
_NEEDED = "import gi; gi.require_version('GstWebRTC', '1.0'); from gi.repository import Gst, GstWebRTC; Gst.init(None)"
_NEEDED += "; assert all(Gst.ElementFactory.find(name) for name in ('webrtcbin', 'nicesrc', 'x264enc', 'h264parse'))"


gateway = shared_gateway("ffmpeg", MILLRACE_STREAM__LINGER="1")


def gst(way: str, url: str, *options: str) -> list[str]:
    """The command of a GStreamer client; skips the test where GStreamer lacks something."""
    if subprocess.run(["/usr/bin/python3", "-P", "-c", _NEEDED], capture_output=True, check=False).returncode:
        lacking("GStreamer's webrtcbin for /usr/bin/python3")
    return ["/usr/bin/python3", "-P", str(GST), way, url, *options]


def said(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def whip(channel: Channel) -> str:
    return f"{channel.url('whip')}?sign={channel.key}"


def test_gstreamer_publishes_and_another_gstreamer_gets_the_same_pictures(gateway: Gateway) -> None:
    channel = gateway.channel()
    with Program(gst("whip", whip(channel), "--seconds", "60")) as publisher:
        until(lambda: channel.session()["bitrate"] > 100_000, f"live: {publisher.output[-300:]}", 20)
        with Program(gst("whep", channel.url("whep"), "--seconds", "6")) as viewer:
            viewer.process.wait(at_most(40))
            got = said(viewer.output)
        with pull(channel.url("live.flv"), seconds=3) as player:
            take = take_of(player)
        publisher.kill()
        sent = said(publisher.output)
    assert len(take.video) > 30 and len(take.audio) > 50, "FLV has pictures and sound as AAC"
    assert "timestamps_jump" not in gateway.log, "its sender reports are wrong"
    sent_pictures = [event["sha256"] for event in sent if event.get("kind") == "video"]
    pictures = [event["sha256"] for event in got if event.get("kind") == "video"]
    assert len(pictures) > 60, viewer.errors[-500:]
    at = sent_pictures.index(pictures[0])
    assert pictures == sent_pictures[at : at + len(pictures)]
    sent_sounds = [event["sha256"] for event in sent if event.get("kind") == "audio"]
    sounds = [event["sha256"] for event in got if event.get("kind") == "audio"]
    assert len(sounds) > 100 and sent_sounds


@pytest.mark.nightly
def test_gstreamer_watches_an_rtmp_stream_and_pushes_with_a_bearer_token(gateway: Gateway) -> None:
    channel = gateway.channel()
    with push(FILM, channel.push):
        channel.wait_live()
        with Program(gst("whep", channel.url("whep"), "--seconds", "6")) as viewer:
            viewer.process.wait(at_most(40))
            counts = said(viewer.output)[-1]
    assert counts["video"] > 60 and counts["audio"] > 60, viewer.errors[-500:]
    other = gateway.channel()
    bare = f"http://127.0.0.1:{gateway.ports['http']}/whip"
    with Program(gst("whip", bare, "--seconds", "5", "--bearer", other.obs_key)) as publisher:
        until(lambda: other.session()["bitrate"] > 100_000, "live", 20)
        publisher.process.wait(at_most(40))
        assert publisher.process.returncode == 0, publisher.errors[-500:]


def muxers(ffmpeg: str) -> str:
    return subprocess.run([ffmpeg, "-hide_banner", "-muxers"], capture_output=True, text=True, check=False).stdout


def whip_muxer() -> str:
    ffmpeg = new_ffmpeg()
    if " whip " not in muxers(ffmpeg):
        lacking("an ffmpeg with the WHIP muxer (imageio-ffmpeg with ffmpeg 8)")
    return ffmpeg


def assert_same_pictures(channel: Channel) -> None:
    """Asserts that the FLV output has pictures of `FILM` without a gap."""
    sent, got = pictures_of(FILM.path(), 10_000), pictures_of(channel.url("live.flv"), 90)
    assert len(set(sent)) == len(sent), "no two pictures are alike"
    assert len(got) == 90 and got[0] in sent
    at = sent.index(got[0])
    assert got == sent[at : at + 90]


def test_ffmpeg_publishes_by_whip(gateway: Gateway) -> None:
    """This is the command of docs/api.md. Its offer is a=setup:passive, so the gateway begins the handshake."""
    channel = gateway.channel()
    command = [
        whip_muxer(), "-v", "warning", "-re", "-i", str(FILM.path()), "-c:v", "libx264", "-profile:v", "baseline",
        "-bf", "0", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "60", "-c:a", "libopus", "-ar", "48000",
        "-ac", "2", "-f", "whip", whip(channel),
    ]  # fmt: skip
    with Program(command) as publisher:
        until(lambda: channel.session()["tracks"], f"live: {publisher.errors[-800:]}", 20)
        with pull(channel.url("live.flv"), seconds=3) as player:
            take = take_of(player)
        assert publisher.running, publisher.errors[-500:]
    assert len(take.video) > 30 and len(take.audio) > 50


@pytest.mark.parametrize("flags", [*at_night([]), ["-whip_flags", "dtls_active"]], ids=["passive", "active"])
def test_pictures_of_ffmpeg_come_out_unchanged(gateway: Gateway, flags: list[str]) -> None:
    channel = gateway.channel()
    command = [
        whip_muxer(), "-v", "warning", "-re", "-i", str(FILM.path()), "-c:v", "copy", "-c:a", "libopus", "-ar", "48000",
        "-ac", "2", "-f", "whip", *flags, "-authorization", channel.obs_key,
        f"http://127.0.0.1:{gateway.ports['http']}/whip",
    ]  # fmt: skip
    with Program(command) as publisher:
        until(lambda: channel.session()["tracks"], f"live: {publisher.errors[-800:]}", 20)
        assert_same_pictures(channel)


# FFmpeg with GnuTLS. Its own certificate is on the curve P-224, which OpenSSL 4 refuses, so it needs another one.
PYAV = """
import sys, time, av
film, out = av.open(sys.argv[1]), av.open(sys.argv[2], "w", format="whip", options={
    "cert_file": sys.argv[3], "key_file": sys.argv[4]})
video = out.add_stream_from_template(film.streams.video[0])
audio = out.add_stream("libopus", rate=48_000, layout="stereo")
began = time.monotonic()
for packet in film.demux():
    if not packet.size:
        continue
    time.sleep(max(0, began + float(packet.dts * packet.time_base) - time.monotonic()))
    if packet.stream.type == "video":
        packet.stream = video
        out.mux(packet)
    else:
        for frame in packet.decode():
            out.mux(audio.encode(frame))
"""


def test_pyav_publishes_by_whip_with_a_certificate_of_its_own(gateway: Gateway, tmp_path: Path) -> None:
    if "whip" not in av.formats_available:
        lacking("a PyAV with the WHIP muxer")
    need("openssl")
    certificate, key = tmp_path / "whip.crt", tmp_path / "whip.key"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=whip"]
    made = ["openssl", "req", "-x509", *curve, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    channel = gateway.channel()
    command = [sys.executable, "-c", PYAV, str(FILM.path()), whip(channel), str(certificate), str(key)]
    with Program(command) as publisher:
        until(lambda: channel.session()["tracks"], f"live: {publisher.errors[-800:]}", 20)
        assert_same_pictures(channel)


# ---- MediaMTX ----

CONFIG = """
logLevel: info
rtsp: yes
rtspAddress: 127.0.0.1:{rtsp}
rtspTransports: [tcp]
rtmp: no
hls: no
srt: no
moq: no
api: no
webrtc: yes
webrtcAddress: 127.0.0.1:{http}
webrtcLocalUDPAddress: 127.0.0.1:{udp}
webrtcIPsFromInterfaces: no
webrtcAdditionalHosts: [127.0.0.1]
paths:
  pulled:
    source: {source}
    sourceOnDemand: no
"""


@pytest.fixture
def mediamtx() -> str:
    return mediamtx_program()


def test_mediamtx_reads_by_whep(gateway: Gateway, mediamtx: str, tmp_path: Path) -> None:
    channel = gateway.channel()
    rtsp, http, udp = free_ports(3, "127.0.0.1")
    source = channel.url("whep").replace("http://", "whep://")
    config = tmp_path / "mediamtx.yml"
    config.write_text(CONFIG.format(rtsp=rtsp, http=http, udp=udp, source=source))
    with push(FILM, channel.push):
        channel.wait_live()
        with Program([mediamtx, str(config)], cwd=tmp_path) as reader:  # it writes certificates there
            until(lambda: "ready" in reader.output or "stream is available" in reader.output, "MediaMTX reads", 30)
            until(lambda: channel.session()["viewers"]["whep"] == 1, "a viewer", 10)
            streams = probe(f"rtsp://127.0.0.1:{rtsp}/pulled")
            assert streams["video"]["codec_name"] == "h264" and streams["audio"]["codec_name"] == "opus"
