"""OBS Studio streams with the addresses that the gateway shows, and the stream can be played, with its captions."""

import re
from collections.abc import Callable

import pytest

from tests.support.at_night import at_night
from tests.support.clients import obs, probe, pull, take_of, until
from tests.support.gateway import Channel, Gateway, http
from tests.support.tools import need

# Each two seconds another caption, as plug-ins for captions send them.
CAPTIONS = """
obs = obslua
local number = 0
function say()
  local output = obs.obs_frontend_get_streaming_output()
  if output ~= nil then
    number = number + 1
    obs.obs_output_output_caption_text2(output, "OBS SAYS " .. number, 1.5)
    obs.obs_output_release(output)
  end
end
function script_load(settings) obs.timer_add(say, 2000) end
"""


def by_rtmp(channel: Channel) -> tuple[str, str]:
    return channel.item["obsServer"], channel.item["obsKey"]


def by_srt(channel: Channel) -> tuple[str, str]:
    return channel.item["pushUrls"]["srt"], ""


@pytest.mark.parametrize("way", [by_rtmp, *at_night(by_srt)])
def test_obs_streams_with_the_shown_address(way: Callable[[Channel], tuple[str, str]], gateway: Gateway) -> None:
    need("obs", "xvfb-run", "dbus-run-session", "ffmpeg", "ffprobe")
    channel = gateway.channel("obs")
    with obs(*way(channel)) as studio:
        channel.wait_live(90)
        streams = probe(channel.url("live.flv"))
        assert streams["video"]["codec_name"] == "h264"
        assert (streams["video"]["width"], streams["video"]["height"]) == (320, 180)
        assert streams["audio"]["codec_name"] == "aac"
        with pull(channel.url("live.flv"), seconds=4) as flv, pull(channel.rtmp, seconds=4) as rtmp:
            for program in (flv, rtmp):
                take = take_of(program)
                assert len(take.video) >= 80, program.errors[-400:]
                assert len(take.audio) >= 120, program.errors[-400:]
                times = [frame.time for frame in take.video]
                assert times == sorted(times)
        assert studio.running, studio.errors[-600:]


def test_captions_of_obs_become_webvtt(gateway: Gateway) -> None:
    need("obs", "xvfb-run", "dbus-run-session")
    channel = gateway.channel("obs captions")

    def texts() -> set[str]:
        listed = http("GET", channel.url("captions/cc1/live.m3u8")).text
        names = re.findall(r"^[0-9]+\.vtt", listed, re.MULTILINE)
        files = [http("GET", channel.url(f"captions/cc1/{name}")).text for name in names]
        return {text for file in files for text in re.findall(r"^OBS SAYS [0-9]+$", file, re.MULTILINE)}

    with obs(*by_rtmp(channel), CAPTIONS) as studio:
        channel.wait_live(90)
        until(lambda: len(texts()) >= 3, "three captions have come", 60)
        assert studio.running, studio.errors[-600:]
