"""The simulcast card of a channel: presets, and one switch for each target."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from playwright.async_api import Browser, Route, expect

from tests.browser.test_console_views import button, looping, signed_in
from tests.support.browser import axe
from tests.support.clients import until
from tests.support.gateway import Gateway
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

FILM = Film("console", seconds=20, size="640x360")
gateway = shared_gateway("chromium", "ffmpeg", films=[FILM], MILLRACE_EGRESS__ALLOW="127.0.0.0/8")
PICTURES = os.environ.get("ALARM_PICTURES", "")


async def picture(page, name: str) -> None:
    if PICTURES:
        await page.screenshot(path=str(Path(PICTURES) / f"{name}.png"), full_page=True)


async def test_targets_are_added_stopped_and_removed_one_by_one(browser: Browser, gateway: Gateway) -> None:
    one, two = gateway.channel(videoname="One"), gateway.channel(videoname="Two")
    channel = gateway.channel(videoname="Main stage")

    def stored(*names: str) -> dict:
        item = gateway.api("GET", f"/videostream/{channel.id}").json()
        return {name: item.get(name) for name in names}

    with looping(channel.push):
        channel.wait_live()
        async with signed_in(browser, gateway, f"channels/{channel.id}") as watched:
            page = watched.page
            card = page.locator(".is-simulcast")
            dialog = page.get_by_role("dialog")
            for target in (one, two):
                await button(card, "Add a target").click()
                await dialog.get_by_label("Service").select_option(label="Another server (RTMP)")
                server, _, key = target.push.rpartition("/")
                await dialog.get_by_label("Server").fill(server)
                await dialog.get_by_label("Stream key").fill(key)
                await button(dialog, "Add").click()
                await expect(dialog).to_have_count(0)
                target.wait_live()
            await expect(card.get_by_text("live", exact=True)).to_have_count(2, timeout=at_most(15_000))
            since = one.session()["since"]
            await button(card, "Add a target").click()
            await button(dialog, "Add").click()
            await expect(dialog.get_by_text("Enter the address and the key")).to_be_visible()
            assert not await axe(page)
            await picture(page, "simulcast-add")
            await dialog.get_by_label("Stream key").fill("abcd-efgh")
            await button(dialog, "Add").click()
            await expect(card.get_by_role("switch", name="YouTube")).to_be_checked()
            assert stored("relayURL")["relayURL"][2] == "rtmps://a.rtmps.youtube.com/live2/********"

            second = card.get_by_role("switch").nth(1)
            await second.uncheck()
            await expect(card.get_by_text("stopped", exact=True)).to_have_count(1)
            await expect(card.get_by_text("live", exact=True)).to_have_count(1, timeout=at_most(15_000))
            assert stored("relayOff", "isRelay") == {"relayOff": [1], "isRelay": True}
            assert one.session()["since"] == since

            async def late(route: Route) -> None:
                await asyncio.sleep(0.3)
                await route.continue_()

            await page.route("**/relay", late)
            await card.get_by_role("switch", name="YouTube").uncheck()
            await second.check()  # before the other change is stored
            await asyncio.to_thread(until, lambda: stored("relayOff") == {"relayOff": [2]}, "both changes are stored")
            await page.unroute("**/relay")
            await picture(page, "simulcast")
            assert not await axe(page)
            await expect(card.get_by_text("live", exact=True)).to_have_count(2, timeout=at_most(15_000))
            assert one.session()["since"] == since

            await card.get_by_role("button", name="Remove the target 127").first.click()
            await button(page.get_by_role("alertdialog"), "Remove").click()
            await expect(card.get_by_role("switch")).to_have_count(2)
            assert stored("relayOff")["relayOff"] == [1]
            assert two.session()["state"] == "live"
            assert "abcd-efgh" not in await page.content()
            await page.set_viewport_size({"width": 390, "height": 844})
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            await picture(page, "simulcast-narrow")
            assert not await axe(page)
            assert not watched.complaints


async def test_a_target_that_fails_stays_in_its_card_and_says_so_in_one_wording(
    browser: Browser, gateway: Gateway
) -> None:
    channel = gateway.channel(
        videoname="Not reached", isRelay=True, relayURL=["rtmp://127.0.0.1:9/live/key", "rtmps://a.rtmps.youtube.com/live2/key"],
        relayOff=[1],
    )  # fmt: skip
    with looping(channel.push):
        channel.wait_live()
        async with signed_in(browser, gateway, f"channels/{channel.id}") as watched:
            page = watched.page
            card = page.locator(".is-simulcast")
            state = card.get_by_text("trying again", exact=True)
            await expect(state).to_be_visible()
            await expect(card).to_contain_text("connection refused")
            relay = page.locator(".is-switches .one", has_text=re.compile("Relay|转推"))
            await expect(relay.get_by_text("trying again", exact=True)).to_be_visible()
            await expect(relay).to_contain_text("1 target, see Simulcast")
            for width in (390, 900, 1280, 1440):
                await page.set_viewport_size({"width": width, "height": 900})
                assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
                outer = await card.bounding_box()
                for one in await card.get_by_role("button", name="Remove the target").all():
                    inner = await one.bounding_box()
                    assert outer and inner and inner["x"] + inner["width"] <= outer["x"] + outer["width"], width
                await picture(page, f"simulcast-failing-{width}")
            await page.evaluate("import('/console/app/i18n.js').then(({ setLanguage }) => setLanguage('zh', false))")
            await expect(card).to_contain_text("连接被拒绝")
            await expect(relay).to_contain_text("目标未接收直播：连接被拒绝")
            await expect(page.locator(".is-health")).to_contain_text("连接被拒绝")
            await expect(page.locator(".is-events")).to_contain_text("连接被拒绝")
            await page.set_viewport_size({"width": 1280, "height": 900})
            await picture(page, "simulcast-failing-zh")
            assert not await axe(page)
