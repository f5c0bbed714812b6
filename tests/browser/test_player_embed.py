"""The player pages embedded in another page show only the picture and its controls."""

import pytest
from playwright.async_api import Browser, BrowserContext, Frame

from tests.support.at_night import at_night
from tests.support.browser import Watched, opened
from tests.support.clients import push
from tests.support.foreign_page import foreign_page
from tests.support.gateway import Gateway
from tests.support.media import SMALL_BFRAMES
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

TITLE = "<title>elsewhere</title>"
PAGES = ["flv.html", "index.html", "hls.html", "dash.html"]
PLAYS = """() => document.querySelector("#stage")?.dataset.state === "live"
  && document.querySelector("video").currentTime > 0.5"""
# What is seen of everything that a page has beside its stage.
SEEN = """() => [...document.querySelectorAll("header, nav, dl, footer, h1")]
  .filter((e) => e.checkVisibility()).map((e) => e.tagName)"""
SIZES = """() => { const { width, height, x, y } = document.querySelector("#stage").getBoundingClientRect();
  const { scrollWidth, scrollHeight } = document.documentElement;
  return [x, y, width, height, scrollWidth, scrollHeight]; }"""


gateway = shared_gateway("chromium", "ffmpeg", films=[SMALL_BFRAMES])


async def framed(watched: Watched) -> list[Frame]:
    """The frames of a page, once all of them play."""
    frames = watched.page.frames[1:]
    for frame in frames:
        await frame.wait_for_function(PLAYS, timeout=at_most(40_000))
    return frames


