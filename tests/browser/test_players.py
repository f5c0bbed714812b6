"""The four player pages play a real push from the real gateway, without a console error or a policy violation."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from playwright.async_api import Browser

from tests.support.at_night import at_night
from tests.support.browser import Watched, opened
from tests.support.clients import new_ffmpeg, push
from tests.support.gateway import Channel, Gateway, http
from tests.support.media import SMALL_BFRAMES, Film
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most
from tests.support.waiting import until

PAGES = ["flv.html", "index.html", "hls.html", "dash.html"]


gateway = shared_gateway("chromium", "ffmpeg", films=[SMALL_BFRAMES], MILLRACE_STREAM__LINGER="5")


# Each player of the four runs each time in the tests of a whole push.
TWO_PAGES = pytest.mark.parametrize("names", [PAGES[::3], *at_night(PAGES[1:3])], ids=" ".join)


async def on_all_pages(
    browser: Browser,
    channel: Channel,
    judge: Callable[[Watched, str], Awaitable[None]],
    query: str = "",
    names: Sequence[str] = PAGES,
) -> None:
    """Opens the pages at the same time and lets `judge(page, name)` look at each. All failures are reported."""

    async def one(name: str) -> None:
        async with opened(browser, channel.url(name) + query) as watched:
            await judge(watched, name)

    ends = await asyncio.gather(*(one(name) for name in names), return_exceptions=True)
    wrong = [f"{name}: {end}" for name, end in zip(names, ends, strict=True) if end is not None]
    assert not wrong, "\n".join(wrong)


async def test_all_pages_play_a_live_push(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel("players")

    async def judge(watched: Watched, name: str) -> None:
        await watched.plays()
        await watched.comes_to_say("Live")
        now = await watched.video()
        await watched.plays_past(now["time"] + now["behind"] + 1)  # it gets more than it has
        assert not watched.complaints

    with push(SMALL_BFRAMES, channel.push, loop=True):
        channel.wait_live()
        await on_all_pages(browser, channel, judge)


@TWO_PAGES
async def test_pages_opened_before_the_push_start_automatically_and_show_the_end(
    names: list[str], gateway: Gateway, browser: Browser
) -> None:
    channel = gateway.channel("early")
    gate = asyncio.Barrier(len(names) + 1)

    async def judge(watched: Watched, name: str) -> None:
        await watched.comes_to_say("Waiting for the stream")
        await gate.wait()
        try:
            await watched.plays()
            assert not watched.complaints
        finally:
            await gate.wait()
        await watched.comes_to_say("The stream has ended")
        assert not watched.complaints

    async def broadcast() -> None:
        await gate.wait()
        with push(SMALL_BFRAMES, channel.push, loop=True):
            await gate.wait()

    await asyncio.wait_for(
        asyncio.gather(on_all_pages(browser, channel, judge, names=names), broadcast()), at_most(120)
    )


@pytest.mark.nightly
@TWO_PAGES
async def test_pages_continue_when_the_publisher_returns(names: list[str], gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel("returning")
    gate = asyncio.Barrier(len(names) + 1)

    async def judge(watched: Watched, name: str) -> None:
        try:
            await watched.plays()
        finally:
            await gate.wait()
        await gate.wait()
        # What is buffered of the first push would move too: only a picture well after it proves the second.
        now = await watched.video()
        await watched.plays_past(now["time"] + now["behind"] + 2)
        assert not watched.complaints

    async def broadcast() -> None:
        with push(SMALL_BFRAMES, channel.push, loop=True):
            await gate.wait()
        await asyncio.sleep(1.5)  # gone for less than `linger`
        with push(SMALL_BFRAMES, channel.push, loop=True):
            await gate.wait()
            await done.wait()

    done = asyncio.Event()

    async def judged() -> None:
        try:
            await on_all_pages(browser, channel, judge, names=names)
        finally:
            done.set()

    await asyncio.wait_for(asyncio.gather(judged(), broadcast()), at_most(120))


@pytest.mark.nightly
async def test_the_last_snapshot_is_shown_while_the_channel_is_not_live(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel("poster", isImage=True, image_time="1")
    async with opened(browser, channel.url("flv.html")) as watched:
        await watched.comes_to_say("Waiting for the stream")
        assert await watched.page.locator(".poster").is_hidden()
        with push(SMALL_BFRAMES, channel.push, loop=True):
            await watched.plays()
            images = gateway.data / "media" / channel.id / "images"
            await until(lambda: len([*images.rglob("*.jpg")]) > 1, within=30)
        await watched.comes_to_say("The stream has ended")
        await watched.page.locator(".poster").wait_for(state="visible", timeout=at_most(20_000))
        latest = max(path.name for path in images.rglob("*.jpg"))
        assert str(await watched.page.locator(".poster").get_attribute("src")).endswith(latest)
        assert not watched.complaints


async def test_pages_name_a_codec_that_the_browser_cannot_decode(gateway: Gateway, browser: Browser) -> None:
    """dash.js plays the sound alone: the page said "Live" over a black picture."""
    channel = gateway.channel("hevc")
    film = Film("hevc-page", seconds=20, video="libx265", container="mp4", ffmpeg=new_ffmpeg())

    async def judge(watched: Watched, name: str) -> None:
        await watched.comes_to_say("This browser cannot play the stream")
        said = "It cannot decode HEVC (H.265). Try the WebRTC player or another browser."
        assert await watched.page.locator("#detail").inner_text() == said

    with push(film, channel.push, ffmpeg=film.ffmpeg, loop=True):
        channel.wait_playable("manifest.mpd")
        await on_all_pages(browser, channel, judge, names=["hls.html", "dash.html"])


async def test_the_watch_page_plays_av1_by_another_protocol_than_flv(gateway: Gateway, browser: Browser) -> None:
    """mpegts.js misreads headers of SVT-AV1: no picture for many seconds, and then a stretched one."""
    channel = gateway.channel("av1")
    ffmpeg = new_ffmpeg()
    film = Film("av1-page", seconds=20, rate=15, gop=15, video="libsvtav1", container="mp4", ffmpeg=ffmpeg)

    async def judge(watched: Watched, name: str) -> None:
        if name == "flv.html":
            await watched.comes_to_say("This browser cannot play the stream")
            assert "AV1" in await watched.page.locator("#detail").inner_text()
        else:
            await watched.plays()
            assert await watched.page.evaluate("document.querySelector('video').videoWidth") == 320

    with push(film, channel.push, ffmpeg=ffmpeg, loop=True):
        channel.wait_playable("master.m3u8")
        await on_all_pages(browser, channel, judge, names=["", "flv.html"])


async def test_a_reopened_dash_page_gets_no_errors_from_the_first_player(gateway: Gateway, browser: Browser) -> None:
    """dash.js applied delayed rate changes to the destroyed player, which threw an error."""
    channel = gateway.channel("starved")
    thrown: list[str] = []
    with push(SMALL_BFRAMES, channel.push, loop=True):
        channel.wait_live()
        async with opened(browser, channel.url("dash.html")) as watched:
            watched.page.on("pageerror", lambda error: thrown.append(str(error)))
            await watched.plays()
            await watched.page.route("**/*.m4s", lambda route: route.abort())
            await watched.comes_to_say("Connection lost", within=40)
            await watched.page.unroute("**/*.m4s")
            await watched.plays()
    assert not thrown


async def test_protected_pages_play_only_with_a_play_signature(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel("protected", playAuth="sign")
    signed = channel.item["playUrls"]["flv"].partition("?")[2]
    assert signed.startswith("sign="), channel.item["playUrls"]

    async def plays(watched: Watched, name: str) -> None:
        await watched.plays()
        assert not watched.complaints

    async def refuses(watched: Watched, name: str) -> None:
        await watched.comes_to_say("Not allowed")

    with push(SMALL_BFRAMES, channel.push, loop=True):
        channel.wait_live()
        await on_all_pages(browser, channel, plays, f"?{signed}")
        await on_all_pages(browser, channel, refuses)


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_sent_with_a_strict_policy(name: str, gateway: Gateway) -> None:
    header = http("GET", gateway.channel("policy").url(name)).headers["content-security-policy"]
    policy = {words[0]: words[1:] for words in (part.split() for part in header.split(";")) if words}
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == ["'self'"]
    assert "unsafe" not in header
