"""The instant player and the real gateway: picture and sound in time, breaks, other codecs, and mpegts.js instead."""

import asyncio
import re

import pytest
from playwright.async_api import Browser, BrowserContext, WebSocketRoute, expect

from tests.support.at_night import at_night
from tests.support.browser import Watched, opened, shared_browser
from tests.support.clients import new_ffmpeg, push
from tests.support.gateway import Gateway
from tests.support.media import SMALL_BFRAMES, Film
from tests.support.shared_gateway import shared_gateway
from tests.support.tabs import window

OTHER = Film("instant-other", size="160x90", audio=None)
# The contexts that play sound, so that a test can look whether they run.
CONTEXTS = """window.contexts = []; window.AudioContext = class extends AudioContext {
  constructor(...all) { super(...all); window.contexts.push(this); } };"""
VIDEO = "document.querySelector('video')"


browser = shared_browser("--autoplay-policy=no-user-gesture-required")


gateway = shared_gateway("chromium", "ffmpeg", films=[SMALL_BFRAMES], MILLRACE_STREAM__LINGER="20")


async def decoder(watched: Watched) -> str:
    return (await watched.page.locator("#decoder").inner_text()).strip()


async def stays_in_time(watched: Watched, seconds: float = 2.0) -> None:
    """Fails if the media time of the shown pictures does not go on as fast as the clock."""
    moved = await watched.page.evaluate(
        """async (seconds) => {
          const video = document.querySelector("video");
          const at = () => new Promise((done) => {
            video.requestVideoFrameCallback((now, { mediaTime }) => done([now, mediaTime])); });
          const [began, first] = await at();
          await new Promise((done) => setTimeout(done, seconds * 1000));
          const [ended, last] = await at();
          return (last - first) / ((ended - began) / 1000); }""",
        seconds,
    )
    assert 0.8 < moved < 1.2, f"the picture runs at {moved:.2f} times the speed"


