"""Small things of the console: switches that ask in place, sizes, dates, and fields without an effect."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, Route, expect

from tests.support.browser import axe, opened
from tests.support.clients import push, until
from tests.support.console import address, signed_in
from tests.support.gateway import Channel, Gateway
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

FILM = Film("console", seconds=20, size="640x360")

gateway = shared_gateway("chromium", "ffmpeg", films=[FILM], AWS_REGION="")


async def photo(page: Page, name: str) -> None:
    """Keeps a screenshot if a folder for them is set."""
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png")


def kinds(session: dict[str, Any]) -> set[str]:
    """Returns the kinds of the tracks that the session has."""
    return {track["kind"] for track in session["tracks"]}


async def switch_watermark_on(page: Page) -> None:
    """Switches the text watermark of the shown channel on."""
    await page.get_by_role("switch", name="Watermark").click()
    await page.get_by_role("dialog").get_by_label("Text").fill("Millrace")
    await page.get_by_role("dialog").get_by_role("button", name="Switch on").click()
    await expect(page.get_by_role("dialog")).to_be_hidden()  # the switch is checked from the click on
    await expect(page.get_by_role("switch", name="Watermark")).to_be_checked()


def is_at_the_bottom_right(gateway: Gateway, channel: Channel) -> bool:
    item = gateway.api("GET", f"/videostream/{channel.id}").json()
    return 440 < item["WaterMarkLeft"] < 600 and 310 < item["WaterMarkTop"] < 340


async def test_a_new_watermark_of_a_live_channel_is_at_the_bottom_right(gateway: Gateway, browser: Browser) -> None:
    asked, edited = gateway.channel(videoname="asked"), gateway.channel(videoname="edited")
    with push(FILM, asked.push, loop=True), push(FILM, edited.push, loop=True):
        until(lambda: all("video" in kinds(one.session()) for one in (asked, edited)), "pictures")
        async with signed_in(browser, gateway, f"#/channels/{asked.id}") as watched:
            page = watched.page
            await switch_watermark_on(page)
            assert is_at_the_bottom_right(gateway, asked)
            await page.goto(f"http://127.0.0.1:{gateway.ports['admin']}/#/channels/{edited.id}/edit?section=watermark")
            left = page.get_by_label("From the left")
            await expect(left).to_have_value("10")
            await page.get_by_role("switch", name="Text watermark").click()
            await page.get_by_label("Watermark text").fill("Mill")
            first = int(await left.input_value())
            await page.get_by_label("Watermark text").fill("Millrace")
            assert 440 < int(await left.input_value()) < first < 620
            await page.get_by_role("button", name="Top left").click()
            await page.get_by_label("Watermark text").fill("M")
            assert int(await left.input_value()) < 10, "the user has placed it"


async def test_a_watermark_is_at_the_bottom_right_before_the_page_has_read_the_session(
    gateway: Gateway, browser: Browser
) -> None:
    channel = gateway.channel(videoname="early")
    answered = asyncio.Event()

    async def late(route: Route) -> None:
        await answered.wait()
        await route.continue_()

    with push(FILM, channel.push, loop=True):
        until(lambda: "video" in kinds(channel.session()), "a picture")
        async with signed_in(browser, gateway, "#/channels") as watched:
            await watched.page.route(f"**/videostream/{channel.id}/session", late, times=1)
            await watched.page.goto(address(gateway, f"#/channels/{channel.id}"))
            await switch_watermark_on(watched.page)
            answered.set()
        assert is_at_the_bottom_right(gateway, channel)


async def test_transcoding_and_relay_ask_in_a_dialog_for_what_they_need(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel(videoname="switches")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        dialog = page.get_by_role("dialog")
        await page.get_by_role("switch", name="Transcoding").click()
        await expect(dialog.get_by_role("switch", name="720p")).to_be_checked()
        await expect(dialog.get_by_text("1280 × 720 · 2.8 Mbit/s")).to_be_visible()
        await dialog.get_by_role("switch", name="720p").click()
        await photo(page, "ask-transcoding")
        assert await axe(page) == []
        await dialog.get_by_role("button", name="Switch on").click()
        await expect(page.get_by_role("switch", name="Transcoding")).to_be_checked()
        await page.get_by_role("switch", name="Relay").click()
        await dialog.get_by_role("button", name="Add").wait_for()
        assert not await page.get_by_label("Relay", exact=True).is_checked(), "the dialog has no answer yet"
        await dialog.get_by_role("button", name="Add").click()
        await expect(dialog.get_by_role("alert")).to_have_text("Enter the address and the key, without spaces.")
        await dialog.get_by_label("Stream key").fill("key")
        await dialog.get_by_role("button", name="Add").click()
        await expect(page.get_by_role("switch", name="Relay")).to_be_checked()
    item = gateway.api("GET", f"/videostream/{channel.id}").json()
    assert [item.get(flag) for flag in ("isCodec", "ld", "sd", "hd", "ud")] == [True, True, False, False, False]
    assert (item["ladder"], item["isRelay"]) == ("recommended", True)
    assert item["relayURL"] == ["rtmps://a.rtmps.youtube.com/live2/********"]


async def test_outputs_that_cannot_work_here_cannot_be_switched_on(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel(videoname="no engine")
    already = gateway.channel(videoname="switched on before", isCaption=True)
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        captions, kinesis = (
            page.get_by_role("switch", name=name) for name in ("Captions from speech", "Kinesis Video")
        )
        for view in ("", "/edit?section=basics"):
            await page.goto(page.url.partition("#")[0] + f"#/channels/{channel.id}{view}")
            await expect(captions).to_be_disabled()
            await expect(kinesis).to_be_disabled()
            await expect(page.get_by_text("This gateway has no engine for speech to text.")).to_be_visible()
            await photo(page, f"cannot{view[:5].replace('/', '-')}")
            assert await axe(page) == []
        await page.goto(page.url.partition("#")[0] + f"#/channels/{already.id}")
        await expect(captions).to_be_checked()  # the other channel's switch is shown until then, and is off
        await captions.uncheck()
        await expect(captions).to_be_disabled()
        assert not watched.complaints


async def test_a_key_that_somebody_copies_stays_in_its_place_when_the_push_begins(
    gateway: Gateway, browser: Browser
) -> None:
    channel = gateway.channel(videoname="copying")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        key = watched.page.get_by_role("button", name="Copy Stream key")
        before = await key.bounding_box()
        with push(FILM, channel.push, loop=True):
            await expect(watched.page.get_by_role("region", name="Health")).to_be_visible()
            after = await key.bounding_box()
        assert before and after and abs(before["y"] - after["y"]) < 60, (before, after)


async def test_a_change_by_the_api_is_soon_no_longer_of_this_push_only(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel(videoname="by api")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        with push(FILM, channel.push, loop=True):
            await expect(watched.page.locator(".page-head .badge")).to_have_text("Live")
            gateway.api("PUT", f"/videostream/{channel.id}", {"isImage": True})
            await expect(watched.page.get_by_role("switch", name="Snapshots")).to_be_checked()
            await expect(watched.page.get_by_text("this push only")).to_have_count(0, timeout=at_most(8_000))


async def test_dead_fields_and_aws_are_hidden_and_dates_follow_the_region(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel(videoname="fields")
    old = gateway.channel(videoname="old", masterSize="large")
    options: dict[str, Any] = {"locale": "en-GB"}
    async with (
        signed_in(browser, gateway, f"#/channels/{channel.id}/edit?section=basics", **options) as watched,
    ):
        page = watched.page
        await expect(page.get_by_role("heading", name="Watermark")).to_be_visible()
        assert "no effect on this gateway" not in await page.inner_text("main")
        await expect(page.get_by_role("link", name="Amazon IVS")).to_have_count(0)
        await expect(page.get_by_label("Who may watch")).to_contain_text("The gateway’s setting: Everybody")
        await page.goto(page.url.replace(channel.id, old.id))
        await expect(page.get_by_text("no effect on this gateway").first).to_be_visible()
        await page.goto(page.url.partition("#")[0] + f"#/channels/{channel.id}")
        await expect(page.get_by_text("31 Dec 2035")).to_be_visible()


async def test_an_address_below_a_channel_is_a_page_for_browsers_only(gateway: Gateway, browser: Browser) -> None:
    base = f"http://127.0.0.1:{gateway.ports['http']}"
    async with opened(browser, f"{base}/foo/bar") as watched:
        await expect(watched.page.locator("#headline")).to_have_text("There is no channel with this address")
        await photo(watched.page, "no-channel")
        reply = await watched.page.request.get(f"{base}/foo/live.m3u8", headers={"Accept": "*/*"})
        assert (reply.status, await reply.text()) == (404, "foo is not streaming live now\n")
