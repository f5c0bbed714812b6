"""hls.js and dash.js play a push of several tracks in Chromium: they change picture sizes and languages by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.integration.ingest.test_multitrack import push_command
from tests.support.at_night import at_night
from tests.support.browser import Watched, opened, shared_browser
from tests.support.clients import Program, new_ffmpeg
from tests.support.gateway import Channel, running
from tests.support.media import made_once
from tests.support.plain_players import DASH, HLS, start
from tests.support.time_outs import at_most

# The loudest frequency of what the element plays, in Hz.
_LISTEN = """() => {
  const video = document.querySelector("video");
  video.muted = false;
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
  context.createMediaElementSource(video).connect(analyser).connect(context.destination);
  const bins = new Float32Array(analyser.frequencyBinCount);
  window.tone = () => {
    analyser.getFloatFrequencyData(bins);
    return bins.indexOf(Math.max(...bins)) * context.sampleRate / analyser.fftSize;
  };
}"""


def pushed(channel: Channel) -> Program:
    """Pushes three sizes of one picture and three tones. They are encoded once, and repeated."""
    encode = [word for word in push_command("") if word != "-re"]
    film = made_once("mkv", [*encode[:-3], "-t", "40", "-f", "matroska"])
    again = ["-re", "-stream_loop", "-1", "-i", str(film), "-map", "0", "-c", "copy"]
    return Program([new_ffmpeg(), "-nostdin", "-v", "error", *again, "-f", "flv", channel.push])


@pytest.fixture(scope="module")
def channel() -> Iterator[Channel]:
    with running() as gateway:
        channel = gateway.channel(audioTracks="en=English, fr=Français, de=Deutsch")
        with pushed(channel):
            channel.wait_live()
            channel.wait_playable("index.m3u8", "master.m3u8", "manifest.mpd", "144p/index.m3u8", "audio2/index.m3u8")
            yield channel


browser = shared_browser("--autoplay-policy=no-user-gesture-required")


async def until(watched: Watched, script: str, wanted: Any, within: float = 25.0) -> None:
    """Returns once the script's value is `wanted`; a number may differ by 3 %."""
    end = time.monotonic() + at_most(within)
    while (found := await watched.page.evaluate(script)) != pytest.approx(wanted, rel=0.03):
        errors = await watched.page.evaluate("window.player.errors")
        assert time.monotonic() < end, f"{script}: {found}, not {wanted}; {errors}"
        await asyncio.sleep(0.2)


@pytest.mark.parametrize(
    ("script", "path"),
    [(HLS, "index.m3u8"), (DASH, "manifest.mpd"), *at_night((HLS, "master.m3u8"))],
    ids=["ts", "dash", "ll"],
)
async def test_a_viewer_can_change_size_and_language(
    browser: Browser, channel: Channel, script: str, path: str
) -> None:
    async with opened(browser, channel.url("status.json")) as watched:
        await start(watched, script, channel.url(path))
        await watched.plays()
        await watched.page.evaluate(_LISTEN)
        assert sorted(await watched.page.evaluate("window.player.widths()")) == [256, 426, 640]
        languages = await watched.page.evaluate("window.player.languages()")
        assert languages == [["en", "English"], ["fr", "Français"], ["de", "Deutsch"]]
        await until(watched, "window.tone()", 400)
        for language, hz in (("de", 1200), ("fr", 800), ("en", 400)):
            await watched.page.evaluate("(language) => window.player.speak(language)", language)
            await until(watched, "window.tone()", hz)
        for width in (256, 640, 426):
            await watched.page.evaluate("(width) => window.player.choose(width)", width)
            await until(watched, "document.querySelector('video').videoWidth", width)
        await watched.plays()
        assert await watched.page.evaluate("window.player.errors") == []


@pytest.mark.parametrize("page", ["hls.html", *at_night("dash.html")])
async def test_the_player_pages_offer_the_languages(browser: Browser, channel: Channel, page: str) -> None:
    async with opened(browser, channel.url(page), locale="en-US") as watched:
        await watched.plays()
        menu = watched.page.get_by_label("Audio track")
        await expect(menu.locator("option")).to_have_text(["English", "Français", "Deutsch"])
        await watched.page.evaluate(_LISTEN)
        await watched.page.evaluate("window.player = { errors: [] }")
        await menu.select_option("Deutsch")
        await until(watched, "window.tone()", 1200)
        await watched.page.reload()  # the choice is remembered
        await watched.plays()
        await watched.page.evaluate(_LISTEN)
        await watched.page.evaluate("window.player = { errors: [] }")
        await until(watched, "window.tone()", 1200)
        assert not watched.complaints


@pytest.mark.parametrize(
    ("script", "path"),
    [(HLS, "master.m3u8"), (DASH, "manifest.mpd"), *at_night((HLS, "index.m3u8"))],
    ids=["ll", "dash", "ts"],
)
async def test_a_viewer_of_another_track_keeps_it_after_a_cut(
    browser: Browser, channel: Channel, script: str, path: str
) -> None:
    inputs = [{"name": "main", "kind": "push"}, {"name": "slate", "kind": "slate"}]
    cut = channel.gateway.channel(inputs=inputs, audioTracks="en, fr, de")
    main = pushed(cut)
    cut.wait_live()
    cut.wait_playable(path, "144p/index.m3u8", "144p/video/index.m3u8", "audio2/index.m3u8")
    async with opened(browser, cut.url("status.json")) as watched:
        await start(watched, script, cut.url(path))
        await watched.plays()
        await watched.page.evaluate("window.player.choose(256)")
        await until(watched, "document.querySelector('video').videoWidth", 256)
        main.kill()
        await until(watched, "document.querySelector('video').videoWidth", 640)
        await watched.plays()
        with pushed(cut):
            # dash.js chooses a Representation anew in each Period.
            again = "window.player.widths().includes(256) && window.player.choose(256), " if script is DASH else ""
            await until(watched, f"({again}document.querySelector('video').videoWidth)", 256)
            await watched.plays()
        assert await watched.page.evaluate("window.player.errors") == []
    cut.gateway.api("DELETE", f"/videostream/{cut.id}/session")
