"""Captions and timed metadata on the player pages, and the page of a captioner, in Chromium."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Route

from gateway.formats import amf0
from tests.support.at_night import at_night
from tests.support.browser import Watched, axe, opened, shared_browser
from tests.support.clock_picture import BITS, READ, TICK, clock_push
from tests.support.gateway import Channel, Gateway
from tests.support.media import Film
from tests.support.rtmp import connected, message
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

FILM = Film("caption-metadata", seconds=60, size="320x180")
# Each engine runs at each run of the suite in one of these tests, and in all of them at night.
PAGES = ["hls.html", "whep.html", *at_night("", "index.html", "dash.html", "flv.html", "instant.html")]
TRACKS = [
    {"source": "text", "language": "en", "label": "English", "default": True},
    {"source": "text", "language": "de", "label": "Deutsch"},
]
# Each text over the picture, and the picture with which it came.
NOTE = f"""() => {{ window.notes = []; const read = {READ};
  const box = document.querySelector(".caption-box");
  new MutationObserver(() => window.notes.push({{ text: box.innerText, ...read({BITS}) }}))
    .observe(box, {{ childList: true, subtree: true }}); }}"""
# Seven seconds to read instead of two: a page that has just chosen a track may load its captions late.
LONG = ", und lang genug für eine Seite, die den Text erst einige Sekunden nach seinem Anfang laden kann"
HEAR = """window.heard = []; document.addEventListener("millrace:metadata", ({ detail }) =>
  window.heard.push([detail.text, detail.time, document.querySelector("video").currentTime]));"""
# The bar stays while the pointer moves; without it, texts have its place too.
FITS = """() => { document.querySelector("#stage").dispatchEvent(new PointerEvent("pointermove"));
  const stage = document.querySelector("#stage").getBoundingClientRect();
  const bar = document.querySelector(".controls .control").getBoundingClientRect();
  const text = document.querySelector(".caption-texts").getBoundingClientRect();
  return text.left >= stage.left && text.right <= stage.right && text.top >= stage.top
    && text.bottom <= bar.top + 1; }"""


browser = shared_browser("--autoplay-policy=no-user-gesture-required")


gateway = shared_gateway("chromium", "ffmpeg", films=[FILM])


@pytest.fixture(scope="module")
def stage(gateway: Gateway) -> Iterator[Channel]:
    channel = gateway.channel("captioned", captions=TRACKS)
    with clock_push(channel.push):
        channel.wait_playable("index.m3u8", "master.m3u8", "manifest.mpd")
        yield channel


def say(channel: Channel, text: str, language: str = "en") -> None:
    body = {"text": text, "language": language}
    answer = channel.gateway.api("POST", f"/videostream/{channel.id}/captions", body)
    assert answer.status == 202, answer.text


async def comes_to_show(page: Page, text: str) -> None:
    await page.locator(".caption-texts p", has_text=text).first.wait_for(timeout=at_most(20_000))


@contextlib.asynccontextmanager
async def watching(
    browser: Browser, channel: Channel, page: str = "flv.html", **options: Any
) -> AsyncIterator[Watched]:
    async with opened(browser, channel.url(page), locale="en-US", **options) as watched:
        await watched.plays()
        yield watched
        assert not watched.complaints


@pytest.mark.parametrize("page", PAGES)
async def test_a_caption_comes_with_the_picture_of_its_time(browser: Browser, stage: Channel, page: str) -> None:
    async with watching(browser, stage, page) as watched:
        await watched.page.evaluate(NOTE)
        text = f"<img src=x onerror=alert(1)> & <b>{page}</b>"
        say(stage, "nur auf Deutsch", "de")
        before = time.time()
        say(stage, text)
        said = time.time()
        await comes_to_show(watched.page, text)
        note = next(note for note in await watched.page.evaluate("window.notes") if note["text"] == text)
        age = (note["now"] / TICK - note["ticks"]) % 2**BITS * TICK
        # The encoder needs some time, and the page looks ten times a second.
        shown = note["now"] - age
        assert before - 0.7 < shown < said + 0.7, f"the picture's time differs by {shown - said:.2f} s"
        assert await watched.page.locator(".captions :is(b, img)").count() == 0
        assert text in await watched.page.locator("#captions-log").inner_text()
        await watched.page.wait_for_function("() => !document.querySelector('.caption-texts p')")


async def test_the_viewers_choices_are_remembered(browser: Browser, stage: Channel) -> None:
    async with watching(browser, stage) as watched:
        page = watched.page
        button = page.get_by_role("button", name="Captions")
        say(stage, "the default")
        await comes_to_show(page, "the default")
        await page.keyboard.press("c")
        await page.wait_for_function("() => !document.querySelector('.caption-texts p')")
        await page.reload()
        await watched.plays()
        await page.locator("#stage").hover()  # the control bar may have gone to sleep
        await button.click()
        assert await page.get_by_label("Off").is_checked()
        await page.get_by_label("Deutsch").check()
        await page.get_by_label("Very large").check()
        assert await axe(page) == []
        await page.keyboard.press("Escape")
        assert not await page.get_by_label("Deutsch").is_visible()
        await page.reload()
        await watched.plays()
        say(stage, "not wanted")
        say(stage, "Guten Abend", "de")
        await comes_to_show(page, "Guten Abend")
        assert await page.locator(".caption-texts p").all_inner_texts() == ["Guten Abend"]
        assert await page.locator(".captions").get_attribute("data-size") == "huge"
        assert await page.locator(".caption-texts p").get_attribute("lang") == "de"


@pytest.mark.parametrize("page", ["hls.html", *at_night("index.html", "dash.html", "whep.html")])
async def test_another_track_is_shown_while_the_stream_plays(browser: Browser, stage: Channel, page: str) -> None:
    async with watching(browser, stage, page) as watched:
        button = watched.page.get_by_role("button", name="Captions")
        await watched.page.locator("#stage").hover()  # the control bar may have gone to sleep
        await button.click()
        await watched.page.get_by_label("Deutsch").check()
        await watched.page.keyboard.press("Escape")
        say(stage, "English only")
        say(stage, f"Deutsch auf {page}{LONG}", "de")
        await comes_to_show(watched.page, f"Deutsch auf {page}")
        assert await watched.page.locator(".caption-texts p").count() == 1
        await watched.page.keyboard.press("c")
        await watched.page.wait_for_function("() => !document.querySelector('.caption-texts p')")
        await watched.page.keyboard.press("c")
        say(stage, f"wieder auf {page}{LONG}", "de")
        await comes_to_show(watched.page, f"wieder auf {page}")


async def test_captions_are_shown_again_after_a_playlist_that_came_while_they_were_off(
    browser: Browser, stage: Channel
) -> None:
    asked, switched_off = asyncio.Event(), asyncio.Event()

    async def late(route: Route) -> None:
        reply = await route.fetch()
        if not asked.is_set() and "#EXT-X-SKIP" in await reply.text():
            asked.set()
            await switched_off.wait()
        await route.fulfill(response=reply)

    async with watching(browser, stage, "hls.html") as watched:
        page = watched.page
        await page.route("**/captions/text-en/index.m3u8?*_HLS_skip=YES*", late)
        async with asyncio.timeout(at_most(40)):
            await asked.wait()
        async with page.expect_response("**/captions/text-en/index.m3u8?*") as came:
            await page.keyboard.press("c")
            switched_off.set()
        await (await came.value).finished()
        await page.wait_for_timeout(300)  # hls.js reads it
        await page.unroute_all(behavior="wait")
        await page.keyboard.press("c")
        say(stage, f"still there{LONG}")
        await comes_to_show(page, "still there")


@pytest.mark.parametrize("width", [360, *at_night(1280)])
async def test_long_and_right_to_left_text_stays_on_the_picture(browser: Browser, stage: Channel, width: int) -> None:
    async with watching(browser, stage, viewport={"width": width, "height": 740}) as watched:
        say(stage, "long words " * 45)
        await comes_to_show(watched.page, "long words")
        await watched.page.wait_for_function(FITS, timeout=at_most(5_000))
        say(stage, "one\ntwo\nthree\nfour\nfive")
        await comes_to_show(watched.page, "five")
        assert await watched.page.locator(".caption-texts p").last.inner_text() == "two\nthree\nfour\nfive"
        say(stage, "مرحبًا بكم")
        await comes_to_show(watched.page, "مرحبًا")
        direction = "() => getComputedStyle(document.querySelector('.caption-texts p')).direction"
        assert await watched.page.evaluate(direction) == "rtl"


@pytest.mark.parametrize("page", ["flv.html", *at_night("index.html")])
async def test_the_button_comes_with_the_first_caption(gateway: Gateway, browser: Browser, page: str) -> None:
    channel = gateway.channel(f"silent {page}")
    with clock_push(channel.push):
        channel.wait_playable("live.m3u8")
        async with watching(browser, channel, page) as watched:
            button = watched.page.get_by_role("button", name="Captions", include_hidden=True)
            assert await button.count() == 1 and not await button.is_visible()
            say(channel, "the first one", "")
            await button.wait_for(state="visible", timeout=at_most(40_000))  # the page asks for new tracks
            await watched.page.keyboard.press("c")
            await watched.plays()  # HLS is opened again, with its captions
            say(channel, "the second one", "")
            await comes_to_show(watched.page, "the second one")


async def test_a_captioner_writes_what_viewers_read(browser: Browser, stage: Channel) -> None:
    async with (
        watching(browser, stage) as viewer,
        opened(browser, stage.url(f"caption.html?sign={stage.key}"), locale="en-US") as writer,
    ):
        page = writer.page
        field = page.get_by_label("Caption", exact=True)
        await field.fill("Welcome to <b>this</b> broadcast")
        await page.keyboard.press("Enter")
        await page.locator("li[data-state=sent]", has_text="Welcome").wait_for()
        await comes_to_show(viewer.page, "Welcome to <b>this</b> broadcast")
        await page.keyboard.type("kmfc")  # no keys of the player here
        assert await field.input_value() == "kmfc" and await page.get_by_text("4 of 500").is_visible()
        await page.locator("#caption-language").select_option(label="Deutsch")
        await page.keyboard.press("Tab")
        await field.press("Enter")
        await page.locator("li[data-state=sent]", has_text="kmfc").wait_for()
        assert stage.gateway.api("GET", f"/videostream/{stage.id}/captions").json()[1]["last"] == "kmfc"
        assert stage.key not in page.url and stage.key not in await page.content()
        assert await axe(page) == []
        await page.reload()  # the tab remembers the key
        await field.fill("after a reload")
        await page.keyboard.press("Enter")
        await page.locator("li[data-state=sent]", has_text="after a reload").wait_for()
        assert not writer.complaints


async def test_a_captioner_with_a_wrong_key_is_asked_for_it(browser: Browser, stage: Channel) -> None:
    async with opened(browser, stage.url("caption.html"), locale="en-US") as writer:
        page = writer.page
        await page.get_by_label("Stream key").fill("1-wrong")
        await page.keyboard.press("Enter")
        await page.get_by_label("Caption", exact=True).fill("kept")
        await page.keyboard.press("Enter")
        await page.get_by_text("The stream key is wrong").wait_for()
        await page.get_by_label("Stream key").fill(stage.obs_key)
        await page.keyboard.press("Enter")
        await page.get_by_label("Caption", exact=True).press("Enter")
        await page.locator("li[data-state=sent]", has_text="kept").wait_for()


@contextlib.asynccontextmanager
async def push_with_metadata(channel: Channel) -> AsyncIterator[None]:
    """Pushes the film as fast as it plays, with timed metadata twice a second: `{"n": <number>}`."""
    data, at = FILM.path().read_bytes(), 13
    async with connected(channel.gateway.ports["rtmp"]) as peer:
        await peer.publish(channel.obs_key)

        async def send() -> None:
            nonlocal at
            began, told = time.monotonic(), 0
            while at < len(data):
                size, stamp = int.from_bytes(data[at + 1 : at + 4], "big"), int.from_bytes(data[at + 4 : at + 7], "big")
                await asyncio.sleep(began + stamp / 1000 - time.monotonic())
                if stamp >= told * 500:
                    body = amf0.encode("onTimedMetadata", {"text": f'{{"n": {told}}}'})
                    await peer.send(message(18, body, time=stamp, csid=5, stream=1, size=peer.size))
                    told += 1
                await peer.body(data[at], data[at + 11 : at + 11 + size], stamp)
                at += 15 + size

        sending = asyncio.create_task(send())
        try:
            yield
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending


@pytest.mark.parametrize(
    "page", ["instant.html", "dash.html", *at_night("flv.html", "whep.html", "hls.html", "index.html")]
)
async def test_pages_tell_about_metadata_in_their_order(gateway: Gateway, browser: Browser, page: str) -> None:
    channel = gateway.channel(f"metadata {page}")

    async def prepare(context: BrowserContext) -> None:
        await context.add_init_script(HEAR)

    async with push_with_metadata(channel):
        await asyncio.to_thread(channel.wait_live)
        async with opened(browser, channel.url(page), prepare=prepare) as watched:
            await watched.plays()
            await watched.page.wait_for_function("() => window.heard.length >= 4", timeout=at_most(20_000))
            heard = await watched.page.evaluate("window.heard")
            numbers = [int(text.removeprefix('{"n": ').removesuffix("}")) for text, _, _ in heard]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            times = [at for _, at, _ in heard]
            if page in ("hls.html", "index.html", "dash.html"):  # there the times are those of the element
                assert all(-0.05 < shown - at < 0.4 for _, at, shown in heard)
            assert times == sorted(times) and times[0] > 0
            assert all(0.2 < after - before < 0.9 for before, after in itertools.pairwise(times[1:]))
