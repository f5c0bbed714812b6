"""Ad cues in the console: a break is begun and ended by hand, and both cues are listed."""

from playwright.async_api import Browser, expect

from tests.support.clients import push
from tests.support.console import signed_in
from tests.support.gateway import Gateway
from tests.support.media import SMALL
from tests.support.shared_gateway import shared_gateway

gateway = shared_gateway("chromium", films=[SMALL])


async def test_a_break_is_begun_and_ended(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel(videoname="cued")
    with push(SMALL, channel.push, loop=True):
        channel.wait_live()
        async with (
            signed_in(browser, gateway, f"#/channels/{channel.id}", locale="en-US") as watched,
        ):
            card = watched.page.get_by_role("region", name="Ad cues")
            await card.get_by_label("Break of").fill("12.5")
            await card.get_by_role("button", name="Begin the break").click()
            await expect(card.get_by_role("listitem")).to_have_count(1)
            await card.get_by_role("button", name="End the break").click()
            rows = card.get_by_role("listitem")
            await expect(rows).to_have_count(2)
            await expect(rows.nth(0)).to_contain_text("Program")
            await expect(rows.nth(1)).to_contain_text("Break")
            await expect(rows.nth(1)).to_contain_text("api")
            await card.get_by_label("Break of").fill("")
            await card.get_by_role("button", name="Begin the break").click()
            await expect(rows).to_have_count(3)
            assert not watched.complaints
    listed = gateway.api("GET", f"/videostream/{channel.id}/cues").json()
    assert [(cue["type"], cue["seconds"]) for cue in listed] == [("out", None), ("in", None), ("out", 12.5)]
