"""The watch page of a channel and the home page, as viewers meet them."""

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, WebSocketRoute

from tests.support.browser import Watched, axe, opened
from tests.support.clients import push
from tests.support.gateway import Channel, Gateway
from tests.support.media import SMALL_BFRAMES
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


gateway = shared_gateway("chromium", "ffmpeg", films=[SMALL_BFRAMES], MILLRACE_STREAM__LINGER="4")


@pytest.fixture(scope="module")
def live(gateway: Gateway) -> Iterator[Channel]:
    """A public channel that is live in every form."""
    words = {"videoname": "Main stage", "description": "From the <b>city</b> hall"}
    channel = gateway.channel(**words, isPublic=True, isHls=True, isCMAF=True)
    with push(SMALL_BFRAMES, channel.push, loop=True):
        channel.wait_live()
        yield channel


async def plays_as(watched: Watched, protocol: str) -> None:
    """Returns once the page plays with this protocol."""
    await watched.page.wait_for_function(
        "(name) => document.querySelector('#protocol')?.textContent === name"
        " && document.querySelector('#stage').dataset.state === 'live'",
        arg=protocol,
        timeout=at_most(60_000),
    )
    await watched.plays()


async def headline(watched: Watched, words: str) -> None:
    await watched.page.locator("#headline", has_text=words).wait_for(timeout=at_most(20_000))


async def test_the_watch_page_plays_the_fastest_protocol_and_offers_the_others(
    browser: Browser, gateway: Gateway, live: Channel
) -> None:
    async with opened(browser, live.url("").removesuffix("/")) as watched:
        await plays_as(watched, "WS-FLV")
        page = watched.page
        assert page.url == live.url("")
        assert await page.title() == await page.get_by_role("heading").inner_text() == "Main stage"
        assert await page.get_by_text("From the <b>city</b> hall").is_visible()
        await page.get_by_text("1 watching").wait_for()
        await page.locator("#stage").hover()
        await page.get_by_role("button", name="Settings").click()
        assert await page.get_by_role("radio").count() == 0, "a viewer need not know of protocols"
        await page.get_by_text("Advanced", exact=True).click()
        assert await page.get_by_role("radio", name="Automatic (WS-FLV)").is_checked()
        assert not await axe(page)
        await page.get_by_role("radio", name="LL-HLS").check()
        await plays_as(watched, "LL-HLS")
        await page.reload()
        await plays_as(watched, "LL-HLS")
        await watched.open_advanced()
        await page.get_by_role("radio", name="Automatic").check()
        await plays_as(watched, "WS-FLV")
        await page.keyboard.press("Escape")
        assert await page.get_by_role("radio").count() == 0
        assert not watched.complaints


@pytest.mark.nightly
async def test_a_failing_protocol_is_replaced_by_the_next_one_without_a_reload(browser: Browser, live: Channel) -> None:
    silent = True

    async def answer(socket: WebSocketRoute) -> None:
        """Accepts the connection and sends nothing, or closes it, like some proxies."""
        if not silent:
            await socket.close()

    async with opened(browser, live.url("about.txt")) as watched:
        await watched.page.route_web_socket("**/live.flv*", answer)
        await watched.page.goto(live.url(""))
        await plays_as(watched, "LL-HLS")
        assert await watched.page.evaluate("performance.getEntriesByType('navigation').length") == 1
        silent = False
        await watched.page.reload()
        await plays_as(watched, "LL-HLS")
        await watched.page.route("**/*.m4s*", lambda route: route.fulfill(status=404))
        await plays_as(watched, "HTTP-FLV")


async def test_the_watch_page_works_without_flv_or_media_source(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="cmaf only", isFlv=False, isCMAF=True, isHls=False)
    with push(SMALL_BFRAMES, channel.push, loop=True):
        channel.wait_live()
        async with opened(browser, channel.url("")) as watched:
            await plays_as(watched, "LL-HLS")
            assert not watched.complaints
            await watched.page.add_init_script("delete window.MediaSource; delete window.ManagedMediaSource;")
            await watched.page.reload()
            await plays_as(watched, "WebRTC")
            await watched.page.add_init_script("delete window.RTCPeerConnection;")
            await watched.page.reload()
            await headline(watched, "This browser cannot play the stream")
            assert "It cannot decode H.264." in await watched.page.locator("#detail").inner_text()


@pytest.mark.nightly
async def test_the_page_waits_plays_resumes_after_a_break_and_shows_the_end(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="evening")
    async with opened(browser, channel.url("")) as watched:
        await headline(watched, "Waiting for the stream")
        assert await watched.page.get_by_text("Offline", exact=True).is_visible()
        with push(SMALL_BFRAMES, channel.push, loop=True):
            await plays_as(watched, "WS-FLV")
        before = (await watched.video())["time"]
        with push(SMALL_BFRAMES, channel.push, loop=True):
            await watched.plays_past(before + 6)
            assert await watched.page.locator("#protocol").inner_text() in ("", "WS-FLV")
        await headline(watched, "The stream has ended")
        assert not watched.complaints


async def test_an_unknown_address_and_a_missing_signature_give_a_message(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="members", playAuth="sign")
    signed = channel.item["playUrls"]["flv"].partition("?")[2]
    async with opened(browser, channel.url("../nobody")) as watched:
        await headline(watched, "There is no channel with this address")
        assert not watched.complaints
    with push(SMALL_BFRAMES, channel.push, loop=True):
        channel.wait_live()
        async with opened(browser, channel.url("").removesuffix("/") + f"?{signed}") as watched:
            await plays_as(watched, "WS-FLV")
            assert await watched.page.title() == "members"
            assert not watched.complaints
        async with opened(browser, channel.url("")) as watched:
            await headline(watched, "Not allowed")
            assert "members" not in await watched.page.content()


async def test_an_embedded_watch_page_shows_only_the_picture(browser: Browser, live: Channel) -> None:
    async with opened(browser, live.url("?embed=1")) as watched:
        await plays_as(watched, "WS-FLV")
        assert not await watched.page.get_by_role("heading").is_visible()
        assert await watched.page.evaluate("document.querySelector('#stage').clientHeight === innerHeight")
        code = await watched.page.locator("#share-embed").input_value()
        assert f'src="{live.url("")}?embed=1"' in code


async def test_the_home_page_lists_public_channels_with_links(
    browser: Browser, gateway: Gateway, live: Channel
) -> None:
    gateway.channel(videoname="Not for everyone")
    gateway.channel(videoname="Later", isPublic=True)
    root = f"http://127.0.0.1:{gateway.ports['http']}/"
    async with opened(browser, root, **PHONE) as watched:
        cards = watched.page.get_by_role("listitem")
        await cards.first.wait_for()
        for _ in range(6):  # the list may be ten seconds old
            if await cards.count() == 2:
                break
            await watched.page.wait_for_timeout(2500)
            await watched.page.reload()
            await cards.first.wait_for()
        live_card, later = await cards.all_inner_texts()
        assert "LIVE" in live_card.upper() and "Main stage" in live_card
        assert "OFFLINE" in later.upper() and "Later" in later
        assert await watched.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await watched.page.wait_for_function("() => [...document.images].every((i) => i.complete && i.naturalWidth)")
        assert not await axe(watched.page)
        await cards.first.get_by_role("link").click()
        await plays_as(watched, "WS-FLV")
        assert not watched.complaints
