"""The player pages in every state that a viewer can meet, against a listener whose answers the test chooses."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.support.at_night import at_night
from tests.support.browser import opened
from tests.support.clients import new_ffmpeg
from tests.support.media import SMALL, Film
from tests.support.player_stub import CONSOLE, Stub, serving
from tests.support.tools import need

PAGES = ["flv.html", "index.html", "hls.html", "dash.html"]


@pytest_asyncio.fixture(loop_scope="session")
async def stub() -> AsyncIterator[Stub]:
    need("ffmpeg")
    async with serving(SMALL) as instance:
        yield instance


@pytest.mark.nightly
async def test_pages_wait_without_errors_and_start_automatically(stub: Stub, browser: Browser) -> None:
    stub.live = False
    for name in PAGES:
        stub.live = False
        async with opened(browser, stub.url(name)) as watched:
            await watched.comes_to_say("Waiting for the stream")
            stub.live = True
            await watched.plays()
            await watched.comes_to_say("Live")
            assert not watched.complaints


async def test_the_query_of_a_page_is_passed_to_all_requests_and_links(stub: Stub, browser: Browser) -> None:
    async with opened(browser, stub.url("flv.html?sign=1-abc&x=%2F")) as watched:
        await watched.plays()
        asked = [path for path in stub.requests if "/_player/" not in path and ".html" not in path]
        assert asked
        assert all(path.removesuffix("&only=data").endswith("?sign=1-abc&x=%2F") for path in asked), asked
        links = await watched.page.locator("nav a").evaluate_all("all => all.map((a) => a.search)")
        assert links == ["?sign=1-abc&x=%2F"] * 7


@pytest.mark.nightly
async def test_a_page_shows_the_end_and_plays_when_the_stream_returns(stub: Stub, browser: Browser) -> None:
    async with opened(browser, stub.url("flv.html")) as watched:
        await watched.plays()
        stub.end()
        await watched.comes_to_say("The stream has ended")
        stub.live = True
        await watched.comes_to_say("Live")
        await watched.plays()
        assert not watched.complaints


async def test_an_end_missed_by_the_player_is_found_in_the_status(stub: Stub, browser: Browser) -> None:
    """dash.js may jump back and forth in the last part while it waits for the next one."""
    async with opened(browser, stub.url("flv.html")) as watched:
        await watched.plays()
        stub.end_unseen()
        await watched.page.evaluate(
            "setInterval(() => { const v = document.querySelector('video'), n = v.buffered.length; "
            "if (n) v.currentTime = v.buffered.end(n - 1) - 0.2 - Math.random() / 5 }, 400)"
        )
        await watched.comes_to_say("The stream has ended")
        assert not watched.complaints


@pytest.mark.nightly
async def test_the_delay_of_flv_does_not_grow(stub: Stub, browser: Browser) -> None:
    async with opened(browser, stub.url("flv.html")) as watched:
        await watched.plays()
        # As after a sleep of the tab: seconds behind, and yet soon at the edge again.
        await watched.page.evaluate("document.querySelector('video').pause()")
        await watched.page.wait_for_function(
            "() => { const v = document.querySelector('video'); "
            "return v.buffered.end(v.buffered.length - 1) - v.currentTime > 5 }"
        )
        await watched.page.evaluate("document.querySelector('video').play()")
        await watched.page.wait_for_function(
            "() => { const v = document.querySelector('video'); "
            "return !v.paused && v.buffered.end(v.buffered.length - 1) - v.currentTime < 1.6 }"
        )
        await watched.plays()


async def test_a_refused_viewer_gets_the_reason_and_may_try_again(stub: Stub, browser: Browser) -> None:
    stub.denied = True
    async with opened(browser, stub.url("hls.html")) as watched:
        await watched.comes_to_say("Not allowed")
        assert await watched.page.get_by_text("the sign has expired").is_visible()
        stub.denied = False
        await watched.page.get_by_role("button", name="Try again").click()
        await watched.plays()


async def test_the_page_of_a_disabled_format_shows_a_message(stub: Stub, browser: Browser) -> None:
    stub.outputs = ["flv"]
    async with opened(browser, stub.url("dash.html")) as watched:
        await watched.comes_to_say("Not available as DASH")
        assert not watched.complaints
        stub.outputs = ["flv", "cmaf"]
        await watched.plays()


async def test_a_page_waits_until_its_format_is_ready(stub: Stub, browser: Browser) -> None:
    stub.ready = ["flv"]
    async with opened(browser, stub.url("index.html")) as watched:
        await watched.comes_to_say("The stream is starting")
        assert not any("live.m3u8" in path for path in stub.requests)
        stub.ready = None
        await watched.plays()
        assert not watched.complaints


async def test_sound_and_pause_work_with_button_and_keys(stub: Stub, browser: Browser) -> None:
    async with opened(browser, stub.url("flv.html")) as watched:
        await watched.plays()
        muted = "document.querySelector('video').muted"
        assert await watched.page.evaluate(muted)
        await watched.page.get_by_role("button", name="Sound is off").click()
        assert not await watched.page.evaluate(muted)
        await watched.page.locator("h1").click()
        await watched.page.keyboard.press("m")
        assert await watched.page.evaluate(muted)
        await watched.page.evaluate("document.activeElement.blur()")
        await watched.page.keyboard.press("Space")
        await watched.comes_to_say("Paused")
        await watched.page.keyboard.press("Space")
        await watched.comes_to_say("Live")


async def test_an_unsupported_codec_is_named(stub: Stub, browser: Browser) -> None:
    stub.ffmpeg = new_ffmpeg()
    stub.film = Film("hevc-page", seconds=20, video="libx265", container="mp4", ffmpeg=stub.ffmpeg).path()
    async with opened(browser, stub.url("flv.html")) as watched:
        await watched.comes_to_say("This browser cannot play the stream")
        said = "It cannot decode HEVC (H.265). Try the WebRTC player or another browser."
        assert await watched.page.locator("#detail").inner_text() == said


async def test_a_stream_with_only_sound_is_shown_as_live(stub: Stub, browser: Browser) -> None:
    stub.film = Film("sound-page", seconds=30, video=None).path()
    async with opened(browser, stub.url("flv.html")) as watched:
        await watched.comes_to_say("Live")
        await watched.page.get_by_text("sound only").wait_for()
        assert not watched.complaints


@pytest.mark.parametrize("scheme", ["light", *at_night("dark")])
async def test_a_page_fits_a_phone_in_both_themes(scheme: str, stub: Stub, browser: Browser) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True, "color_scheme": scheme}
    async with opened(browser, stub.url("flv.html"), **phone) as watched:
        await watched.plays()
        assert await watched.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        ground = await watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(part) for part in ground.removeprefix("rgb(").removesuffix(")").split(","))
        assert (brightness > 600) == (scheme == "light"), ground


async def test_scripts_and_styles_of_the_player_pages_stay_small() -> None:
    # All player pages together; each loads a part of them. Icons are loaded only to install a page.
    files = [path for path in (CONSOLE / "players").iterdir() if path.suffix != ".png"]
    assert sum(path.stat().st_size for path in files) <= 405_500
