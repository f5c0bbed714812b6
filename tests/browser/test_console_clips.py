"""Clips in the console: made while the channel is live, and played from their own page."""

import time

from playwright.async_api import Browser, Download, expect

from tests.support.browser import Watched
from tests.support.clients import push, until
from tests.support.console import signed_in
from tests.support.gateway import Gateway
from tests.support.media import SMALL
from tests.support.shared_gateway import shared_gateway

gateway = shared_gateway("chromium")


async def test_the_last_seconds_become_a_clip_that_plays(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel(videoname="clipped", isOnDemand=True, ondemand_time="10")
    clips = f"/videostream/{channel.id}/clips"
    with push(SMALL, channel.push, loop=True):
        until(lambda: gateway.api("POST", clips, {"last": 3}).status == 201, "something is recorded")
        began = int(time.time())
        # The page exports up to the last full second.
        until(lambda: time.time() >= began + 2, "a full second is recorded")
        async with (
            signed_in(browser, gateway, f"#/channels/{channel.id}", locale="en-US") as watched,
        ):
            card = watched.page.get_by_role("region", name="Clips and export")
            await card.get_by_role("button", name="Last 30 s").click()
            await card.get_by_text("Clip of").wait_for()
            await expect(card.get_by_role("button", name="Copy Clip address")).to_be_visible()
            async with watched.page.expect_download() as download:
                await card.get_by_role("link", name="Export").click()
            assert (await download.value).suggested_filename.startswith("clipped-")
            async with watched.page.context.expect_page() as opened:
                await card.get_by_role("link", name="Open").click()
            player = await opened.value
            await player.locator("video").wait_for()
            await player.evaluate(
                "() => { const v = document.querySelector('video'); v.muted = true; return v.play(); }"
            )
            await Watched(player).plays()
            await player.get_by_role("link", name="To the channel").click()
            await expect(player.get_by_role("heading", level=1)).to_have_text("clipped")
            assert player.url == channel.url("")
            await card.get_by_label("From").fill("2099-01-01T00:00:00")
            await card.get_by_role("button", name="Make clip").click()
            await card.get_by_role("alert").get_by_text("future").wait_for()
            await card.get_by_label("From").fill("2020-01-01T00:00:00")
            await card.get_by_label("To", exact=True).fill("2020-01-01T00:01:00")
            downloads: list[Download] = []
            watched.page.on("download", lambda one: downloads.append(one))
            await card.get_by_role("link", name="Export").click()
            await watched.page.get_by_text("nothing of this channel is recorded in this time").wait_for()
            assert not downloads, "an error is no file"
            refused = ("400", "404")  # the clip and the export
            watched.complaints = [said for said in watched.complaints if not any(code in said for code in refused)]
            assert not watched.complaints
