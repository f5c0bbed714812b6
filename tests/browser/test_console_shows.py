"""Shows in the console and on the pages: the next one, its countdown, the report and its link, in both themes."""

import asyncio
import json
import os
import re
import time

import pytest
from playwright.async_api import Browser, BrowserContext, expect

from tests.support.browser import axe, opened
from tests.support.clients import push, until
from tests.support.console import WIDE, signed_in
from tests.support.gateway import Channel, Gateway
from tests.support.media import SMALL
from tests.support.shared_gateway import shared_gateway

NARROW = {"width": 390, "height": 844}

gateway = shared_gateway("chromium", "ffmpeg", AWS_REGION="", MILLRACE_STREAM__LINGER="1")


def ended_show(channel: Channel) -> str:
    """Pushes for a moment. Returns the id of the show, when it has ended."""
    path = f"/videostream/{channel.id}/shows"
    with push(SMALL, channel.push):
        channel.wait_live()
        until(lambda: len(channel.gateway.api("GET", path).json()) == 1, "listed")
    until(lambda: channel.gateway.api("GET", path).json()[0]["end"] is not None, "ended", 20)
    return str(channel.gateway.api("GET", path).json()[0]["id"])


async def test_an_operator_plans_a_show_and_viewers_see_the_countdown(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="Club", isPublic=True)
    async with signed_in(browser, gateway, f"#/channels/{channel.id}", viewport=WIDE) as watched:
        page = watched.page
        await page.get_by_role("button", name="Plan a show").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog.get_by_text("Enter a title and a time.")).to_be_visible()
        await dialog.get_by_label("Title of the show").fill("Final <b>")
        soon = time.strftime("%Y-%m-%dT%H:%M", time.localtime(time.time() + 2 * 3600))
        await dialog.get_by_label("Begins").fill(soon)
        assert await axe(page) == []
        await dialog.get_by_role("button", name="Save").click()
        await expect(page.locator(".is-next").get_by_text("Final <b>")).to_be_visible()
        await page.get_by_role("button", name="Add a recipient").click()
        await dialog.get_by_label("Send to").select_option("ntfy")
        await dialog.get_by_label("Topic").fill("topic-of-mine")
        await dialog.get_by_role("button", name="Save").click()
        await expect(page.locator(".is-next code")).to_have_text("ntfy://********")
        assert watched.complaints == []
    stored = gateway.api("GET", f"/videostream/{channel.id}").json()
    assert (stored["upcoming"]["title"], stored["announce"]) == ("Final <b>", ["ntfy://********"])
    for address in (channel.url(""), channel.url("../")):
        async with opened(browser, address, viewport=NARROW, locale="zh-CN") as watched:
            shown = watched.page.locator(".next")
            await expect(shown.get_by_text("Final <b>")).to_be_visible()
            await expect(shown.locator(".countdown")).to_have_text(re.compile(r"^1:\d\d:\d\d后开始$"))
            assert await watched.page.evaluate("document.documentElement.scrollWidth") <= 390
            assert await axe(watched.page) == []


async def test_a_wrong_clock_of_the_device_does_not_change_the_countdown(browser: Browser, gateway: Gateway) -> None:
    async def late(context: BrowserContext) -> None:
        await context.add_init_script("const { now } = Date; Date.now = () => now() + 3 * 3_600_000;")

    show = {"title": "Match", "at": time.time() + 2 * 3600}
    channel = gateway.channel(videoname="Other club", isPublic=True, upcoming=show)
    for address in (channel.url(""), channel.url("../")):
        async with opened(browser, address, prepare=late) as watched:
            shown = watched.page.locator(".next", has_text="Match").locator(".countdown")
            await expect(shown).to_have_text(re.compile(r"^in (1:59|2:00):\d\d$"))


