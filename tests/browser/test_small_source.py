"""What people see of a ladder whose renditions are larger than the source."""

import asyncio
import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from tests.support.at_night import at_night
from tests.support.browser import opened
from tests.support.clients import push, until
from tests.support.console import signed_in
from tests.support.gateway import Channel, Gateway, http
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

SOURCE = Film("small-source", size="640x360", rate=15, gop=15)
gateway = shared_gateway("chromium", "ffmpeg", films=[SOURCE], MILLRACE_TRANSCODE__PRESET="ultrafast")


async def test_the_dialog_does_not_offer_renditions_that_are_larger_than_the_source(
    browser: Browser, gateway: Gateway
) -> None:
    channel = gateway.channel("small")
    with push(SOURCE, channel.push, loop=True):
        await asyncio.to_thread(until, lambda: channel.session()["tracks"], "tracks")
        async with signed_in(browser, gateway, f"#/channels/{channel.id}") as console:
            await console.page.get_by_role("switch", name="Transcoding").click()
            dialog = console.page.get_by_role("dialog")
            larger = dialog.get_by_role("switch", name="720p")
            await expect(larger).to_be_disabled()
            await expect(larger).not_to_be_checked()
            await expect(dialog.get_by_text("Larger than the source")).to_have_count(3)
            await expect(dialog.get_by_role("switch", name="360p")).to_be_checked()


@pytest.fixture(scope="module")
def fallback(gateway: Gateway) -> Iterator[Channel]:
    """A live channel of 640 × 360 with the rungs 720p and 1080p."""
    channel = gateway.channel("fallback", isCodec=True, hd=True, ud=True, ladder="recommended")
    with push(SOURCE, channel.push, loop=True):
        channel.wait_playable("720p/index.m3u8")  # FLV lists renditions that are there already
        yield channel


@pytest.mark.parametrize("page", ["", "hls.html", "flv.html", *at_night("index.html", "dash.html")])
async def test_a_rendition_at_the_size_of_the_source_has_its_height_and_no_more_bits(
    browser: Browser, fallback: Channel, page: str
) -> None:
    async with opened(browser, fallback.url(page)) as player:
        await player.plays(40)
        if not page:  # the watch page
            await player.page.locator("#stage").hover()
            await player.page.get_by_role("button", name="Settings").click()
        menu = player.page.get_by_role("combobox", name="Quality")
        await expect(menu.locator("option", has_text=re.compile(r"^360p"))).to_have_count(1, timeout=at_most(20_000))
        assert "720p" not in await menu.inner_text()
    outputs = {output["name"]: output for output in fallback.session()["outputs"]}
    assert outputs["codec"]["larger"] == ["1080p"]
    master = (await asyncio.to_thread(http, "GET", fallback.url("master.m3u8"))).text
    (declared,) = re.findall(r"BANDWIDTH=(\d+)[^\n]*\n720p/", master)
    assert int(declared) <= 1.5 * 700_000 + 128_000, master


async def test_a_rewound_picture_has_a_menu_that_names_the_original(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("rewound", isCodec=True, ld=True, rewind=1)
    with push(SOURCE, channel.push, loop=True):
        await asyncio.to_thread(channel.wait_playable, "360p/index.m3u8")
        async with opened(browser, channel.url("index.html")) as player:
            await player.plays(40)
            menu = player.page.get_by_role("combobox", name="Quality")
            await expect(menu.locator("option")).to_have_count(3, timeout=at_most(20_000))
            await player.page.get_by_role("slider", name="Time").press("ArrowLeft", timeout=at_most(20_000))
            await expect(player.page.locator("#stage")).to_have_attribute("data-rewound", "", timeout=at_most(20_000))
            await player.plays(40)
            await expect(menu).to_be_disabled()
            await expect(menu.locator("option")).to_have_text(["Original"])
            await player.page.get_by_role("button", name="Live", exact=True).click()
            await expect(menu).to_be_enabled(timeout=at_most(20_000))
