"""The broadcaster's page by WebRTC, with the camera and microphone that Chromium makes up, watched by WebRTC too."""

import asyncio
import re

from playwright.async_api import Browser, expect

from tests.support.broadcaster import CAMERAS, from_console, from_key
from tests.support.browser import axe, opened, shared_browser
from tests.support.clients import until
from tests.support.console import signed_in
from tests.support.gateway import Channel, Gateway
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

browser = shared_browser(*CAMERAS)


gateway = shared_gateway("chromium", MILLRACE_STREAM__LINGER="5")


# Sends a canvas of 640x360 in two layers, as libraries of SFUs and OBS do.
SIMULCAST = """async (url) => {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: 640, height: 360 });
  const draw = canvas.getContext("2d");
  setInterval(() => { draw.fillStyle = `hsl(${Date.now() % 360} 90% 50%)`; draw.fillRect(0, 0, 640, 360); }, 40);
  const peer = (window.peer = new RTCPeerConnection());
  const layers = [["h", 2], ["f", 1]].map(([rid, by]) => ({ rid, scaleResolutionDownBy: by }));
  const video = peer.addTransceiver(canvas.captureStream(25).getVideoTracks()[0],
    { direction: "sendonly", sendEncodings: layers });
  video.setCodecPreferences(RTCRtpSender.getCapabilities("video").codecs.filter((c) => /H264|rtx/.test(c.mimeType)));
  window.setFull = async (active) => {
    const parameters = video.sender.getParameters();
    parameters.encodings[1].active = active;
    await video.sender.setParameters(parameters);
  };
  await peer.setLocalDescription();
  const answer = await fetch(url, { method: "POST", body: peer.localDescription.sdp,
    headers: { "Content-Type": "application/sdp" } });
  const sdp = await answer.text();
  await peer.setRemoteDescription({ type: "answer", sdp });
  return /a=simulcast:recv (\\S+)/.exec(sdp)[1];
}"""


async def has_publisher(channel: Channel, *, there: bool) -> None:
    await asyncio.to_thread(
        until, lambda: (channel.session()["publisher"] is not None) is there, f"a publisher: {there}", 20
    )


async def test_a_camera_is_sent_and_watched_by_webrtc(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("studio")
    async with from_console(browser, channel) as studio:
        await studio.choose("whip")
        await studio.go_live()
        await has_publisher(channel, there=True)
        session = channel.session()
        assert session["publisher"]["protocol"] == "whip"
        assert session["tracks"][0]["codec"] == "h264"
        # A browser on a busy machine begins with smaller pictures.
        await asyncio.to_thread(until, lambda: channel.session()["tracks"][0]["width"] == 640, "640 pixels", 30)
        await expect(studio.page.locator("#network")).to_contain_text("ms")
        await expect(studio.page.locator("#rate")).not_to_have_text("0 fps", timeout=at_most(15_000))
        async with opened(browser, channel.url("whep.html")) as player:
            await player.plays(40)
            await player.page.wait_for_function("() => document.querySelector('video').videoWidth === 640")
            await studio.press("Turn camera off")  # viewers get a dark picture of the same size
            await player.plays()
            assert not player.complaints
            async with signed_in(browser, gateway, f"#/channels/{channel.id}") as console:
                row = console.page.get_by_role("table", name="Viewers by WebRTC").get_by_role("row").nth(1)
                await expect(row).to_contain_text("127.0.0.1")
                await expect(row.locator("[data-label='Round trip']")).to_contain_text("ms")
                facts = console.page.locator(".is-now")
                await expect(facts.get_by_text("Round trip · lost · jitter")).to_be_visible()
                await console.page.locator("summary", has_text="WebRTC (WHIP)").click()
                await expect(console.page.get_by_role("button", name="Copy WHIP server")).to_be_visible()
                await expect(console.page.locator("code", has_text=re.compile(r"^http://[^/]+/whip$"))).to_be_visible()
                assert not await axe(console.page)
        assert not await axe(studio.page)
        await studio.stop()
        await has_publisher(channel, there=False)
        assert not studio.complaints


async def test_a_refusal_is_shown_with_the_texts_of_the_page(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("taken")
    async with from_key(browser, channel) as studio:
        await studio.choose("whip")
        await studio.go_live()
        await has_publisher(channel, there=True)
        async with from_key(browser, channel) as other:
            await other.choose("whip")
            await other.press("Go live")
            await other.notices("Somebody else is live on this channel.", within=30)
        await studio.page.goto("about:blank")
        await has_publisher(channel, there=False)
    id, _, sign = channel.obs_key.partition("?sign=")
    async with from_key(browser, channel, f"{id}?sign={sign[:-4]}0000") as studio:
        await studio.choose("whip")
        await studio.press("Go live")
        await studio.notices("The stream key is wrong, expired or replaced by a new one.")


async def test_the_largest_layer_of_simulcast_that_comes_is_published(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("layers")

    def has_width(width: int) -> bool:
        tracks = channel.session()["tracks"]
        return bool(tracks) and tracks[0]["width"] == width

    async with opened(browser, channel.url("whep.html")) as page:
        sign = channel.obs_key.partition("?")[2]
        assert await page.page.evaluate(SIMULCAST, f"{channel.url('whip')}?{sign}") == "h;f"
        for is_full, width in ((True, 640), (False, 320), (True, 640)):
            await page.page.evaluate("(active) => window.setFull(active)", is_full)
            await asyncio.to_thread(until, lambda width=width: has_width(width), f"{width} pixels", 40)