async def test_a_past_show_is_no_longer_on_the_page(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="Club", upcoming={"title": "Final", "at": time.time() + 4})
    async with opened(browser, channel.url("")) as watched:
        await expect(watched.page.locator(".next")).to_be_visible()
        await expect(watched.page.locator(".next")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_report_is_shown_shared_and_printed(browser: Browser, gateway: Gateway, scheme: str) -> None:
    channel = gateway.channel(videoname="Club")
    show = ended_show(channel)
    async with signed_in(
        browser, gateway, f"#/channels/{channel.id}", viewport=WIDE, color_scheme=scheme, locale="en-GB"
    ) as watched:
        page = watched.page
        await page.locator(".is-shows").get_by_role("link").click()
        await expect(page.locator(".report").get_by_role("heading", name="Club")).to_be_visible()
        assert page.url.endswith(f"#/channels/{channel.id}/shows/{show}")
        assert await axe(page) == []
        async with page.expect_download() as download:
            await page.get_by_role("link", name="CSV").click()
        assert (await download.value).suggested_filename == f"show-{show}.csv"
        await page.get_by_role("button", name="Share").click()
        link = await page.get_by_role("dialog").locator("code").inner_text()
        assert await axe(page) == []
        await page.emulate_media(media="print")
        await expect(page.get_by_role("button", name="Share")).to_be_hidden()
        await expect(page.locator(".report h2")).to_have_css("color", "rgb(0, 0, 0)")
        assert watched.complaints == []
    async with opened(browser, link, viewport=NARROW, color_scheme=scheme, locale="zh-CN") as watched:
        page = watched.page
        await expect(page.get_by_text("没有人观看。")).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        assert await axe(page) == []
        assert watched.complaints == []
    async with opened(browser, f"{link}0") as watched:
        await expect(watched.page.get_by_text("This link is wrong")).to_be_visible()


async def test_names_in_a_report_are_text(browser: Browser, gateway: Gateway) -> None:
    name = "<img src=x onerror=alert(1)>"
    channel = gateway.channel(videoname=name)
    show = ended_show(channel)
    link = gateway.api("POST", f"/videostream/{channel.id}/shows/{show}/share").json()["url"]
    async with opened(browser, link) as watched:
        await expect(watched.page.locator(".report h2")).to_have_text(name)
        assert await watched.page.locator("img[src=x]").count() == 0
        assert json.dumps(watched.complaints) == "[]"


async def test_the_events_of_a_channel_are_grouped_by_show(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="Revue")
    show = ended_show(channel)
    gateway.api("PUT", f"/videostream/{channel.id}", {"description": "after the first show"})
    async with signed_in(browser, gateway, f"#/events?channel={channel.id}") as watched:
        page = watched.page
        cards = page.get_by_role("main").locator("section.card")
        titles = cards.locator("h2")
        await expect(titles).to_have_text(
            [re.compile("^Other events$"), re.compile("^Revue"), re.compile("^Other events$")]
        )
        await expect(cards.first.get_by_role("listitem")).to_have_count(1)
        await expect(cards.first).to_contain_text("Description")
        found = cards.nth(1).get_by_role("list", name="Revue").get_by_role("listitem")
        for name in ("Push started", "Stream started", "Push ended", "Stream ended"):
            await expect(found.filter(has_text=name)).to_have_count(1)
        await expect(cards.last).to_contain_text("Channel created")
        assert await axe(page) == []
        if folder := os.environ.get("SCREENSHOTS"):
            await page.screenshot(path=f"{folder}/events.png")
        await cards.nth(1).get_by_role("link", name="Revue", exact=True).first.click()
        await expect(page.locator(".report").get_by_role("heading", name="Revue")).to_be_visible()
        assert page.url.endswith(f"/shows/{show}")
        assert watched.complaints == []


async def test_a_playlist_offers_a_recorded_show_by_its_title(browser: Browser, gateway: Gateway) -> None:
    upcoming = {"title": "Final", "at": time.time() + 60}
    channel = gateway.channel(videoname="Club", isVideo=True, video_time="1", upcoming=upcoming)
    ended_show(channel)
    path = f"/videostream/{channel.id}/recordings?kind=video"
    await asyncio.to_thread(until, lambda: gateway.api("GET", path).json() != [], "recorded", 20)
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        await page.get_by_role("button", name="Add playlist").click()
        choice = page.get_by_role("dialog").get_by_label("Add a video or recording")
        await expect(choice.locator("option")).to_have_text([re.compile("Choose"), re.compile(r"^Final, .+ · \d+ sec")])
        assert await axe(page) == []
        assert watched.complaints == []
