"""The simulcast card of a channel: presets, and one switch for each target."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.browser.test_console_views import button, looping, signed_in
from tests.support.browser import axe
from tests.support.gateway import Gateway
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")
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
            await expect(card.get_by_text("live", exact=True)).to_have_count(2, timeout=15_000)
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
            await expect(card.get_by_text("live", exact=True)).to_have_count(1, timeout=15_000)
            assert stored("relayOff", "isRelay") == {"relayOff": [1], "isRelay": True}
            assert one.session()["since"] == since
            await card.get_by_role("switch", name="YouTube").uncheck()
            await picture(page, "simulcast")
            assert not await axe(page)
            await second.check()
            await expect(card.get_by_text("live", exact=True)).to_have_count(2, timeout=15_000)
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
