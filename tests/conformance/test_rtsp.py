"""RTSP with ffmpeg and GStreamer: the frames that come out are the frames that went in.

Debian's VLC is built without the library for RTSP.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.support.at_night import at_night
from tests.support.clients import checksums, new_ffmpeg, probe, pull, push, take_of, until
from tests.support.gateway import Channel, Gateway, running
from tests.support.media import BFRAMES, PLAIN, Film, Take, excerpt, judge
from tests.support.rtsp import OPEN, gst_rtsp_play, gst_rtsp_push, rtsp_pull, rtsp_push
from tests.support.tools import need

WANTED = 100  # pictures, a little over three seconds


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    need("ffmpeg", "ffprobe")
    with running(MILLRACE_RTSP__UDP_PORTS="18100-18101", MILLRACE_EGRESS__ALLOW="127.0.0.0/8", **OPEN) as instance:
        yield instance


@pytest.fixture(scope="module")
def pushed(gateway: Gateway) -> Iterator[Channel]:
    """A channel to which ffmpeg pushes a film over RTSP."""
    PLAIN.hashes()
    channel = gateway.channel("rtsp")
    with rtsp_push(PLAIN, channel.item["pushUrls"]["rtsp"], loop=True):
        channel.wait_live()
        channel.wait_playable("live.m3u8")
        yield channel


def address(channel: Channel) -> str:
    return str(channel.item["playUrls"]["rtsp"])


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("film", [BFRAMES, *at_night(PLAIN)], ids=lambda film: film.name)
def test_a_push_of_ffmpeg_comes_out_of_flv_hls_and_rtsp_with_its_frames(
    film: Film, transport: str, gateway: Gateway
) -> None:
    channel = gateway.channel("rtsp-push")
    film.hashes()
    with rtsp_push(film, channel.item["pushUrls"]["rtsp"], transport) as publisher:
        channel.wait_live()
        channel.wait_playable("live.m3u8")
        with (
            pull(channel.url("live.flv"), seconds=3) as flv,
            pull(channel.url("live.m3u8"), seconds=3) as hls,
            rtsp_pull(address(channel)) as rtsp,
        ):
            judge(take_of(flv), film, cut=True)
            judge(take_of(hls), film, cut=True)
            take = take_of(rtsp)
            # ffmpeg gives the first picture of RTSP no time, and rounds the others to their distance.
            judge(Take(take.video[4:], take.audio), film, cut=True, slack=0.07)
        assert publisher.running, publisher.errors[-600:]
        assert channel.session()["publisher"]["protocol"] == "rtsp"


@pytest.mark.parametrize("transport", ["tcp", *at_night("udp")])
def test_a_push_of_gstreamer_comes_out_with_its_frames(transport: str, gateway: Gateway) -> None:
    need("gst-launch-1.0", "gst-inspect-1.0")
    channel = gateway.channel("gst-push", isHls=False, isCMAF=False)
    PLAIN.hashes()
    with gst_rtsp_push(PLAIN, channel.item["pushUrls"]["rtsp"], transport):
        channel.wait_live()

        def taken() -> Take:
            with pull(channel.url("live.flv"), seconds=3) as player:
                return take_of(player)

        judge(taken(), PLAIN, cut=True, slack=0.2)  # times of arrival, and GStreamer starts its branches one by one

        def is_in_sync() -> bool:
            with contextlib.suppress(AssertionError):
                judge(taken(), PLAIN, cut=True)
                return True
            return False

        until(is_in_sync, "the sender's reports relate the sound to the pictures", 25)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_ffmpeg_plays_the_frames_of_a_push(transport: str, pushed: Channel) -> None:
    with rtsp_pull(address(pushed), transport) as player:
        take = take_of(player)
    excerpt([f.digest for f in take.video], _looped([f.digest for f in PLAIN.hashes().video]), least=60)


@pytest.mark.parametrize("transport", ["tcp", *at_night("udp")])
def test_gstreamer_plays_the_pictures_of_a_push(transport: str, pushed: Channel) -> None:
    need("gst-launch-1.0")
    with gst_rtsp_play(address(pushed), transport) as player:
        until(lambda: len(checksums(player.output)) > WANTED, f"GStreamer shows pictures: {player.errors[-400:]}", 40)
        seen = checksums(player.stop())
    excerpt([f.digest for f in seen], _looped([f.digest for f in PLAIN.hashes().video]), least=WANTED)


def _looped(digests: list[str]) -> list[str]:
    return digests * 2


# What ffmpeg pushes, and what its probe of the channel names. The payload type of MPEG audio does not tell the layer:
# the second one is named. A worker makes AAC of G.711.
CODECS = {
    "hevc-opus": ("libx265", "libopus", "hevc", "opus"),
    "vp8-mp3": ("libvpx", "libmp3lame", "vp8", "mp2"),
    "vp9-opus": ("libvpx-vp9", "libopus", "vp9", "opus"),
    "h264-g711": ("libx264", "pcm_alaw", "h264", "aac"),
}
FAST = {"libx264": ("-preset", "ultrafast"), "libx265": ("-preset", "ultrafast")}


@pytest.mark.parametrize("name", CODECS)
def test_each_codec_goes_in_and_out(name: str, gateway: Gateway) -> None:
    video, audio, pictures, sound = CODECS[name]
    channel = gateway.channel(name, isHls=False, isCMAF=False)
    options = ["-c:v", video, *FAST.get(video, ("-deadline", "realtime", "-cpu-used", "8")), "-g", "30", "-b:v", "300k"]
    options += ["-strict", "experimental"]  # VP9 in RTP
    options += ["-c:a", audio, *(("-ar", "8000", "-ac", "1") if audio == "pcm_alaw" else ())]
    with rtsp_push(PLAIN, channel.item["pushUrls"]["rtsp"], options=options):
        channel.wait_live(60)
        until(lambda: len(channel.session()["tracks"]) == 2, "both tracks are known", 30)
        found = probe(address(channel), "-rtsp_transport", "tcp", timeout=60)
    assert {kind: stream["codec_name"] for kind, stream in found.items()} == {"video": pictures, "audio": sound}


def test_av1_goes_out_and_into_a_pull(gateway: Gateway) -> None:
    """ffmpeg has no AV1 in RTP before 7.1, so a channel of this gateway pulls it."""
    film = Film("av1", video="libsvtav1", ffmpeg=new_ffmpeg())
    film.hashes()
    origin = gateway.channel("av1", isHls=False)
    with push(film, origin.push, ffmpeg=film.ffmpeg):
        origin.wait_live()
        channel = gateway.channel("pulled", isHls=False)
        item = {"name": "p", "kind": "pull", "url": address(origin), "always": True}
        assert gateway.api("PUT", f"/videostream/{channel.id}/inputs", [item]).status == 200
        channel.wait_live(40)
        with pull(channel.url("live.flv"), seconds=4, ffmpeg=film.ffmpeg) as player:
            judge(take_of(player), film, cut=True)
