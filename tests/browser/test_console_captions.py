"""Captions in the console: the list in the channel editor, and the card of a live channel."""

from __future__ import annotations

from playwright.async_api import Browser, expect

from tests.browser.test_console_views import button, looping, signed_in
from tests.support.browser import axe
from tests.support.gateway import Gateway
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

FILM = Film("console", seconds=20, size="640x360")
gateway = shared_gateway("chromium", "ffmpeg", films=[FILM])


async def test_captions_are_added_changed_and_removed_in_the_editor(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="Main stage")

    def stored() -> object:
        return gateway.api("GET", f"/videostream/{channel.id}").json().get("captions")

    async with signed_in(browser, gateway, f"channels/{channel.id}/edit?section=basics") as watched:
        page = watched.page
        group = page.get_by_role("group", name="Captions")
        for _ in range(2):
            await button(group, "Add captions").click()
        await group.get_by_label("Source of captions 1").select_option(label="CC1 (CEA-608)")
        await group.get_by_label("Language").nth(0).fill("en")
        await group.get_by_label("Name").nth(0).fill("English")
        await group.get_by_role("switch").nth(0).click()
        await group.get_by_label("Language").nth(1).fill("not a tag")
        await group.get_by_role("switch").nth(1).click()
        await expect(group.get_by_role("switch").nth(0)).not_to_be_checked()  # only one is shown first
        await button(page, "Save").click()
        await expect(group.get_by_role("alert")).to_contain_text("language of captions")
        await group.get_by_label("Language").nth(1).fill("de")
        await button(page, "Save").click()
        await expect(page.get_by_text("Everything is saved")).to_be_visible()
        assert stored() == [
            {"source": "cc1", "language": "en", "label": "English", "default": False},
            {"source": "text", "language": "de", "label": "", "default": True},
        ]
        assert not await axe(page)
        await button(group, "Remove captions 1").click()
        await button(page, "Save").click()
        await expect(page.get_by_text("Everything is saved")).to_be_visible()
        assert [entry["language"] for entry in stored()] == ["de"]  # type: ignore[attr-defined]


async def test_a_live_channel_shows_its_captions_and_sends_one(browser: Browser, gateway: Gateway) -> None:
    tracks = [{"source": "text", "language": "en", "label": "English"}, {"source": "text", "language": "de"}]
    channel = gateway.channel(videoname="Main stage", captions=tracks)
    with looping(channel.push):
        channel.wait_live()
        async with signed_in(browser, gateway, f"channels/{channel.id}") as watched:
            page = watched.page
            card = page.locator(".is-captions")
            await expect(card.get_by_text("Nothing yet")).to_have_count(2)
            await card.get_by_label("Language").select_option("de")
            await card.get_by_label("Caption for the viewers").fill("Guten <b>Abend</b>")
            await page.keyboard.press("Enter")
            await expect(card.get_by_text("Guten <b>Abend</b>")).to_be_visible()
            await expect(card.get_by_label("Caption for the viewers")).to_have_value("")
            gateway.api("POST", f"/videostream/{channel.id}/captions", {"text": "from elsewhere", "language": "en"})
            await expect(card.get_by_text("from elsewhere")).to_be_visible(timeout=at_most(10_000))
            link = await card.get_by_role("link").get_attribute("href")
            assert link == channel.url("caption.html")
            assert not await axe(page)
            assert not watched.complaints
