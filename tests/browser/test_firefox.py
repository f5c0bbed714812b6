"""Debian's Firefox by WebRTC, both ways. It has VP8, VP9 and AV1; Mozilla's plugin for H.264 is not in the package."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.support.at_night import at_night
from tests.support.broadcaster import CAMERAS
from tests.support.browser import opened, shared_browser
from tests.support.clients import probe, pull, push, so_far, until
from tests.support.firefox import Firefox, firefox
from tests.support.gateway import Channel, Gateway
from tests.support.media import SMALL
from tests.support.shared_gateway import shared_gateway
from tests.support.tools import need

# Sends the made-up camera and microphone with one codec; returns once the connection works.
SEND = """async ({url, codec}) => {
  const stream = await navigator.mediaDevices.getUserMedia({video: {width: 320, height: 240}, audio: true});
  const connection = window.connection = new RTCPeerConnection();
  for (const track of stream.getTracks()) {
    const transceiver = connection.addTransceiver(track, {direction: "sendonly", streams: [stream]});
    if (track.kind === "video") transceiver.setCodecPreferences(RTCRtpReceiver.getCapabilities("video").codecs
      .filter(({mimeType}) => mimeType === codec || mimeType === "video/rtx"));
  }
  await connection.setLocalDescription();
  const headers = {"Content-Type": "application/sdp"};
  const reply = await fetch(url, {method: "POST", body: connection.localDescription.sdp, headers});
  if (reply.status !== 201) throw new Error(await reply.text());
  const connected = new Promise((done) => connection.addEventListener("connectionstatechange",
    () => connection.connectionState === "connected" && done()));
  await connection.setRemoteDescription({type: "answer", sdp: await reply.text()});
  await connected;
}"""
# The connections of the page, so that a test can read their statistics.
CONNECTIONS = """() => { window.all = []; window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...given) { super(...given); window.all.push(this); } }; }"""
RECEIVED = """async () => Object.fromEntries([...(await window.all.at(-1).getStats()).values()]
  .filter(({type}) => type === "inbound-rtp").map((stats) => [stats.kind, stats]))"""
# The number of different colours in the shown picture, of 16 × 12 samples.
COLOURS = """() => { const context = new OffscreenCanvas(16, 12).getContext("2d");
  context.drawImage(document.querySelector("video"), 0, 0, 16, 12);
  return new Set(new Uint32Array(context.getImageData(0, 0, 16, 12).data.buffer)).size; }"""
# Selects how the broadcaster's page sends.
CHOOSE = """(way) => { const list = document.querySelector("#way"); list.value = way;
  list.dispatchEvent(new Event("change")); }"""


browser = shared_browser(*CAMERAS)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fox() -> AsyncIterator[Firefox]:
    need("firefox-esr")
    async with firefox() as instance:
        await instance.before_pages(CONNECTIONS)
        yield instance


gateway = shared_gateway("ffmpeg", films=[SMALL], MILLRACE_STREAM__LINGER="1")


def whip(channel: Channel) -> str:
    return f"{channel.url('whip')}?sign={channel.key}"


async def plays(fox: Firefox, channel: Channel, codec: str) -> None:
    """Opens the WebRTC page, and returns once it shows pictures of this codec, plays sound, and says so."""
    async with fox.tab(channel.url("whep.html")) as tab:
        await tab.until("() => document.querySelector('#state').innerText === 'Live'", "live")
        await tab.until("() => /^\\d\\.\\d s$/.test(document.querySelector('#delay').innerText)", "a delay")
        before = await tab.evaluate(RECEIVED)
        enough = before["video"]["framesDecoded"] + 40
        await tab.until(f"async () => (await ({RECEIVED})()).video.framesDecoded > {enough}", "pictures")
        after = await tab.evaluate(RECEIVED)
        assert after["video"]["frameWidth"] > 0 and after["video"]["keyFramesDecoded"] > 0
        assert after["audio"]["totalAudioEnergy"] > before["audio"]["totalAudioEnergy"], "the sound is not silent"
        assert await tab.text("#decoder") == f"WebRTC, {codec}, opus"
        assert await tab.evaluate(COLOURS) > 1
        # The page takes a picture that stands still for a broken stream.
        assert await tab.text("#state") == "Live"
        assert await tab.evaluate("() => window.all.length") == 1, "the first connection still works"


@pytest.mark.parametrize("codec", ["VP9", *at_night("AV1")])
async def test_firefox_plays_streams_sent_by_chromium(
    fox: Firefox, browser: Browser, gateway: Gateway, codec: str
) -> None:
    channel = gateway.channel()
    async with opened(browser, channel.url("about.txt"), permissions=["camera", "microphone"]) as sender:
        await sender.page.evaluate(SEND, {"url": whip(channel), "codec": f"video/{codec}"})
        await asyncio.to_thread(channel.wait_live)
        await plays(fox, channel, codec)


async def test_a_viewer_without_h264_gets_a_message(fox: Firefox, gateway: Gateway) -> None:
    channel = gateway.channel()
    with push(SMALL, channel.push, loop=True):
        await asyncio.to_thread(channel.wait_live)
        async with fox.tab(channel.url("whep.html")) as tab:
            words = "the viewer supports neither the codec of the stream nor H.264"
            await tab.until(f"() => document.querySelector('#detail').innerText === {words!r}", "the reason")
            assert await tab.text("#state") == "This browser cannot play the stream"
            assert "Try again" in await tab.evaluate("() => document.body.innerText")


async def test_vp8_of_firefox_is_converted_to_h264(fox: Firefox, gateway: Gateway) -> None:
    channel = gateway.channel()
    async with fox.tab(channel.url("about.txt")) as tab:
        await tab.evaluate(SEND, {"url": whip(channel), "codec": "video/VP8"})
        await asyncio.to_thread(channel.wait_live)
        with pull(channel.url("live.flv"), seconds=None) as player:  # on a busy machine Firefox skips sound

            def has_enough() -> bool:
                take = so_far(player)
                return len(take.video) > 40 and len(take.audio) > 100

            await asyncio.to_thread(until, has_enough, "pictures and sound", 30)
        await asyncio.to_thread(channel.wait_playable, "live.m3u8")
        streams = await asyncio.to_thread(probe, channel.url("live.m3u8"))
        assert streams["video"]["codec_name"] == "h264" and streams["audio"]["codec_name"] == "aac"


async def test_the_broadcast_page_sends_from_firefox(fox: Firefox, browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel()
    url = f"http://127.0.0.1:{gateway.ports['http']}/broadcast.html#{channel.obs_key}"
    async with fox.tab(url) as tab:
        await tab.until("() => document.querySelector('video').videoWidth > 0", "a preview")
        await tab.evaluate(CHOOSE, "whip")
        await tab.click("Go live")
        await tab.until("() => document.querySelector('#state').innerText === 'Live'", "live")
        await asyncio.to_thread(channel.wait_live)
        assert channel.session()["publisher"]["protocol"] == "whip"
        async with opened(browser, channel.url("whep.html")) as player:
            await player.plays()
        await tab.click("Stop")
        await tab.until("() => document.querySelector('#state').innerText === 'Not live'", "the end")
