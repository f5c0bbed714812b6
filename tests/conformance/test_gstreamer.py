"""GStreamer publishes and plays with its own RTMP, FLV, HLS and DASH code."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.support.at_night import at_night
from tests.support.clients import (
    checksums,
    gst_play_dash,
    gst_play_flv,
    gst_play_hls,
    gst_push,
    pull,
    take_of,
    until,
)
from tests.support.gateway import Channel, Gateway, http
from tests.support.media import BFRAMES, PLAIN, Film, excerpt, judge
from tests.support.tools import need

Live = Callable[[Film], Channel]
WANTED = 100  # pictures, a little over three seconds


@pytest.fixture(autouse=True, scope="module")
def _gstreamer() -> None:
    need("gst-launch-1.0")


def test_rtmp2sink_publishes(gateway: Gateway) -> None:
    channel = gateway.channel("gst-push")
    PLAIN.hashes()
    with gst_push(PLAIN, channel.push) as publisher:
        channel.wait_live()
        with pull(channel.url("live.flv"), seconds=4) as viewer:
            judge(take_of(viewer), PLAIN)
        assert publisher.running, publisher.errors[-600:]


def test_souphttpsrc_and_rtmp2src_play_every_picture_and_packet(live: Live) -> None:
    channel = live(PLAIN)
    source = PLAIN.hashes()
    elements = (
        f'souphttpsrc location="{channel.url("live.flv")}" is-live=true',
        f'rtmp2src location="{channel.rtmp}"',
    )
    with ExitStack() as stack:
        pictures = [stack.enter_context(gst_play_flv(element)) for element in elements]
        packets = [stack.enter_context(gst_play_flv(element, picture=False)) for element in elements]
        for player in (*pictures, *packets):
            until(lambda: len(checksums(player.output)) > WANTED, f"it plays: {player.command}")  # noqa: B023
        seen, heard = ([checksums(player.stop()) for player in players] for players in (pictures, packets))
    for shown in seen:
        excerpt([f.digest for f in shown], [f.digest for f in source.video], least=WANTED)
    for sound in heard:
        excerpt([f.digest for f in sound], [f.digest for f in source.audio], least=WANTED)


@pytest.mark.parametrize("path", [*at_night("live.m3u8"), "master.m3u8", "manifest.mpd"])
def test_adaptive_demuxers_play_every_picture(path: str, live: Live) -> None:
    channel = live(BFRAMES)
    # hlsdemux2 waits for ever when it meets a playlist of one short segment.
    until(lambda: http("GET", channel.url("live.m3u8")).text.count("#EXTINF") >= 4, "four segments are listed")
    play = gst_play_dash if path.endswith(".mpd") else gst_play_hls
    with play(channel.url(path)) as player:
        until(lambda: len(checksums(player.output)) > WANTED, f"GStreamer shows {path}: {player.errors[-400:]}", 25)
        seen = checksums(player.stop())
    excerpt([f.digest for f in seen], [f.digest for f in BFRAMES.hashes().video], least=WANTED)
