"""The broadcaster's page in a browser whose encoders give nothing, or fail."""

import asyncio

from playwright.async_api import Browser, BrowserContext, Route, expect

from tests.support.broadcaster import CAMERAS, NO_STREAMS, from_key
from tests.support.browser import shared_browser
from tests.support.clients import until
from tests.support.gateway import Gateway
from tests.support.shared_gateway import shared_gateway

EMPTY_RECORDINGS = "MediaRecorder.prototype.start = function () {};"
# As in WebKitGTK 2.50: the pictures of a video element are RGBA, and those of a canvas are not.
RGBA_VIDEOS = """
const Real = VideoFrame;
globalThis.VideoFrame = class extends Real {
  constructor(source, init) {
    if (!(source instanceof HTMLVideoElement)) { super(source, init); return; }
    super(new Uint8Array(source.videoWidth * source.videoHeight * 4).fill(200), {
      ...init, format: "RGBA", codedWidth: source.videoWidth, codedHeight: source.videoHeight });
  }
};
"""
NO_RGBA_ENCODER = """
const Real = VideoEncoder;
globalThis.VideoEncoder = class extends Real {
  #error;
  constructor(init) { super(init); this.#error = init.error; }
  encode(frame, options) {
    if (frame.format !== "RGBA") return super.encode(frame, options);
    this.close();
    queueMicrotask(() => this.#error(new DOMException("Encoding failed", "EncodingError")));
  }
};
"""
# The page sends pictures until it knows of the end, for as long as the connection takes to close.
SLOW_END = """
const close = Link.prototype.close;
Link.prototype.close = async function () {
  await new Promise((done) => setTimeout(done, 500));
  return close.call(this);
};
"""


browser = shared_browser(*CAMERAS)


gateway = shared_gateway("chromium", MILLRACE_LIMITS__FIRST_MEDIA="2")


async def append(context: BrowserContext, name: str, script: str) -> None:
    """Gives the page this module with a script behind it."""

    async def module(route: Route) -> None:
        reply = await route.fetch()
        await route.fulfill(response=reply, body=await reply.text() + script)

    await context.route(f"**/broadcast/{name}", module)


async def test_a_recorder_without_data_is_never_live_and_is_tried_again(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("silent recorder")
    async with from_key(browser, channel, script=EMPTY_RECORDINGS) as studio:
        await studio.choose("container")
        await studio.press("Go live")
        await studio.says("Sending the first picture")
        await studio.notices("The server received no picture in time.")
        await expect(studio.page.locator("#badge")).to_have_text("Interrupted")
        await studio.says("Sending the first picture")  # the next try
        assert not [line for line in await studio.log() if "Live at" in line]
        await studio.stop()


async def test_pictures_that_cannot_be_encoded_are_drawn_first(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("drawn")

    async def change(context: BrowserContext) -> None:
        await append(context, "picture-encoder.js", NO_RGBA_ENCODER)
        await append(context, "link.js", SLOW_END)

    async with from_key(browser, channel, script=NO_STREAMS + RGBA_VIDEOS, prepare=change, usual=True) as studio:
        await studio.go_live()
        assert await asyncio.to_thread(until, lambda: channel.session()["tracks"], "tracks")
        begun = [line for line in await studio.log() if "Sending 1280" in line]
        assert len(begun) == 1 and "as frames (avc1" in begun[0] and ", opus)" in begun[0], begun
        await studio.stop()
        assert not studio.complaints