async def test_the_embed_code_shows_picture_and_controls_in_another_page(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("framed")
    with push(SMALL_BFRAMES, channel.push, loop=True):
        channel.wait_live()
        async with opened(browser, channel.url("flv.html")) as watched:
            code = await watched.page.locator("#share-embed").input_value()
        assert f'src="{channel.url("flv.html")}?embed=1" width="640" height="360"' in code
        small = code.replace('width="640" height="360"', 'width="320" height="180"')
        async with foreign_page(TITLE + code + small) as url, opened(browser, url) as watched:
            for frame, (width, height) in zip(await framed(watched), [(640, 360), (320, 180)], strict=True):
                assert await frame.evaluate(SEEN) == []
                assert await frame.evaluate(SIZES) == [0, 0, width, height, width, height]
                await frame.locator("#stage").hover()
                for name in ("Pause", "Unmute", "Full screen"):
                    box = await frame.get_by_role("button", name=name, exact=True).bounding_box()
                    assert box is not None, name
            assert not watched.complaints


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_frame_offers_to_send_its_address_only_where_the_browser_allows_it(
    browser: Browser, gateway: Gateway, allowed: bool
) -> None:
    async def prepare(context: BrowserContext) -> None:
        can_share = f"navigator.canShare = ({{ url }}) => Boolean(url) && {str(allowed).lower()};"
        await context.add_init_script(f"navigator.share = async () => undefined; {can_share}")

    channel = gateway.channel("sent")
    with push(SMALL_BFRAMES, channel.push, loop=True):
        channel.wait_live()
        async with opened(browser, channel.url("?embed=1"), prepare=prepare) as watched:
            await watched.plays()
            await watched.page.locator("#stage").hover()
            await watched.page.get_by_role("button", name="Share").click()
            await watched.page.get_by_role("button", name="Copy: This page").wait_for()
            assert await watched.page.get_by_role("button", name="Send to").is_visible() == allowed


async def test_only_a_page_that_may_embed_the_channel_shows_it_in_a_frame(browser: Browser, gateway: Gateway) -> None:
    """The frame hides its page, so the gateway cannot know it."""
    allowed = gateway.channel("allowed", refererAllow=["localhost"])
    barred = gateway.channel("barred", refererAllow=["good.example"])
    code = "".join(
        f'<iframe src="{one.url("?embed=1")}" referrerpolicy="no-referrer" allow="autoplay"></iframe>'
        for one in (allowed, barred)
    )
    with push(SMALL_BFRAMES, allowed.push, loop=True):
        allowed.wait_live()
        async with foreign_page(TITLE + code) as url, opened(browser, url) as watched:
            shown, refused = watched.page.frames[1:]
            await shown.wait_for_function(PLAYS, timeout=at_most(40_000))
            assert refused.url.startswith("chrome-error:")
            assert all("frame-ancestors" in complaint for complaint in watched.complaints)
            assert watched.complaints


@pytest.mark.parametrize("name", [*PAGES[::3], *at_night(*PAGES[1:3])])
async def test_every_page_shows_only_the_player_in_a_frame(browser: Browser, name: str, gateway: Gateway) -> None:
    channel = gateway.channel("bare")
    frame = f'<iframe src="{channel.url(name)}" width="640" height="360" allow="autoplay"></iframe>'
    with push(SMALL_BFRAMES, channel.push, loop=True):
        channel.wait_live()
        async with foreign_page(TITLE + frame) as url, opened(browser, url) as watched:
            [only] = await framed(watched)
            assert await only.evaluate(SEEN) == []
            assert await only.evaluate(SIZES) == [0, 0, 640, 360, 640, 360]
            assert not watched.complaints


async def test_the_embed_parameter_hides_everything_but_the_player(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("own")
    async with opened(browser, channel.url("hls.html")) as watched:
        await watched.comes_to_say("Waiting for the stream")
        assert await watched.page.evaluate(SEEN) == ["HEADER", "H1", "NAV", "DL", "FOOTER"]
    async with opened(browser, channel.url("hls.html?embed=1")) as watched:
        await watched.page.get_by_text("Waiting for the stream").first.wait_for(state="attached")
        assert await watched.page.evaluate(SEEN) == []


async def test_the_signature_is_passed_on_and_the_embed_parameter_is_not(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("signed", playAuth="sign")
    signed = channel.item["playUrls"]["flv"].partition("?")[2]
    asked: list[str] = []
    with push(SMALL_BFRAMES, channel.push, loop=True):
        channel.wait_live()
        for query in (f"embed=1&{signed}", f"{signed}&embed=1"):
            async with opened(browser, channel.url("about.txt")) as watched:
                watched.page.on("request", lambda request: asked.append(request.url))
                await watched.page.goto(channel.url(f"hls.html?{query}"))
                await watched.page.wait_for_function(PLAYS, timeout=at_most(40_000))
                shared = await watched.page.locator("#share-page").input_value()
                code = await watched.page.locator("#share-embed").input_value()
            assert shared == channel.url(f"hls.html?{signed}")
            assert f'src="{channel.url("hls.html")}?{signed}&amp;embed=1"' in code
    media = [url for url in asked if f"/{channel.id}/" in url and "hls.html" not in url]
    assert media
    assert all("embed" not in url for url in media), media


@pytest.mark.parametrize(
    ("page", "rest"),
    [
        ("", ""),
        ("?embed=1", ""),
        ("?embed=1&sign=1-abc&x=%2F", "?sign=1-abc&x=%2F"),
        ("?sign=1-abc&embed=1&x=%2F", "?sign=1-abc&x=%2F"),
        ("?sign=1-abc&x=%2F&embed=1", "?sign=1-abc&x=%2F"),
        ("?embedded=1&notembed=2", "?embedded=1&notembed=2"),
    ],
)
async def test_the_rest_of_the_query_is_passed_on_unchanged(
    browser: Browser, page: str, rest: str, gateway: Gateway
) -> None:
    channel = gateway.channel("bytes")
    async with opened(browser, channel.url(f"flv.html{page}")) as watched:
        links = watched.page.locator("nav a")
        await links.first.wait_for(state="attached")
        assert (
            await links.evaluate_all(
                "all => all.map((a) => a.getAttribute('href').slice(a.pathname.split('/').at(-1).length))"
            )
            == [rest] * 7
        )
