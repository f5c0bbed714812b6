"""What player pages say about the browser, the device and the keys, and how they show their facts."""

import time
from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, BrowserContext, expect

from tests.support.broadcaster import from_key
from tests.support.browser import opened
from tests.support.clients import push
from tests.support.gateway import Channel, Gateway
from tests.support.media import SMALL
from tests.support.shared_gateway import shared_gateway

NO_MSE = "delete window.MediaSource; delete window.ManagedMediaSource;"
# The facts that do not reach the end of their row.
RAGGED = """() => { const bar = document.querySelector(".facts");
  const cells = [...bar.children].map((one) => one.getBoundingClientRect()).filter(({ width }) => width);
  const ends = {};
  for (const { top, right } of cells) ends[Math.round(top)] = Math.max(right, ends[Math.round(top)] ?? 0);
  return Object.values(ends).filter((end) => Math.abs(end - bar.getBoundingClientRect().right) > 2); }"""

gateway = shared_gateway("chromium", "ffmpeg", films=[SMALL])


@pytest.fixture(scope="module")
def live(gateway: Gateway) -> Iterator[Channel]:
    channel = gateway.channel(
        "Main stage", rewind=1, captions=[{"source": "text", "language": "en", "label": "English"}]
    )
    with push(SMALL, channel.push, loop=True):
        channel.wait_playable("live.m3u8")
        yield channel


@pytest.mark.parametrize(
    ("page", "missing", "format", "feature"),
    [
        ("whep.html", "delete window.RTCPeerConnection", "WebRTC", "WebRTC"),
        ("flv.html", NO_MSE, "HTTP-FLV", "Media Source Extensions"),
        ("hls.html", NO_MSE, "LL-HLS", "Media Source Extensions"),
        ("dash.html", NO_MSE, "DASH", "Media Source Extensions"),
    ],
)
async def test_a_page_names_the_feature_that_the_browser_lacks(
    browser: Browser, gateway: Gateway, page: str, missing: str, format: str, feature: str
) -> None:
    channel = gateway.channel(videoname="Evening talk")
    async with opened(browser, channel.url("status.json")) as watched:
        await watched.page.add_init_script(missing)
        await watched.page.goto(channel.url(page))
        await expect(watched.page.get_by_role("heading", name="Evening talk")).to_be_visible()
        await watched.comes_to_say(f"This browser cannot play {format}")
        detail = watched.page.locator("#detail")
        await expect(detail).to_have_text(f"It has no {feature}. Choose another player above.")
        await expect(watched.page.get_by_role("button", name="Try again")).to_be_hidden()
        await expect(watched.page.locator(".keys")).to_be_hidden()


async def test_a_device_without_a_network_is_named_as_the_reason(browser: Browser, live: Channel) -> None:
    async with opened(browser, live.url("index.html")) as watched:
        await watched.plays()
        await watched.page.context.set_offline(True)
        await watched.comes_to_say("Your device is offline", 40)
        await expect(watched.page.locator("#detail")).to_have_text("Playback continues when the network is back.")
        await watched.page.context.set_offline(False)
        await watched.plays(40)


async def test_only_keys_that_do_something_are_listed(browser: Browser, gateway: Gateway, live: Channel) -> None:
    async with opened(browser, live.url("hls.html")) as watched:
        await watched.plays()
        await expect(watched.page.locator(".keys")).to_contain_text("C captions", use_inner_text=True)
    bare = gateway.channel("bare")
    async with opened(browser, bare.url("hls.html")) as watched:
        await watched.comes_to_say("Waiting for the stream")
        await expect(watched.page.locator(".keys")).to_contain_text("full screen", use_inner_text=True)
        await expect(watched.page.locator(".keys")).not_to_contain_text("captions", use_inner_text=True)
        await watched.page.add_init_script(
            "Object.defineProperty(document, 'pictureInPictureEnabled', { value: false })"
        )
        await watched.page.reload()
        await expect(watched.page.locator(".keys")).not_to_contain_text("picture in picture", use_inner_text=True)
        await watched.page.goto(bare.url("").replace(bare.id, "nobody"))
        await watched.page.get_by_text("There is no channel with this address").first.wait_for()
        await expect(watched.page.locator(".keys")).to_be_hidden()


async def test_the_facts_fill_their_rows_at_every_width(browser: Browser, gateway: Gateway, live: Channel) -> None:
    async with from_key(browser, live) as studio, opened(browser, live.url("hls.html")) as player:
        await studio.page.evaluate("document.querySelector('#viewers-fact').hidden = false")
        for width in (390, 700, 900, 1000, 1280, 1600):
            for page in (studio.page, player.page):
                await page.set_viewport_size({"width": width, "height": 700})
                assert await page.evaluate(RAGGED) == [], f"{page.url} at {width}"
        await player.page.set_viewport_size({"width": 900, "height": 650})
        edges = "() => ['.stage', '.facts'].map((one) => document.querySelector(one).getBoundingClientRect().width)"
        stage, facts = await player.page.evaluate(edges)
        assert abs(stage - facts) <= 1


async def test_a_rewound_picture_keeps_its_captions(browser: Browser, live: Channel) -> None:
    async with opened(browser, live.url(f"hls.html?t={int(time.time()) - 5}")) as watched:
        await watched.plays(40)
        await expect(watched.page.locator("#stage")).to_have_attribute("data-rewound", "")
        await expect(watched.page.locator("button[aria-label=Captions]")).not_to_have_attribute("hidden", "")
        assert not watched.complaints


async def test_dash_asks_for_new_manifests_after_a_long_pause(browser: Browser, live: Channel) -> None:
    """dash.js 5.2.1 asks for them only after a `play` event. A click on the empty element comes too early for it."""
    asked = "performance.getEntriesByType('resource').filter(({ name }) => name.includes('manifest.mpd')).length"

    async def prepare(context: BrowserContext) -> None:
        await context.add_init_script(
            """const { setTimeout: later } = window;
            window.setTimeout = (run, ms, ...more) => later(run, ms === 30000 ? 300 : ms, ...more);"""
        )

    async with opened(browser, live.url("dash.html"), prepare=prepare) as watched:
        await watched.plays()
        await watched.page.evaluate("document.querySelector('video').pause()")
        await watched.page.locator("#start").click()
        await watched.comes_to_say("Live")
        before = await watched.page.evaluate(asked)
        await watched.comes_true(f"async (before) => {asked} > before + 2", before)
