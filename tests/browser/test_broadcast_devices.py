"""The broadcaster's page while its devices change: cameras, screens, and sound hardware."""

import asyncio
import re

from playwright.async_api import Browser, expect

from tests.browser.test_broadcast import codecs, loudness
from tests.support.broadcaster import CAMERAS, NO_STREAMS, from_key
from tests.support.browser import shared_browser
from tests.support.gateway import Gateway
from tests.support.shared_gateway import shared_gateway

# Firefox gives a context no microphone of another rate than its own: bug 1674892 there.
HARDWARE_OF_44_KHZ = """
const Real = AudioContext, source = Real.prototype.createMediaStreamSource;
globalThis.AudioContext = class extends Real {
  constructor(options = {}) { super({ sampleRate: 44100, ...options }); }
};
Real.prototype.createMediaStreamSource = function (stream) {
  if (this.sampleRate === 48000) throw new DOMException("different sample-rate", "NotSupportedError");
  return source.call(this, stream);
};
"""
LATE_SCREENS = """
window.screens = [];
navigator.mediaDevices.getDisplayMedia = async () => {
  await new Promise((done) => setTimeout(done, 300));
  const stream = document.createElement("canvas").captureStream(5);
  screens.push(stream);
  return stream;
};
"""
# Whether a source of 30 pictures a second passes after one that was open for ten minutes: times of Chromium's sources
# begin at zero.
PASSED = """async () => {
  const { FrameLimiter } = await import("/_player/broadcast/frame-limiter.js");
  const limiter = new FrameLimiter(30);
  const times = (from) => Array.from({ length: 300 }, (_, n) => from + n / 30 * 1e6);
  const pass = (from) => times(from).filter((time) => limiter.accepts(time)).length;
  return [pass(600e6), pass(0)];
}"""
# The camera is pulled out; afterwards the system has the other one only, then both.
UNPLUG = """() => {
  const track = document.querySelector("#preview").srcObject.getVideoTracks()[0];
  const { deviceId } = track.getSettings();
  const all = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
  navigator.mediaDevices.enumerateDevices = async () => (await all()).filter((one) => one.deviceId !== deviceId);
  window.plug = () => {
    navigator.mediaDevices.enumerateDevices = all;
    navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
  };
  track.stop();
  track.dispatchEvent(new Event("ended"));
  navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
  return deviceId;
}"""
SHOWN = """(id) => document.querySelector("#preview").srcObject?.getVideoTracks()[0]?.getSettings().deviceId === id"""

browser = shared_browser(*CAMERAS)
gateway = shared_gateway("chromium", "ffmpeg")


async def test_every_source_has_its_own_times(browser: Browser, gateway: Gateway) -> None:
    async with from_key(browser, gateway.channel("times")) as studio:
        assert await studio.page.evaluate(PASSED) == [300, 300]


async def test_sound_of_hardware_with_another_rate_is_converted(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("44100 Hz")
    async with from_key(browser, channel, script=HARDWARE_OF_44_KHZ) as studio:
        await studio.go_live()
        assert (await codecs(channel))["audio"] == "aac"
        assert await asyncio.to_thread(loudness, channel) > -40
        assert channel.session()["tracks"][1]["sampleRate"] == 48_000
        await studio.stop()
        assert not studio.complaints


async def test_an_unplugged_camera_is_not_replaced_but_comes_back(browser: Browser, gateway: Gateway) -> None:
    async with from_key(browser, gateway.channel("unplugged")) as studio:
        await studio.page.wait_for_function("() => document.querySelector('#preview').srcObject")
        device = await studio.page.evaluate(UNPLUG)
        await studio.notices("The camera was disconnected.")
        await expect(studio.page.get_by_label("Camera", exact=True).locator("option")).to_have_count(2)
        assert await studio.page.evaluate("document.querySelector('#preview').srcObject") is None
        await studio.page.evaluate("plug()")
        await studio.page.wait_for_function(SHOWN, arg=device)
        await expect(studio.page.locator("#notice")).to_be_hidden()


async def test_devices_that_the_system_has_paused_are_named(browser: Browser, gateway: Gateway) -> None:
    """As by the lid of a laptop, a key of its keyboard, or a switch of the browser."""
    script = """window.paused = false;
    Object.defineProperty(MediaStreamTrack.prototype, "muted", { get: () => paused });"""
    async with from_key(browser, gateway.channel("paused"), script=script) as studio:
        await studio.go_live()
        await studio.page.evaluate("paused = true")
        words = studio.page.locator("#warning", has_text="The system or this browser has paused the camera.")
        await words.wait_for()
        await expect(studio.page.locator("#meter-hint")).to_have_text("Microphone is muted")
        await studio.page.evaluate("paused = false")
        await words.wait_for(state="hidden")
        await expect(studio.page.locator("#meter-hint")).not_to_have_text("Microphone is muted")
        await studio.stop()


async def test_a_screen_that_is_asked_for_twice_is_shared_once(browser: Browser, gateway: Gateway) -> None:
    async with from_key(browser, gateway.channel("screens"), script=LATE_SCREENS) as studio:
        share = studio.page.get_by_role("button", name="Share screen")
        await share.dblclick()
        await studio.page.get_by_role("button", name="Share screen", pressed=True).wait_for()
        await share.click()
        await studio.page.get_by_role("button", name="Share screen", pressed=False).wait_for()
        ended = "screens.map((one) => one.getTracks().every((track) => track.readyState === 'ended'))"
        assert await studio.page.evaluate(ended) == [True]


async def test_the_recorded_pictures_of_a_canvas_are_counted(browser: Browser, gateway: Gateway) -> None:
    async with from_key(browser, gateway.channel("canvas"), script=NO_STREAMS) as studio:
        await studio.choose("container")
        await studio.go_live()
        await expect(studio.page.locator("#rate")).to_have_text(re.compile(r"^[1-3]\d"))  # blank ones are 5 a second
        await expect(studio.page.get_by_role("button", name="Use another key")).to_be_disabled()
        await studio.stop()
        await expect(studio.page.get_by_role("button", name="Use another key")).to_be_enabled()


async def test_keys_that_cannot_be_read_are_called_wrong(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("unread")
    async with from_key(browser, channel, key="100%") as studio:
        await studio.page.get_by_label("Stream key").fill("my stream")
        await studio.press("Go live")
        await studio.notices("This is not a stream key")
        await studio.page.get_by_label("Stream key").fill(channel.obs_key)
        await studio.go_live()
        await studio.stop()
