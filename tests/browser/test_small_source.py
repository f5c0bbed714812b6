"""What people see of a ladder whose renditions are larger than the source."""

import asyncio
import re

import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import opened
from tests.support.clients import push, until
from tests.support.console import signed_in
from tests.support.gateway import Gateway, http
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMALL = Film("small-source", seconds=120, size="640x360")
gateway = shared_gateway("chromium", "ffmpeg", films=[SMALL])


async def test_the_dialog_does_not_offer_renditions_that_are_larger_than_the_source(
    browser: Browser, gateway: Gateway
) -> None:
    channel = gateway.channel("small")
    with push(SMALL, channel.push):
        await asyncio.to_thread(until, lambda: channel.session()["tracks"], "tracks")
        async with signed_in(browser, gateway, f"#/channels/{channel.id}") as console:
            await console.page.get_by_role("switch", name="Transcoding").click()
            dialog = console.page.get_by_role("dialog")
            larger = dialog.get_by_role("switch", name="720p")
            await expect(larger).to_be_disabled()
            await expect(larger).not_to_be_checked()
            await expect(dialog.get_by_text("Larger than the source")).to_have_count(3)
            await expect(dialog.get_by_role("switch", name="360p")).to_be_checked()


@pytest.mark.parametrize("page", ["hls.html", "index.html", "dash.html", "flv.html"])
async def test_a_rendition_at_the_size_of_the_source_has_its_height_and_no_more_bits(
    browser: Browser, gateway: Gateway, page: str
) -> None:
    channel = gateway.channel(f"fallback {page}", isCodec=True, hd=True, ud=True, ladder="recommended")
    with push(SMALL, channel.push):
        await asyncio.to_thread(channel.wait_playable, "720p/index.m3u8")  # FLV lists renditions that are there already
        async with opened(browser, channel.url(page)) as player:
            await player.plays(40)
            menu = player.page.get_by_role("combobox", name="Quality")
            await expect(menu.locator("option", has_text=re.compile(r"^360p"))).to_have_count(1, timeout=20_000)
            assert "720p" not in await menu.inner_text()
        outputs = {output["name"]: output for output in channel.session()["outputs"]}
        assert outputs["codec"]["larger"] == ["1080p"]
        master = (await asyncio.to_thread(http, "GET", channel.url("master.m3u8"))).text
        (declared,) = re.findall(r"BANDWIDTH=(\d+)[^\n]*\n720p/", master)
        assert int(declared) <= 1.5 * 700_000 + 128_000, master
