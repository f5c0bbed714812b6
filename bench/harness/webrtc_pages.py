"""WHIP and WHEP in Chromium, without any page of a server: pictures that carry their time, and their ages."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, Page

from bench.harness.picture_clock import BITS, MARGIN, ages

# Pages that nobody sees would be slowed down.
FLAGS = (
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    # Candidates with addresses in the place of mDNS names, and loopback ones.
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--allow-loopback-in-peer-connection",
)

_SCRIPT = """
const exchange = async (pc, url) => {
  await pc.setLocalDescription();
  if (pc.iceGatheringState !== "complete") {
    await new Promise((done) => pc.addEventListener("icegatheringstatechange",
      () => pc.iceGatheringState === "complete" && done()));
  }
  const reply = await fetch(url, { method: "POST", headers: { "Content-Type": "application/sdp" },
    body: pc.localDescription.sdp });
  if (reply.status !== 201) throw new Error(`${reply.status} ${await reply.text()}`);
  await pc.setRemoteDescription({ type: "answer", sdp: await reply.text() });
  if (pc.connectionState === "connected") return;
  await new Promise((done, fail) => pc.addEventListener("connectionstatechange", () => {
    if (pc.connectionState === "connected") done();
    if (pc.connectionState === "failed") fail(new Error("the connection failed"));
  }));
};
window.publish = async (url) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [1280, 720];
  const draw = canvas.getContext("2d", { alpha: false });
  const width = canvas.width / (BITS + 2 * MARGIN);
  const paint = () => {
    const stamp = BigInt(Math.round(performance.timeOrigin + performance.now()));
    draw.fillStyle = "#000";
    draw.fillRect(0, 0, canvas.width, canvas.height / 2);
    draw.fillStyle = "#fff";
    draw.fillRect(0, canvas.height / 2, canvas.width, canvas.height / 2);
    for (let bit = 0; bit < BITS; bit++) {
      if (!((stamp >> BigInt(BITS - 1 - bit)) & 1n)) continue;
      for (const half of [0, 1]) {
        draw.fillStyle = half ? "#000" : "#fff";
        draw.fillRect((bit + MARGIN) * width, half * canvas.height / 2, width, canvas.height / 2);
      }
    }
  };
  paint();
  setInterval(paint, 1000 / 30);
  const audio = new AudioContext({ sampleRate: 48000 });
  const sound = audio.createMediaStreamDestination();
  const tone = new OscillatorNode(audio, { frequency: 440 });
  tone.connect(sound);
  tone.start();
  const pc = window.pc = new RTCPeerConnection();
  const video = pc.addTransceiver(canvas.captureStream(30).getVideoTracks()[0], { direction: "sendonly",
    sendEncodings: [{ maxBitrate: 2500000 }] });
  pc.addTransceiver(sound.stream.getAudioTracks()[0], { direction: "sendonly" });
  const { codecs } = RTCRtpSender.getCapabilities("video");
  const h264 = codecs.filter((c) => c.mimeType === "video/H264" && /packetization-mode=1/.test(c.sdpFmtpLine));
  if (!h264.length) throw new Error("this browser encodes no H.264");
  video.setCodecPreferences([...h264, ...codecs.filter((c) => c.mimeType === "video/rtx")]);
  await exchange(pc, url);
};
window.view = async (url) => {
  const pc = window.pc = new RTCPeerConnection();
  for (const kind of ["video", "audio"]) {
    pc.addTransceiver(kind, { direction: "recvonly" }).receiver.jitterBufferTarget = 0;
  }
  const video = document.querySelector("video");
  video.srcObject = new MediaStream(pc.getReceivers().map((r) => r.track));
  await exchange(pc, url);
  await video.play();
};
""".replace("BITS", str(BITS)).replace("MARGIN", str(MARGIN))

# Of any page: notes its connection and the times at which pictures are shown.
_NOTES = """
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...given) { super(...given); window.pc = this; }
};
window.follow = () => {
  const video = document.querySelector("video");
  window.shown = [];
  const note = () => { window.shown.push(performance.now()); video.requestVideoFrameCallback(note); };
  video.requestVideoFrameCallback(note);
};
window.report = async () => {
  const found = {};
  for (const s of (await window.pc.getStats()).values()) {
    if (s.type.endsWith("bound-rtp") && s.kind === "video") Object.assign(found, s);
  }
  return found;
};
"""


@contextlib.asynccontextmanager
async def opened(browser: Browser, url: str) -> AsyncIterator[Page]:
    """A page at the origin of `url` that has `publish`, `view` and `report`."""
    parts = urlsplit(url)
    address = f"{parts.scheme}://{parts.netloc}/bench-webrtc.html"
    page = await browser.new_page(viewport={"width": 1280, "height": 720})
    await page.add_init_script(_NOTES)
    body = f"<!doctype html><video muted playsinline autoplay></video><script>{_SCRIPT}</script>"
    await page.route(address, lambda route: route.fulfill(body=body, content_type="text/html"))
    await page.goto(address)
    try:
        yield page
    finally:
        await page.close()


async def publish(page: Page, url: str) -> None:
    """Sends 720p30 at 2.5 Mbit/s at most, H.264 with Opus, by WHIP."""
    await page.evaluate("(url) => publish(url)", url)


async def latency(page: Page, url: str, seconds: float, warm: float = 5) -> list[float]:
    """Views by WHEP; milliseconds from drawing a picture to its presentation."""
    await page.evaluate("(url) => view(url)", url)
    return await ages(page, seconds, warm)


async def view(page: Page, url: str) -> None:
    """Views by WHEP, with as little delay as the browser allows."""
    await page.evaluate("(url) => view(url)", url)


@contextlib.asynccontextmanager
async def player(browser: Browser, url: str) -> AsyncIterator[Page]:
    """A server's own player page, once it plays."""
    page = await browser.new_page(viewport={"width": 1280, "height": 720})
    await page.add_init_script(_NOTES)
    await page.goto(url)
    try:
        await page.wait_for_function("() => document.querySelector('video')?.currentTime > 0")
        yield page
    finally:
        await page.close()


async def pauses(page: Page, seconds: float, warm: float = 5) -> dict[str, Any]:
    """The pauses between shown pictures in ms, and what the browser itself counts.

    delay_ms: mean time of a picture in the browser, from its first packet until it is decoded.
    """
    await page.evaluate("follow()")
    await asyncio.sleep(warm)
    before = await page.evaluate("report()")
    await page.evaluate("window.shown.splice(0, window.shown.length - 1)")
    await asyncio.sleep(seconds)
    shown: list[float] = await page.evaluate("[...window.shown, performance.now()]")
    after = await page.evaluate("report()")
    gaps = [later - earlier for earlier, later in itertools.pairwise(shown)]

    def counted(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)  # type: ignore[no-any-return]

    decoded = counted("jitterBufferEmittedCount")
    return {
        "frames": len(shown) - 2,
        "shown_per_s": round((len(shown) - 2) / seconds, 1),
        "decoded_per_s": round(counted("framesDecoded") / seconds, 1),
        "delay_ms": round(1000 * counted("jitterBufferDelay") / decoded) if decoded else None,
        "freezes": sum(gap > 500 for gap in gaps),
        "longest_ms": round(max(gaps)),
        "nacks": counted("nackCount"),
        "recovered": counted("retransmittedPacketsReceived"),
        "lost": counted("packetsLost"),
        "browser_freezes": counted("freezeCount"),
    }
