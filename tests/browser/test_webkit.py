"""Debian's WebKitGTK plays the pages: Safari's engine, with GStreamer in place of AVFoundation.

The engine may change `muted` of a video itself, seconds after it begins to play. So no test looks at it later.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import films
from tests.support.clients import Program, probe, push, until
from tests.support.clock_picture import BITS, READ, Sample, clock_push, difference, longest_still
from tests.support.console import address
from tests.support.film_captions import send_captions, uploaded_film
from tests.support.free_ports import free_port
from tests.support.gateway import Channel, Gateway
from tests.support.media import SMALL_BFRAMES
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most
from tests.support.webkit import Driver, Window, webkit

TRACKS = [{"source": "text", "language": "en", "label": "English", "default": True}]
CAMERA = "--enable-mock-capture-devices=true"
ENTER, ESCAPE = "\ue007", "\ue00c"  # WebDriver §17.4.2
SIZE = "() => document.querySelector('video')?.videoWidth"
# Every page plays a push of the fixture `live`.
PAGES = ["", "flv.html", "instant.html", "hls.html", "index.html", "dash.html"]

pytestmark = pytest.mark.nightly
gateway = shared_gateway("ffmpeg", MILLRACE_STREAM__LINGER="20", MILLRACE_VOD__PRESET="ultrafast")


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    with webkit() as instance:
        yield instance


@pytest.fixture(scope="module")
def live(gateway: Gateway) -> Iterator[Channel]:
    channel = gateway.channel(videoname="clock", captions=TRACKS, isPublic=True)
    with clock_push(channel.push):
        channel.wait_playable("live.m3u8", "master.m3u8", "manifest.mpd")
        yield channel


def sample(window: Window) -> Sample:
    """What the page shows now. JSON has no NaN, which stands for no delay."""
    return Sample({name: "nan" if value is None else value for name, value in window.evaluate(READ, BITS).items()})


def sampled(window: Window, seconds: float) -> list[Sample]:
    """Reads the page again and again."""
    samples, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        samples.append(sample(window))
        time.sleep(0.2)
    return samples


def plays_on(window: Window) -> None:
    """Waits until ten later pictures were shown."""
    seen = {sample(window).ticks}
    end = time.monotonic() + at_most(20)
    while len(seen) < 10:
        assert time.monotonic() < end, f"{seen}, the page says {window.text('#state')!r}, {window.complaints}"
        seen.add(sample(window).ticks)


def test_the_watch_page_plays_and_says_live(driver: Driver, live: Channel) -> None:
    with driver.window() as window:
        window.goto(live.url(""))
        window.comes_to_say("Live")
        plays_on(window)
        assert window.text("h1") == "clock"
        assert not window.complaints


@pytest.mark.parametrize("page", PAGES)
def test_the_shown_delay_is_that_of_the_picture(driver: Driver, live: Channel, page: str) -> None:
    with driver.window() as window:
        window.goto(live.url(page))
        window.comes_to_say("Live", seconds=30)
        time.sleep(3)  # a player comes closer to live in its first seconds
        samples = sampled(window, 2)
        assert abs(difference(samples)) <= 0.6, samples
        assert longest_still(samples) <= 2, samples
        assert not window.complaints


def test_the_instant_page_plays_sound(driver: Driver, live: Channel) -> None:
    with driver.window() as window:
        window.goto(live.url("instant.html"))
        window.comes_to_say("Live")
        window.evaluate("() => { document.querySelector('video').muted = false; }")
        time.sleep(2)  # a fault of the sound closes the page or changes the player
        plays_on(window)
        assert window.text("#decoder").startswith("WebCodecs, avc1.")
        assert not window.complaints


@pytest.mark.parametrize("page", ["", "hls.html", "instant.html"])
def test_a_page_shows_the_break_and_plays_when_the_publisher_returns(
    driver: Driver, gateway: Gateway, page: str
) -> None:
    channel = gateway.channel("breaks")
    with driver.window() as window:
        with clock_push(channel.push):
            channel.wait_playable("master.m3u8")
            window.goto(channel.url(page))
            window.comes_to_say("Live")
            plays_on(window)
        window.comes_to_say("The broadcaster's connection broke, waiting")
        with clock_push(channel.push):
            window.comes_to_say("Live")
            plays_on(window)
            assert not window.complaints


@pytest.mark.parametrize("page", ["", "instant.html"])
def test_a_page_that_may_not_play_by_itself_plays_after_a_click(driver: Driver, live: Channel, page: str) -> None:
    with driver.window(autoplay="deny") as window:
        window.goto(live.url(page))
        window.comes_to_say("Ready to play")
        assert window.text("#detail") == "This browser needs a click first."
        window.click("#start")
        window.comes_to_say("Live")
        plays_on(window)
        assert not window.complaints


@pytest.mark.parametrize("page", ["", "dash.html", "instant.html"])
def test_captions_are_shown_and_switched_off_by_a_key(driver: Driver, live: Channel, page: str) -> None:
    with driver.window() as window:
        window.goto(live.url(page))
        window.comes_to_say("Live")
        words = f"said to {page or 'watchers'}, and long enough to be read for some seconds"
        reply = live.gateway.api("POST", f"/videostream/{live.id}/captions", {"text": words, "language": "en"})
        assert reply.status == 202, reply.text
        shows = "(words) => document.querySelector('.caption-texts')?.innerText.includes(words)"
        window.until(shows, "the caption is shown", words)
        window.press("c")
        window.until(f"(words) => !({shows})(words)", "captions are off", words)
        assert not window.complaints


def test_the_watch_page_obeys_the_keyboard(driver: Driver, live: Channel) -> None:
    full = "() => document.fullscreenElement?.id === 'stage'"
    with driver.window() as window:
        window.goto(live.url(""))
        window.comes_to_say("Live")
        plays_on(window)  # a video that is paused while it jumps to the live picture begins again by itself
        window.press(" ")
        window.comes_to_say("Paused")
        window.press("k")
        window.comes_to_say("Live")
        plays_on(window)
        before = window.evaluate(
            """() => { window.muted = []; const video = document.querySelector("video");
            video.addEventListener("volumechange", () => window.muted.push(video.muted)); return video.muted; }"""
        )
        window.press("m")
        window.until("(before) => window.muted.includes(!before)", "the key for the sound", before)
        window.press("f")
        window.until(full, "full screen")
        window.press(ESCAPE)
        window.until(f"() => !({full})()", "no full screen")
        window.comes_to_say("Live")
        assert not window.complaints


def test_the_webrtc_page_names_the_missing_feature(driver: Driver, live: Channel) -> None:
    with driver.window() as window:
        window.goto(live.url("whep.html"))
        window.comes_to_say("This browser cannot play WebRTC")
        assert window.text("#detail") == "It has no WebRTC. Choose another player above."
        window.evaluate("() => [...document.querySelectorAll('nav a')].find((a) => a.innerText === 'FLV').click()")
        window.comes_to_say("Live")
        plays_on(window)


def test_a_page_of_another_origin_shows_the_player(driver: Driver, live: Channel, tmp_path: Path) -> None:
    frame = f'<iframe src="{live.url("")}?embed=1" width="480" height="270" allow="autoplay; fullscreen"></iframe>'
    (tmp_path / "index.html").write_text(f"<!doctype html><title>elsewhere</title>{frame}")
    port = str(free_port())
    serve = [sys.executable, "-u", "-m", "http.server", port, "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with Program(serve) as server, driver.window() as window:
        until(lambda: "Serving" in server.output, "the other origin serves")
        window.goto(f"http://localhost:{port}/")
        with window.frame(0):
            window.until("() => document.querySelector('#stage')?.dataset.state === 'live'", "live")
            plays_on(window)
            assert window.evaluate("() => document.querySelector('#stage').getBoundingClientRect().width") == 480


def test_a_film_plays_with_captions(driver: Driver, gateway: Gateway) -> None:
    key = uploaded_film(gateway, films.plain("captions.mp4", 6))
    text = b"WEBVTT\n\n00:01.000 --> 00:05.000\nfrom a file\n"
    assert send_captions(gateway, f"{key}/en?label=English", text).status == 200
    with driver.window() as window:
        window.goto(f"http://127.0.0.1:{gateway.ports['http']}/vod/{key}/")
        window.until("() => document.querySelector('#start')?.checkVisibility()", "the button to play")
        window.click("#start")
        window.until("() => document.querySelector('video').currentTime > 0.5", "the film plays")
        window.press("c")
        window.evaluate("() => { document.querySelector('video').currentTime = 1.5; }")
        shown = """() => [...document.querySelector("video").textTracks]
          .find(({ mode }) => mode === "showing")?.activeCues?.[0]?.text"""
        assert window.until(shown, "the caption") == "from a file"
        window.until("() => document.querySelector('video').ended", "the end of the film")
        assert not window.complaints


LATE = "the first picture is later than the sound: the engine has no media at 0"


@pytest.mark.parametrize("page", ["", "flv.html"])
def test_a_page_opened_before_the_push_begins_at_the_first_picture(driver: Driver, gateway: Gateway, page: str) -> None:
    channel = gateway.channel(LATE)
    with driver.window() as window:
        window.goto(channel.url(page))
        window.comes_to_say("Waiting for the stream")
        with push(SMALL_BFRAMES, channel.push):
            window.comes_to_say("Live")
            assert not window.complaints


def test_a_replay_begins_at_the_first_picture(driver: Driver, gateway: Gateway) -> None:
    """WebKitGTK may stand still after its first jump: no later picture is awaited."""
    channel = gateway.channel(LATE, isOnDemand=True, ondemand_time="1")
    with push(replace(SMALL_BFRAMES, seconds=6), channel.push) as encoder:
        encoder.wait()
    with driver.window() as window:
        window.goto(channel.url(""))
        begun = "const video = document.querySelector('video'); return !video.paused && video.currentTime > 0.1;"
        replays = "document.querySelector('#stage')?.hasAttribute('data-replay')"
        window.until(f"() => {{ if (!{replays}) return false; {begun} }}", "the recorded session", seconds=40)
        assert not window.complaints


def test_the_page_of_a_captioner_plays_and_sends(driver: Driver, live: Channel) -> None:
    with driver.window() as window:
        window.goto(live.url("caption.html"))
        window.until("() => document.querySelector('#stage')?.dataset.state === 'live'", "live")
        window.write("#key", live.key + ENTER)
        window.write("#caption", "written here" + ENTER)
        window.until("() => document.querySelector('.lines').innerText.includes('written here')", "the sent caption")
        assert not window.complaints


@pytest.mark.parametrize("way", ["auto", "frames"])
def test_the_broadcasters_page_goes_live(driver: Driver, gateway: Gateway, way: str) -> None:
    """The encoders of WebKitGTK refuse pictures of a video element; the page draws them on a canvas then."""
    channel = gateway.channel(f"sent by {way}")
    with driver.window(CAMERA) as window:
        broadcast(window, channel, way)
        window.comes_to_say("Live", seconds=30)
        streams = probe(channel.url("live.flv"))
        assert (streams["video"]["codec_name"], streams["video"]["width"]) == ("h264", 640)
        assert streams["audio"]["codec_name"] == "aac"
        window.click("#stop")
        window.comes_to_say("Not live")
        assert not window.complaints


def test_the_broadcasters_page_says_that_webrtc_is_missing(driver: Driver, gateway: Gateway) -> None:
    with driver.window(CAMERA) as window:
        broadcast(window, gateway.channel("by whip"), "whip")
        window.until("() => document.querySelector('#notice').checkVisibility()", "the reason")
        said = "Broadcasting by WebRTC is not possible with this browser or this server."
        assert window.text("#notice").startswith(said)
        window.comes_to_say("Not live")


def broadcast(window: Window, channel: Channel, way: str) -> None:
    """Opens the page of a broadcaster, turns the camera on, and goes live."""
    window.goto(f"http://127.0.0.1:{channel.gateway.ports['http']}/broadcast.html#{channel.obs_key}")
    window.until("() => document.querySelector('#open')?.checkVisibility()", "the button for the camera")
    window.click("#open")
    window.until(SIZE, "a preview")
    for name, value in (("size", "360p"), ("way", way)):
        choose = """([name, value]) => { const list = document.getElementById(name); list.value = value;
          list.dispatchEvent(new Event("change")); }"""
        window.evaluate(choose, [name, value])
    window.click("#live")


def test_the_console_shows_a_live_channel_after_signing_in(driver: Driver, gateway: Gateway, live: Channel) -> None:
    with driver.window() as window:
        window.goto(address(gateway, f"#/channels/{live.id}"))
        window.until("() => document.querySelector('input[type=password]')", "the form")
        window.write("input[type=password]", gateway.token)
        window.click("button[type=submit]")
        window.until("() => document.querySelector('main h1')?.innerText.includes('clock')", "the channel")
        press = "() => [...document.querySelectorAll('main button')].find((b) => b.innerText.trim() === 'Preview')"
        window.until(f"() => !!({press})()", "the button for a preview")
        window.evaluate(f"() => ({press})().click()")
        window.until(SIZE, "a picture")
        assert not window.complaints


def test_pages_without_a_player_are_shown(driver: Driver, gateway: Gateway, live: Channel) -> None:
    with driver.window() as window:
        home = f"http://127.0.0.1:{gateway.ports['http']}/"
        window.goto(home)
        window.until("() => document.querySelector('main').innerText.includes('clock')", "the channel")
        assert not window.complaints
        window.goto(f"{home}nothing/")
        window.comes_to_say("There is no channel with this address")
        assert not window.complaints
        window.goto(address(gateway, "docs"))
        window.until("() => document.querySelector('input[type=password]')", "the form")
        window.write("input[type=password]", gateway.token)
        window.click("button[type=submit]")
        window.until("() => document.querySelector('#get_videostream')", "the description")
        assert not window.complaints
