"""ffmpeg publishes, ffmpeg and ffprobe play: the frames that come out are the frames that went in."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import pytest

from tests.support.at_night import at_night
from tests.support.clients import Program, new_ffmpeg, probe, pull, push, so_far, take_of, until
from tests.support.gateway import Channel, Gateway, http
from tests.support.media import AUDIO_ONLY, BFRAMES, PLAIN, VIDEO_ONLY, Film, judge

Live = Callable[[Film], Channel]


def addresses(channel: Channel) -> dict[str, str]:
    """Every way to play a channel, by the name of the protocol."""
    return {
        "HTTP-FLV": channel.url("live.flv"),
        "RTMP": channel.rtmp,
        "HLS": channel.url("live.m3u8"),
        "LL-HLS": channel.url("master.m3u8"),
        "DASH": channel.url("manifest.mpd"),
    }


def judge_all(film: Film, urls: dict[str, str], *, ffmpeg: str = "ffmpeg") -> None:
    """Plays all addresses at the same time and judges every one, so that one failure does not hide another."""
    with ExitStack() as stack:
        pulls = {name: stack.enter_context(pull(url, seconds=3, ffmpeg=ffmpeg)) for name, url in urls.items()}
        wrong = []
        for name, program in pulls.items():
            try:
                judge(take_of(program), film)
            except AssertionError as error:
                wrong.append(f"{name}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("film", [*at_night(PLAIN), BFRAMES, AUDIO_ONLY, VIDEO_ONLY], ids=lambda film: film.name)
def test_every_protocol_plays_the_pushed_frames(film: Film, live: Live) -> None:
    judge_all(film, addresses(live(film)))


@pytest.mark.parametrize(
    ("film", "seconds"), [(BFRAMES, "2"), *at_night((PLAIN, "1"), (PLAIN, "4"))], ids=["2 s", "1 s", "4 s"]
)
def test_a_dash_player_before_the_first_segment_starts_automatically(
    film: Film, seconds: str, gateway: Gateway
) -> None:
    """ffmpeg keeps the duration of the first manifest; with less than three seconds it never starts."""
    channel = gateway.channel("first", hls_time=seconds)
    film.hashes()
    with push(film, channel.push):
        channel.wait_live()
        with pull(channel.url("manifest.mpd"), seconds=3) as dash:
            judge(take_of(dash, 30), film, least=2)


def test_a_different_clock_of_the_publisher_does_not_stop_dash_players(gateway: Gateway) -> None:
    channel = gateway.channel("uptime", hls_time="2")
    PLAIN.hashes()
    command = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-i", str(PLAIN.path()), "-c", "copy"]
    with Program([*command, "-output_ts_offset", "2147480", "-f", "flv", channel.push]):
        channel.wait_live()
        with pull(channel.url("manifest.mpd"), seconds=3) as dash, pull(channel.url("live.m3u8"), seconds=3) as hls:
            judge(take_of(dash, 30), PLAIN, least=2)
            judge(take_of(hls, 30), PLAIN, least=2)


@pytest.mark.nightly
def test_ffprobe_reads_codecs_and_size_from_every_address(live: Live) -> None:
    for name, url in addresses(live(PLAIN)).items():
        streams = probe(url)
        assert streams["video"]["codec_name"] == "h264", name
        assert (streams["video"]["width"], streams["video"]["height"]) == (320, 180), name
        assert streams["audio"]["codec_name"] == "aac", name
        assert streams["audio"]["sample_rate"] == "48000", name


@pytest.mark.parametrize(
    ("codec", "least"), [*at_night(("libx265", "hevc")), ("libsvtav1", "av1")], ids=["HEVC", "AV1"]
)
def test_enhanced_rtmp_is_played_by_flv_and_cmaf(codec: str, least: str, live: Live) -> None:
    ffmpeg = new_ffmpeg()
    film = Film(least, video=codec, container="mp4", ffmpeg=ffmpeg, seconds=30)
    channel = live(film)
    urls = addresses(channel)
    chosen = {name: urls[name] for name in ("HTTP-FLV", "RTMP", "LL-HLS", "DASH")}
    judge_all(film, chosen, ffmpeg=ffmpeg)


def test_an_early_player_starts_automatically(gateway: Gateway) -> None:
    channel = gateway.channel("early")
    PLAIN.hashes()
    with pull(channel.url("live.flv"), seconds=4) as flv, pull(channel.rtmp, seconds=4) as rtmp:
        until(lambda: _viewers(channel) >= 1 or flv.running, "a viewer waits")
        with push(PLAIN, channel.push):
            judge(take_of(flv), PLAIN)
            judge(take_of(rtmp), PLAIN)


def test_a_publisher_with_a_wrong_key_is_refused(gateway: Gateway) -> None:
    channel = gateway.channel("refused")
    wrong = channel.push[:-4] + ("0000" if not channel.push.endswith("0000") else "1111")
    with push(PLAIN, wrong) as publisher:
        publisher.wait(15)
        assert publisher.process.returncode != 0
    assert channel.session()["state"] == "idle"


def test_viewers_are_ended_with_the_broadcast(gateway: Gateway) -> None:
    channel = gateway.channel("over")
    with push(PLAIN, channel.push) as publisher, pull(channel.url("live.flv"), seconds=60) as flv:
        channel.wait_playable("live.m3u8")
        with pull(channel.rtmp, seconds=60) as rtmp, pull(channel.url("live.m3u8"), seconds=60) as hls:
            for program in (flv, rtmp, hls):
                until(partial(_has_pictures, program), f"pictures arrive: {program.command[-2:]}")
            publisher.stop()
            for program in (flv, rtmp, hls):
                judge(take_of(program, 30), PLAIN, least=1)
    assert "#EXT-X-ENDLIST" in http("GET", channel.url("live.m3u8")).text


def _has_pictures(program: Program) -> bool:
    return len(so_far(program).video) > 45


def _viewers(channel: Channel) -> int:
    return sum(channel.session().get("viewers", {}).values())
