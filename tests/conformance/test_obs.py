"""OBS Studio streams with the addresses that the gateway shows, and the stream can be played."""

from collections.abc import Callable

import pytest

from tests.support.clients import obs, probe, pull, take_of
from tests.support.gateway import Channel, Gateway
from tests.support.tools import need


def by_rtmp(channel: Channel) -> tuple[str, str]:
    return channel.item["obsServer"], channel.item["obsKey"]


def by_srt(channel: Channel) -> tuple[str, str]:
    return channel.item["pushUrls"]["srt"], ""


@pytest.mark.parametrize("way", [by_rtmp, by_srt])
def test_obs_streams_with_the_shown_address(way: Callable[[Channel], tuple[str, str]], gateway: Gateway) -> None:
    need("obs", "xvfb-run", "dbus-run-session", "ffmpeg", "ffprobe")
    channel = gateway.channel("obs")
    with obs(*way(channel)) as studio:
        channel.wait_live(90)
        streams = probe(channel.url("live.flv"))
        assert streams["video"]["codec_name"] == "h264"
        assert (streams["video"]["width"], streams["video"]["height"]) == (1280, 720)
        assert streams["audio"]["codec_name"] == "aac"
        with pull(channel.url("live.flv"), seconds=4) as flv, pull(channel.rtmp, seconds=4) as rtmp:
            for program in (flv, rtmp):
                take = take_of(program)
                assert len(take.video) >= 80, program.errors[-400:]
                assert len(take.audio) >= 120, program.errors[-400:]
                times = [frame.time for frame in take.video]
                assert times == sorted(times)
        assert studio.running, studio.errors[-600:]