async def test_webcodecs_play_a_push_in_sync_with_its_sound(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel("instant", isHls=False, isCMAF=False)

    async def prepare(context: BrowserContext) -> None:
        await context.add_init_script(CONTEXTS)

    with push(SMALL_BFRAMES, channel.push, loop=True):
        channel.wait_live()
        async with opened(browser, channel.url("instant.html"), prepare=prepare) as watched:
            await watched.plays()
            await watched.comes_to_say("Live")
            told = re.compile(r"^WebCodecs, avc1\.[0-9a-f]{6}, mp4a\.40\.2$")
            await expect(watched.page.locator("#decoder")).to_have_text(told)
            assert (await watched.video())["width"] == 320
            await stays_in_time(watched)
            assert await watched.page.evaluate("window.contexts.length") == 0, "a muted page plays no sound"
            await watched.page.get_by_role("button", name="Sound is off").click()
            await watched.page.wait_for_function(
                "() => window.contexts[0]?.state === 'running' && window.contexts[0].sampleRate === 48000"
            )
            await stays_in_time(watched)
            await watched.page.keyboard.press("m")
            await watched.page.wait_for_function("() => window.contexts[0].state === 'suspended'")
            # A pause keeps the stream, and goes on with the live picture.
            await watched.page.evaluate(f"{VIDEO}.pause()")
            await watched.comes_to_say("Paused")
            await watched.page.wait_for_timeout(1500)
            await watched.page.evaluate(f"{VIDEO}.play()")
            await watched.comes_to_say("Live")
            await stays_in_time(watched)
            assert not watched.complaints


async def test_playback_continues_when_the_publisher_returns_with_another_size(
    gateway: Gateway, browser: Browser
) -> None:
    channel = gateway.channel("returns", isHls=False, isCMAF=False)
    async with opened(browser, channel.url("instant.html")) as watched:
        await watched.comes_to_say("Waiting for the stream")
        with push(SMALL_BFRAMES, channel.push, loop=True):
            await watched.plays()
        await watched.comes_to_say("The broadcaster's connection broke, waiting")
        with push(OTHER, channel.push):
            await watched.comes_to_say("Live")
            await watched.page.wait_for_function(f"() => {VIDEO}.videoWidth === 160")
            await stays_in_time(watched)
        assert gateway.api("DELETE", f"/videostream/{channel.id}").status == 200
        await watched.comes_to_say("The stream has ended", within=40)
        assert not watched.complaints


async def test_av1_with_opus_plays_on_a_canvas_without_track_generators(gateway: Gateway, browser: Browser) -> None:
    async def prepare(context: BrowserContext) -> None:
        await context.add_init_script("delete window.MediaStreamTrackGenerator")

    ffmpeg = new_ffmpeg()
    film = Film("instant-av1", seconds=20, rate=15, video="libsvtav1", audio="libopus", container="mp4", ffmpeg=ffmpeg)
    channel = gateway.channel("av1", isHls=False, isCMAF=False)
    with push(film, channel.push, ffmpeg=ffmpeg):
        channel.wait_live()
        async with opened(browser, channel.url("instant.html"), prepare=prepare) as watched:
            await watched.plays()
            await expect(watched.page.locator("#decoder")).to_have_text(re.compile(r"^WebCodecs, av01\.\S+, opus$"))
            await watched.page.get_by_role("button", name="Sound is off").click()
            await stays_in_time(watched)
            assert not watched.complaints


async def test_a_hidden_page_decodes_no_pictures_until_it_is_visible(gateway: Gateway) -> None:
    channel = gateway.channel("hidden", isHls=False, isCMAF=False)
    count = """window.decoded = window.received = 0; const decode = VideoDecoder.prototype.decode;
    VideoDecoder.prototype.decode = function (chunk) { window.decoded++; return decode.call(this, chunk); };
    window.WebSocket = class extends WebSocket {
      constructor(url) { super(url); this.addEventListener("message", () => { window.received++; }); }
    };"""
    playing = f"{VIDEO}?.videoWidth === 320 && document.querySelector('#state').textContent === 'Live'"
    with push(SMALL_BFRAMES, channel.push, loop=True):
        channel.wait_live()
        async with window() as shown:
            page = await shown.tab("about:blank")
            await page.start(count, channel.url("instant.html"))
            await page.until(playing)
            await shown.tab("about:blank")
            await page.until("document.hidden")
            before, received = await page.evaluate("[window.decoded, window.received]")
            await page.until(f"window.received > {received + 50}")
            assert await page.evaluate("window.decoded") == before
            await page.to_front()
            await page.until(f"window.decoded > {before} && {playing}")


@pytest.mark.parametrize(
    ("film", "script", "reason"),
    [
        *at_night(
            (SMALL_BFRAMES, "delete window.VideoDecoder", "this browser lacks WebCodecs"),
            (
                SMALL_BFRAMES,
                "VideoDecoder.isConfigSupported = async () => ({ supported: false })",
                "does not decode avc1.",
            ),
        ),
        (
            SMALL_BFRAMES,
            "VideoDecoder.prototype.decode = () => { throw new DOMException('broken', 'EncodingError') }",
            "WebCodecs failed, broken",
        ),
        (Film("instant-sound", video=None), "", "the stream has no picture"),
    ],
    ids=["missing", "codec", "decoder", "sound only"],
)
async def test_mpegts_is_used_instead_and_the_statistics_show_the_reason(
    film: Film, script: str, reason: str, gateway: Gateway, browser: Browser
) -> None:
    channel = gateway.channel("fallback", isHls=False, isCMAF=False)

    async def prepare(context: BrowserContext) -> None:
        await context.add_init_script(script)

    with push(film, channel.push):
        channel.wait_live()
        async with opened(browser, channel.url("instant.html"), prepare=prepare) as watched:
            await watched.page.locator("#decoder", has_text=reason).wait_for()
            assert (await decoder(watched)).startswith("mpegts.js: ")
            await watched.comes_to_say("Live")
            await watched.page.wait_for_function(f"() => {VIDEO}.currentTime > 1 && {VIDEO}.src.startsWith('blob:')")
            assert not watched.complaints


async def test_a_protected_channel_plays_only_with_a_signature(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel("protected", playAuth="sign", isHls=False, isCMAF=False)
    signed = channel.item["playUrls"]["flv"].partition("?")[2]
    with push(SMALL_BFRAMES, channel.push, loop=True):
        channel.wait_live()
        async with opened(browser, f"{channel.url('instant.html')}?{signed}&embed=1") as watched:
            await watched.plays()
            assert await watched.page.locator("nav").is_hidden()
            assert not watched.complaints
        async with opened(browser, channel.url("instant.html")) as watched:
            await watched.comes_to_say("Not allowed")


async def test_invalid_media_do_not_block_the_page(gateway: Gateway, browser: Browser) -> None:
    """The frames are noise first, then the tags, and then the real stream follows."""
    channel = gateway.channel("hostile", isHls=False, isCMAF=False)
    film = SMALL_BFRAMES.path().read_bytes()[:300_000]
    frames, tags = bytearray(film), bytearray(film)
    at = 13
    while at + 11 < len(film):
        size = int.from_bytes(film[at + 1 : at + 4], "big")
        if size > 1000:  # no header
            frames[at + 40 : at + 11 + size] = bytes(0x5A ^ byte for byte in film[at + 40 : at + 11 + size])
        at += size + 15
    tags[5000::97] = bytes(len(tags[5000::97]))
    inputs = [bytes(frames[:300_000]), bytes(tags)]

    def answer(socket: WebSocketRoute) -> None:
        if not inputs:
            socket.connect_to_server()
            return
        data = inputs.pop(0)
        for at in range(0, len(data), 5000):
            socket.send(data[at : at + 5000])
        # As a gateway that goes away; the page opens the stream again.
        if inputs:
            asyncio.get_running_loop().call_later(
                3, lambda: ends.append(asyncio.ensure_future(socket.close(code=1001)))
            )

    ends: list[asyncio.Future[None]] = []

    async def prepare(context: BrowserContext) -> None:
        await context.route_web_socket(re.compile(r"/live\.flv"), answer)

    with push(SMALL_BFRAMES, channel.push, loop=True):
        channel.wait_live()
        async with opened(browser, channel.url("instant.html"), prepare=prepare) as watched:
            await watched.plays(60)
            await watched.comes_to_say("Live")
            assert not watched.complaints
        await asyncio.gather(*ends)
