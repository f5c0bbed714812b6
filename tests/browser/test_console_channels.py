"""Channels in the console: made, found, changed, watched, switched and deleted by names that people see."""

import asyncio
import csv
import io
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Request, Route, expect

from tests.support.at_night import at_night
from tests.support.browser import axe, opened
from tests.support.clients import push
from tests.support.console import WIDE, address, held_changes, log_in, signed_in
from tests.support.gateway import Channel, Gateway, running
from tests.support.media import SMALL
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

SCRIPT = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'


gateway = shared_gateway("chromium", "ffmpeg", films=[SMALL], MILLRACE_STREAM__LINGER="2")


def stored(gateway: Gateway, channel: Channel) -> dict[str, object]:
    return dict(gateway.api("GET", f"/videostream/{channel.id}").json())


async def photo(page: Page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png")


def named(gateway: Gateway, name: str, **fields: Any) -> Channel:
    return gateway.channel(videoname=name, **fields)


# ---- signing in -------------------------------------------------------------------------------


async def test_a_wrong_token_is_refused_with_a_message_and_the_right_one_accepted(
    browser: Browser, gateway: Gateway
) -> None:
    async with opened(browser, address(gateway), locale="en-US", viewport=WIDE) as watched:
        page = watched.page
        await page.get_by_label("Token or password").fill("wrong")
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_text("The token or password is wrong.").wait_for()
        await expect(page.get_by_label("Token or password")).to_be_focused()
        # The browser itself reports the refusal, and nothing else is amiss.
        assert all("401" in said for said in watched.complaints), watched.complaints
        watched.complaints.clear()
        await page.get_by_role("button", name="Show the text").click()
        await expect(page.get_by_label("Token or password")).to_have_attribute("type", "text")
        await log_in(page, gateway.token)
        await page.get_by_role("heading", name="Channels", exact=True).wait_for()
        await page.get_by_role("button", name="Admin token").click()
        await page.get_by_role("menuitem", name="Log out").click()
        await page.get_by_label("Token or password").wait_for()
        assert not watched.complaints


async def test_too_many_attempts_show_the_waiting_time(browser: Browser) -> None:
    with running(MILLRACE_LIMITS__REFUSALS_PER_MINUTE="2") as gateway:
        async with opened(browser, address(gateway), locale="en-US", viewport=WIDE) as watched:
            page = watched.page
            for _ in range(3):
                await page.get_by_label("Token or password").fill("wrong")
                async with page.expect_response(lambda reply: reply.request.method == "POST"):
                    await page.get_by_role("button", name="Log in").click()
            await page.get_by_text(re.compile(r"Too many attempts\. Try again in \d+ seconds?\.")).wait_for()
            await expect(page.get_by_role("button", name="Log in")).to_be_disabled()


async def test_after_an_ended_session_a_new_login_returns_to_the_same_view(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, "Expiring session")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        await page.get_by_role("heading", name="Expiring session").wait_for()
        await page.context.clear_cookies()
        await page.get_by_text("The session has ended.").wait_for()
        await log_in(page, gateway.token)
        await page.get_by_role("heading", name="Expiring session").wait_for()


async def test_a_new_login_in_another_tab_does_not_stop_this_one(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, "Two tabs")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        await page.get_by_role("heading", name="Two tabs").wait_for()
        # The other tab's login has a cookie and a secret of its own; the cookie is this tab's too.
        reply = await page.context.request.post(address(gateway, "login"), data={"password": gateway.token})
        assert reply.ok

        async def of_before(route: Route) -> None:
            """The answer to a request that this tab sent with the cookie of before: the new login has ended it."""
            await route.fulfill(status=401, json={"error": "sign in"})

        path = f"**/videostream/{channel.id}/session"
        async with page.expect_response(lambda answer: answer.status == 401):
            await page.route(path, of_before, times=1)
        await page.get_by_role("switch", name="Record", exact=True).check()
        await page.get_by_text("Record is on").wait_for()
        assert stored(gateway, channel)["isVideo"] is True


# ---- the list ---------------------------------------------------------------------------------


async def test_a_new_channel_shows_its_push_addresses(browser: Browser, gateway: Gateway) -> None:
    async with signed_in(browser, gateway, timezone_id="Asia/Tokyo") as watched:
        page = watched.page
        await page.get_by_role("button", name="New channel").click()
        await expect(page.get_by_label("Name", exact=False).first).to_be_focused()
        await page.get_by_role("button", name="Create", exact=True).click()
        await page.get_by_text("Enter a name.").wait_for()
        await page.get_by_label("Name").fill("Harbour view")
        await page.get_by_label("Expiry").fill("2035-12-31T09:00")
        await page.get_by_label("Description").fill("Pier 7")
        await page.get_by_role("switch", name="LL-HLS and DASH").check()
        await page.get_by_role("button", name="Create", exact=True).click()
        await page.get_by_role("heading", name="Harbour view").wait_for()
        [item] = [c for c in gateway.api("GET", "/videostream").json() if c.get("videoname") == "Harbour view"]
        # What was typed in Tokyo is midnight in Greenwich.
        assert item["key"].startswith(f"{int(datetime(2035, 12, 31, tzinfo=UTC).timestamp())}-")
        assert (item["isFlv"], item["isHls"], item["isCMAF"]) == (True, True, True)
        await expect(page.get_by_text(item["obsServer"], exact=True)).to_be_visible()
        await expect(page.get_by_text(item["obsKey"], exact=True)).to_have_count(0)
        await expect(page.get_by_role("img", name="QR code of Push address")).to_have_count(0)
        await page.get_by_role("button", name="Show the key").click()
        await page.get_by_text("For players").click()
        for text in (item["obsKey"], item["pushUrl"], *item["playUrls"].values()):
            await expect(page.get_by_text(text, exact=True).first).to_be_visible()
        await page.locator("summary", has_text="SRT").click()
        for text in (item["pushUrls"]["srt"], f"publish:{item['obsKey']}"):
            await expect(page.get_by_text(text, exact=True).first).to_be_visible()
        for name in ("Push address", "Watch page"):
            code = page.get_by_role("img", name=f"QR code of {name}", exact=True)
            await code.wait_for()
            assert await code.evaluate("image => image.naturalWidth > 0 && image.getBoundingClientRect().width > 100")
        assert not watched.complaints


async def test_an_address_is_proposed_from_the_name_and_typed_ones_are_made_right(
    browser: Browser, gateway: Gateway
) -> None:
    async with signed_in(browser, gateway) as watched:
        page = watched.page
        await page.get_by_role("button", name="New channel").click()
        dialog = page.get_by_role("dialog")
        field = dialog.get_by_label("Address (optional)")
        await dialog.get_by_label("Name", exact=False).first.fill("Stage One! Zürich")
        await expect(dialog.get_by_text("/stage-one-zurich/")).to_be_visible()
        await page.set_viewport_size({"width": 390, "height": 844})
        await dialog.get_by_label("Name", exact=False).first.fill("x" * 64)
        body = dialog.locator(".dialog-body")
        assert await body.evaluate("(body) => body.scrollWidth <= body.clientWidth")
        await dialog.get_by_label("Name", exact=False).first.fill("Stage One! Zürich")
        await photo(page, "new-channel")
        await dialog.get_by_role("button", name="Use it").click()
        await expect(field).to_have_value("stage-one-zurich")
        await field.fill("S")
        await dialog.get_by_role("button", name="Create", exact=True).click()
        await expect(dialog.get_by_text("Use at least 2 letters, digits or hyphens.")).to_be_visible()
        await field.fill("Stage One!x")
        await expect(field).to_have_value("stage-one-x")
        assert await axe(page) == []
        await dialog.get_by_role("button", name="Create", exact=True).click()
        await page.get_by_role("heading", name="Stage One! Zürich").wait_for()
        assert any(c.get("slug") == "stage-one-x" for c in gateway.api("GET", "/videostream").json())
        assert not watched.complaints


async def test_a_copy_button_copies_the_value_beside_it(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, "Copied")
    async with (
        signed_in(
            browser, gateway, f"#/channels/{channel.id}", permissions=["clipboard-read", "clipboard-write"]
        ) as watched,
    ):
        page = watched.page
        await page.get_by_role("button", name="Copy Stream key").click()
        await page.get_by_text("Copied: Stream key").wait_for()
        assert await page.evaluate("navigator.clipboard.readText()") == channel.item["obsKey"]


async def test_a_copy_without_a_clipboard_leaves_the_focus_where_it_was(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, "Copied by selection")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        await page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        copy = page.get_by_role("button", name="Copy Stream key")
        await copy.click()
        await page.get_by_text("Copied: Stream key").wait_for()
        await expect(copy).to_be_focused()


async def test_a_new_key_replaces_the_old_one_and_keeps_the_expiry(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, "Renewed")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        await page.get_by_role("button", name="New key").click()
        question = page.get_by_role("alertdialog")
        await expect(question).to_contain_text("stops working at once and cannot come back")
        await question.get_by_role("button", name="New key").click()
        await page.get_by_text("There is a new stream key").wait_for()
        old, new = channel.item["key"].split("-"), stored(gateway, channel)["key"].split("-")
        assert (int(new[0]), new[1] != old[1]) == (int(old[0]) + 1, True)
        await page.get_by_role("button", name="Show the key").click()
        await page.get_by_text(f"{channel.id}?sign={'-'.join(new)}", exact=True).first.wait_for()
        await page.reload()  # the browser remembers that keys are shown
        await page.get_by_role("button", name="Hide the key").wait_for()
        assert not watched.complaints


async def test_channels_are_searched_sorted_and_paged(browser: Browser, gateway: Gateway) -> None:
    channels = [named(gateway, f"Paged {n:02}", description="a crowd") for n in range(60)]
    async with signed_in(browser, gateway) as watched:
        page = watched.page
        rows = page.get_by_role("table", name="Channels").locator("tbody tr")
        await page.get_by_label("Search channels").fill("crowd")
        await expect(rows).to_have_count(25)
        await page.get_by_text("1–25 of 60").wait_for()
        await page.get_by_role("button", name="Name").click()
        await expect(rows.first).to_contain_text("Paged 00")
        await page.get_by_role("button", name="Name").click()
        await expect(rows.first).to_contain_text("Paged 59")
        await page.get_by_role("button", name="Next page").click()
        await expect(rows.first).to_contain_text("Paged 34")
        await page.get_by_label("Rows").select_option("100")
        await expect(rows).to_have_count(60)
        await page.get_by_label("Search channels").fill(channels[7].id)
        await expect(rows).to_have_count(1)
        await rows.first.get_by_text("a crowd").click()
        await page.get_by_role("heading", name="Paged 07").wait_for()
        assert not watched.complaints
    for channel in channels:
        gateway.api("DELETE", f"/videostream/{channel.id}")


async def test_the_export_is_a_csv_file_without_formulas(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, '=HYPERLINK("http://example.com","x")', description='says "hi",\nthen leaves')
    async with signed_in(browser, gateway) as watched:
        page = watched.page
        await page.get_by_label("Search channels").fill(channel.id)
        await page.get_by_role("button", name="CSV").click()
        async with page.expect_download() as download:
            await page.get_by_role("menuitem", name="Export the 1 shown").click()
        text = (await (await download.value).path()).read_text(encoding="utf-8-sig")
        [row] = csv.DictReader(io.StringIO(text))
        assert row["id"] == channel.id
        assert row["name"] == "'" + str(channel.item["videoname"])
        assert row["description"] == 'says "hi",\nthen leaves'
        assert row["streamKey"] == channel.item["obsKey"]
        await page.get_by_role("button", name="CSV").click()
        async with page.expect_download() as download:
            await page.get_by_role("menuitem", name=re.compile("Export (all|the)")).first.click()
        everything = (await (await download.value).path()).read_text(encoding="utf-8-sig")
        assert len(list(csv.DictReader(io.StringIO(everything)))) == len(gateway.api("GET", "/videostream").json())
        assert not watched.complaints


async def test_a_script_in_a_channel_is_shown_as_text_everywhere(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, SCRIPT, description=SCRIPT, WaterMarkText=SCRIPT, isWaterMark=True)
    async with signed_in(browser, gateway) as watched:
        page = watched.page
        await page.get_by_role("link", name=SCRIPT).wait_for()
        for path in (f"#/channels/{channel.id}", f"#/channels/{channel.id}/edit"):
            await page.goto(address(gateway, path))
            await page.get_by_role("heading", name=SCRIPT).wait_for()
        await page.goto(address(gateway, f"#/channels/{channel.id}"))
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("alertdialog").get_by_text(SCRIPT).first.wait_for()
        assert await page.evaluate("window.hacked") is None
        assert not watched.complaints
    gateway.api("DELETE", f"/videostream/{channel.id}")


# ---- the editor -------------------------------------------------------------------------------


async def edited(page: Page, gateway: Gateway, channel: Channel) -> None:
    """Opens the editor with all settings. The link's section gets the focus."""
    await page.goto(address(gateway, f"#/channels/{channel.id}/edit?section=basics"))
    await expect(page.locator("[name=videoname]")).to_be_focused()


async def test_only_changed_fields_are_sent(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, "Edited", relayURL=["rtmp://192.0.2.7/live/secret"], unknown="kept", video_time="45")
    async with signed_in(browser, gateway) as watched:
        page = watched.page
        await edited(page, gateway, channel)
        sent: list[dict[str, object]] = []

        def see(request: Request) -> None:
            if request.method == "PUT":
                sent.append(json.loads(request.post_data or ""))

        page.on("request", see)
        await page.get_by_label("Description").fill("a new one")
        await page.get_by_role("switch", name="Snapshots").check()
        await page.get_by_label("Interval between snapshots").fill("15")
        await page.get_by_label("Who may watch").select_option("sign")
        await page.get_by_role("button", name="Add a target").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Service").select_option("custom")
        await dialog.get_by_label("Server").fill("rtmps://192.0.2.8/live/other")
        await dialog.get_by_role("button", name="Add").click()
        await expect(page.get_by_role("switch", name="192.0.2.8")).to_be_checked()
        assert sent == [{"relayURL": [0, "rtmps://192.0.2.8/live/other"], "isRelay": True, "relayOff": [0]}]
        sent.clear()
        await page.get_by_text("4 changes").wait_for()
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text("Everything is saved").wait_for()
        assert sent == [
            {
                "description": "a new one",
                "isImage": True,
                "image_time": 15,
                "playAuth": "sign",
            }
        ]
        now = stored(gateway, channel)
        assert (now["video_time"], now["unknown"], now["key"]) == ("45", "kept", channel.key)
        assert now["relayURL"] == ["rtmp://192.0.2.7/live/********", "rtmps://192.0.2.8/live/********"]
        assert not watched.complaints


async def test_what_is_changed_during_a_save_stays(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, "Edited twice")
    async with signed_in(browser, gateway) as watched:
        page, answered = watched.page, await held_changes(watched.page, channel)
        await edited(page, gateway, channel)
        await page.get_by_label("Description").fill("a new one")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_label("Who may watch").select_option("sign")
        async with page.expect_response(lambda response: response.request.method == "PUT"):
            answered.set()
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text("Everything is saved").wait_for()
        now = stored(gateway, channel)
        assert (now["description"], now["playAuth"]) == ("a new one", "sign")
        assert not watched.complaints


async def test_an_error_of_the_gateway_is_shown_at_its_field(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, "Objected")
    async with signed_in(browser, gateway) as watched:
        page = watched.page
        await edited(page, gateway, channel)
        await page.get_by_label("Segments in a playlist").fill("2.5")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text("Enter a whole number from 1 to 100.").wait_for()
        await expect(page.get_by_label("Segments in a playlist")).to_be_focused()
        await page.get_by_label("Segments in a playlist").fill("8")
        assert not watched.complaints
        await page.get_by_label("Recording hours").fill("whenever")
        async with page.expect_response(lambda reply: reply.request.method == "PUT") as reply:
            await page.get_by_role("button", name="Save").click()
        told = await (await reply.value).json()
        assert told["field"] == "recordSchedule"
        hours = page.get_by_label("Recording hours")
        await expect(hours).to_be_focused()
        await expect(hours).to_have_attribute("aria-invalid", "true")
        await page.get_by_text(told["error"]).wait_for()


async def test_unsaved_changes_need_a_confirmation_before_leaving(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, "Guarded")
    async with signed_in(browser, gateway) as watched:
        page = watched.page
        await edited(page, gateway, channel)
        await page.get_by_label("Description").fill("not saved")
        await page.get_by_role("navigation", name="Main").get_by_role("link", name="Channels").click()
        question = page.get_by_role("alertdialog", name="Leave without saving?")
        await question.get_by_role("button", name="Stay here").click()
        await expect(page.get_by_label("Description")).to_have_value("not saved")
        assert page.url.endswith("/edit?section=basics")
        await page.get_by_role("navigation", name="Main").get_by_role("link", name="Channels").click()
        await question.get_by_role("button", name="Leave").click()
        await page.get_by_role("button", name="New channel").wait_for()
        assert not watched.complaints


async def test_the_watermark_can_be_placed_with_mouse_and_keyboard(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, "Marked", isWaterMark=True, WaterMarkText="Live", WaterMarkLeft="10", WaterMarkTop="10")
    async with signed_in(browser, gateway) as watched:
        page = watched.page
        await edited(page, gateway, channel)
        mark = page.get_by_role("group", name=re.compile("^Watermark at"))
        await mark.scroll_into_view_if_needed()
        box = await mark.bounding_box()
        stage = await page.locator(".watermark-stage").bounding_box()
        assert box is not None and stage is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        await page.mouse.move(x, y)
        await page.mouse.down()
        await page.mouse.move(x + stage["width"] / 2, y + stage["height"] / 4, steps=4)
        await page.mouse.up()
        # The frame stands for 1280 × 720.
        assert abs(int(await page.get_by_label("From the left").input_value()) - (10 + 640)) <= 1
        assert abs(int(await page.get_by_label("From the top").input_value()) - (10 + 180)) <= 1
        await mark.press("ArrowRight")
        await mark.press("Shift+ArrowUp")
        left, top = (
            await page.get_by_label("From the left").input_value(),
            await page.get_by_label("From the top").input_value(),
        )
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text("Everything is saved").wait_for()
        now = stored(gateway, channel)
        assert (now["WaterMarkLeft"], now["WaterMarkTop"]) == (int(left), int(top))
        await page.get_by_role("button", name="Bottom right").click()
        assert int(await page.get_by_label("From the left").input_value()) > 1000
        assert not watched.complaints


# ---- live -------------------------------------------------------------------------------------


async def live(channel: Channel) -> None:
    await asyncio.to_thread(channel.wait_live)


async def test_the_preview_shows_a_break_of_the_broadcaster_and_continues(browser: Browser) -> None:
    with running(MILLRACE_STREAM__LINGER="60") as patient:
        channel = named(patient, "Broken")
        async with signed_in(browser, patient, f"#/channels/{channel.id}") as watched:
            page = watched.page
            with push(SMALL, channel.push, loop=True):
                await live(channel)
                await page.get_by_role("button", name="Preview").click()
                await watched.plays()
            await page.get_by_text("The broadcaster's connection broke, waiting").wait_for()
            with push(SMALL, channel.push, loop=True):
                await page.locator("#preview-stage[data-state=playing]").wait_for(state="attached")
                await watched.plays()
            assert not watched.complaints


async def test_a_live_channel_can_be_watched_in_every_format(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, "Watched", isCodec=False)
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        await page.get_by_role("button", name="Preview").click()
        await page.get_by_text("Not live. Playback starts automatically.").wait_for()
        with push(SMALL, channel.push, loop=True):
            await live(channel)
            for tab in ("HTTP-FLV", "HLS", "LL-HLS", "DASH"):
                await page.get_by_role("tab", name=tab, exact=True).click()
                await watched.plays()
            await page.get_by_text("H.264").wait_for()
            await page.get_by_role("button", name="Stop preview").click()
            await expect(page.locator("video")).to_have_count(0)
            picture = page.get_by_role("button", name="Play what is on air")
            await page.wait_for_function("() => document.querySelector('.on-air img')?.naturalWidth > 0")
            assert not await axe(page)
            await picture.click()
            await watched.plays()
            await page.goto(address(gateway, "#/channels"))
            row = page.get_by_role("row", name=re.compile("Watched"))
            await row.get_by_text("Live", exact=True).wait_for()
            await row.get_by_text("bit/s").wait_for()
        assert not watched.complaints


async def test_the_record_switch_applies_to_the_current_and_later_pushes(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, "Recorded", video_time="2")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        record = page.get_by_role("switch", name="Record", exact=True)
        with push(SMALL, channel.push, loop=True):
            await live(channel)
            await page.get_by_text("Changes take effect at once").wait_for()
            await record.check()
            await page.get_by_text(re.compile(r"[1-9]\d* files?, ")).wait_for(timeout=at_most(20_000))
            assert stored(gateway, channel)["isVideo"] is True
            # Somebody switches it off for this push alone: the console says so, and its switch still wins.
            gateway.api("POST", f"/videostream/{channel.id}/outputs/video", {"enabled": False})
            await page.get_by_text("this push only").wait_for()
            await expect(record).not_to_be_checked()
            await record.check()
            await expect(page.get_by_text("this push only")).to_have_count(0)
            [output] = [o for o in channel.session()["outputs"] if o["name"] == "video"]
            assert output["enabled"]
            await record.uncheck()
            await page.get_by_text("Record is off").wait_for()
            assert stored(gateway, channel)["isVideo"] is False
        assert not watched.complaints


async def test_a_push_can_be_kicked_and_its_channel_deleted_without_console_errors(
    browser: Browser, gateway: Gateway
) -> None:
    channel = named(gateway, "Removed")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        with push(SMALL, channel.push, loop=True) as first:
            await live(channel)
            await page.get_by_role("button", name="Preview").click()
            await watched.plays()
            await page.get_by_role("button", name="End push").click()
            await page.get_by_role("alertdialog").get_by_role("button", name="End the push").click()
            await page.get_by_text("Ended: Removed").wait_for()
            await asyncio.to_thread(first.wait)
        with push(SMALL, channel.push, loop=True):
            await live(channel)
            await page.get_by_role("button", name="Preview").click()
            await watched.plays()
            await page.get_by_role("button", name="Delete").click()
            question = page.get_by_role("alertdialog", name="Delete “Removed”?")
            await question.get_by_role("button", name="Cancel").click()
            assert stored(gateway, channel)["id"] == channel.id
            await expect(page.get_by_role("button", name="Delete")).to_be_focused()
            await page.get_by_role("button", name="Delete").click()
            # A deletion ends the push: a misclick and Enter do not delete it.
            await expect(question).to_contain_text("the push ends and all viewers are disconnected at once")
            await expect(question).to_contain_text("It can be restored from the bin for 24 hours")
            await page.keyboard.press("Enter")
            await expect(question).to_have_count(0)
            assert stored(gateway, channel)["id"] == channel.id
            await page.get_by_role("button", name="Delete").click()
            assert await axe(page) == []
            await photo(page, "delete")
            await question.get_by_role("button", name="Delete channel").click()
            await page.get_by_text("Deleted: Removed").wait_for()
            await page.get_by_role("button", name="New channel").wait_for()
        assert gateway.api("GET", f"/videostream/{channel.id}").status == 404
        await expect(page.get_by_role("link", name="Removed")).to_have_count(0)
        assert not watched.complaints


async def test_the_editor_has_every_field_in_the_section_of_its_group(browser: Browser, gateway: Gateway) -> None:
    # A list without entries has no controls.
    channel = named(gateway, "every field", relayURL="rtmp://a.example/live/key", captions=[{"source": "text"}])
    async with signed_in(browser, gateway, f"#/channels/{channel.id}/edit?section=basics") as watched:
        await watched.page.get_by_role("button", name="Save").wait_for()
        found = await watched.page.evaluate(
            """() => Object.fromEntries([...document.querySelectorAll("form.editor section")].map((section) =>
              [section.id.replace("section-", ""), [...section.querySelectorAll("[name]")].map((one) => one.name)]))"""
        )
        wanted: dict[str, list[str]] = {}
        for field in gateway.api("GET", "/fields").json():
            if field["used"]:  # the others are shown only if the channel has a value in them
                wanted.setdefault(field["group"], []).append(field["name"])
        wanted["basics"].append("outdate")
        wanted["basics"].remove("poster")  # a picture: it is changed on the channel's page
        wanted["relay"] = ["relayTracks"]  # the targets have switches, not fields
        assert list(found) == list(wanted)
        assert {group: sorted(names) for group, names in found.items()} == {g: sorted(n) for g, n in wanted.items()}
        assert not watched.complaints


async def test_the_watermark_switch_asks_for_a_missing_text(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, "Marked")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        switch, dialog = page.get_by_role("switch", name="Watermark"), page.get_by_role("dialog")
        await switch.click()
        await dialog.get_by_role("button", name="Switch on").click()
        await dialog.get_by_text("Enter a text.").wait_for()
        await dialog.get_by_label("Text").fill("© Millrace")
        await dialog.get_by_role("button", name="Switch on").click()
        await expect(dialog).to_have_count(0)
        await expect(switch).to_be_checked()
        item = stored(gateway, channel)
        assert (item["isWaterMark"], item["WaterMarkText"]) == (True, "© Millrace")
        assert not watched.complaints


# ---- everybody can use it ---------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", *at_night("dark")])
async def test_axe_finds_no_serious_problem(browser: Browser, gateway: Gateway, scheme: str) -> None:
    channel = named(gateway, "Accessible", description="with words", isVideo=True, isRelay=True, outdate="2020-01-01")
    async with opened(
        browser, address(gateway), locale="en-US", viewport=WIDE, color_scheme=scheme, bypass_csp=True
    ) as watched:
        page = watched.page
        await page.get_by_label("Token or password").wait_for()
        assert await axe(page) == []
        await log_in(page, gateway.token)
        await page.get_by_role("link", name="Accessible").first.wait_for()
        assert await axe(page) == []
        await page.get_by_role("button", name="New channel").click()
        await page.get_by_role("dialog").wait_for()
        assert await axe(page) == []
        await page.keyboard.press("Escape")
        for path in ("", "/edit"):
            await page.goto(address(gateway, f"#/channels/{channel.id}{path}"))
            await page.get_by_role("heading", name="Accessible", exact=False).first.wait_for()
            assert await axe(page) == []
    gateway.api("DELETE", f"/videostream/{channel.id}")


async def test_the_console_can_be_used_with_only_the_keyboard(browser: Browser, gateway: Gateway) -> None:
    async with signed_in(browser, gateway) as watched:
        page = watched.page
        new = page.get_by_role("button", name="New channel")
        await new.focus()
        await page.keyboard.press("Enter")
        await page.get_by_role("dialog", name="New channel").wait_for()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await expect(new).to_be_focused()
        await page.keyboard.press("/")
        await expect(page.get_by_label("Search channels")).to_be_focused()
        await new.focus()
        await page.keyboard.press("Enter")
        await page.keyboard.type("By keys")
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="By keys").wait_for()
        await expect(page.get_by_role("heading", name="By keys")).to_be_focused()
        # Tabs of the preview move with the arrows.
        await page.get_by_role("button", name="Preview").press("Enter")
        tabs = page.get_by_role("tab")
        await tabs.first.press("ArrowRight")
        await expect(tabs.nth(1)).to_be_focused()
        await expect(tabs.nth(1)).to_have_attribute("aria-selected", "true")
        # A menu opens with an arrow and gives the focus back.
        theme = page.get_by_role("button", name="System theme")
        await theme.press("ArrowDown")
        items = page.get_by_role("menu").locator("[role^=menuitem]")
        await expect(items.first).to_be_focused()
        await page.keyboard.press("End")
        await expect(items.last).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        assert not watched.complaints


async def test_the_console_uses_the_browsers_language_until_it_is_changed(browser: Browser, gateway: Gateway) -> None:
    async with opened(browser, address(gateway), locale="zh-CN", viewport=WIDE) as watched:
        page = watched.page
        await page.get_by_label("令牌或密码").fill(gateway.token)
        await page.get_by_role("button", name="登录", exact=True).click()
        await page.get_by_role("heading", name="频道").wait_for()
        await expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
        await page.get_by_role("button", name="中文").click()
        async with page.expect_response(lambda reply: reply.request.method == "PUT" and reply.url.endswith("/profile")):
            await page.get_by_role("menuitemradio", name="English").click()
        await page.get_by_role("heading", name="Channels", exact=True).wait_for()
        await page.reload()
        await page.get_by_role("heading", name="Channels", exact=True).wait_for()
        assert not watched.complaints
    async with opened(browser, address(gateway), locale="zh-CN", viewport=WIDE) as watched:
        # Another browser: the choice came along.
        await watched.page.get_by_label("令牌或密码").fill(gateway.token)
        await watched.page.get_by_role("button", name="登录", exact=True).click()
        await watched.page.get_by_role("heading", name="Channels", exact=True).wait_for()
    gateway.api("PUT", "/profile", {})


async def test_a_view_that_loads_late_keeps_its_own_address(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, "Late")
    async with signed_in(browser, gateway) as watched:
        page = watched.page
        asked = asyncio.Event()
        left = asyncio.Event()

        async def hold(route: Route) -> None:
            asked.set()
            await left.wait()
            await route.continue_()

        await page.route("**/views/channel.js", hold)
        await page.expose_function("away", left.set)
        # The unlucky order of a busy machine: nothing is drawn until the late view stands there, and then at once.
        await page.evaluate(
            """id => {
                const waiting = [];
                const soon = setTimeout;
                const draw = () => { while (waiting.length) waiting.shift()(); };
                requestAnimationFrame = (then) => waiting.push(then);
                setTimeout = (then, ms, ...rest) => soon(then, ms < 100 ? 1000 : ms, ...rest);
                new MutationObserver(draw).observe(document.getElementById("main"), { childList: true, subtree: true });
                addEventListener("hashchange", () => { if (location.hash === "#/channels") away(); else draw(); });
                location.hash = `#/channels/${id}`;
            }""",
            channel.id,
        )
        await asked.wait()
        await page.evaluate("location.hash = '#/channels'")
        await page.get_by_role("button", name="New channel").wait_for()
        await page.evaluate("new Promise(done => setTimeout(done, 1500))")
        assert not watched.complaints
    gateway.api("DELETE", f"/videostream/{channel.id}")


@pytest.mark.parametrize("width", [360, 768])
async def test_narrow_screens_need_no_horizontal_scrolling(browser: Browser, gateway: Gateway, width: int) -> None:
    channel = named(gateway, "A channel with a rather long name that has to be broken somewhere", description="x" * 300)
    screen = {"width": width, "height": 780}
    async with opened(browser, address(gateway), viewport=screen, locale="en-US") as watched:
        page = watched.page
        await page.get_by_label("Token or password").fill(gateway.token)
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("button", name="Menu").wait_for()
        views = {
            "#/channels": "New channel",
            f"#/channels/{channel.id}": "Delete",
            f"#/channels/{channel.id}/edit": "Save",
        }
        for path, button in views.items():
            await page.goto(address(gateway, path))
            await page.get_by_role("button", name=button).wait_for()
            assert await page.evaluate("document.documentElement.scrollWidth") <= width, path
        await page.get_by_role("button", name="Menu").click()
        await page.get_by_role("dialog").get_by_role("link", name="Channels").click()
        await page.get_by_role("button", name="New channel").wait_for()
        assert not watched.complaints
    gateway.api("DELETE", f"/videostream/{channel.id}")


async def test_scripts_and_styles_of_the_console_stay_small(browser: Browser, gateway: Gateway) -> None:
    channel = named(gateway, "Weighed")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}/edit") as watched:
        page = watched.page
        await page.get_by_role("button", name="Save").wait_for()
        loaded = await page.evaluate(
            """() => performance.getEntriesByType("resource").map((one) => [one.name, one.decodedBodySize])"""
        )
        sizes = {name: size for name, size in loaded if re.search(r"/console/(?!vendor).*\.(js|css)$", name)}
        assert any(name.endswith("/app/views/edit.js") for name in sizes)
        assert 0 < sum(sizes.values()) < 282_000, sizes
        # Players come when somebody previews, and not before.
        assert not any("engine" in name for name in sizes)


# ---- the date of the key ----------------------------------------------------------------------


async def test_the_date_of_a_key_is_shown_before_it_comes_and_may_be_never(browser: Browser, gateway: Gateway) -> None:
    soon = (datetime.now(UTC) + timedelta(days=3, hours=1)).isoformat(timespec="seconds")
    channel = named(gateway, "Ends this week", outdate=soon)
    async with signed_in(browser, gateway, timezone_id="UTC") as watched:
        page = watched.page
        row = page.get_by_role("row", name=re.compile("Ends this week"))
        await expect(row.locator(".sub.is-warn")).to_have_text("in 3 days")
        await row.get_by_role("link", name="Ends this week").click()
        notice = page.get_by_text("The stream key expires in 3 days")
        await notice.wait_for()
        with push(SMALL, channel.push, loop=True):
            await page.get_by_text("The stream key is refused after").wait_for()
        await page.get_by_role("link", name="Set a new expiry").click()
        await page.get_by_role("switch", name="Never expires").check()
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text(re.compile("^Saved")).first.wait_for()
        assert stored(gateway, channel)["outdate"] == "9999-12-31"
        await page.goto(address(gateway, f"#/channels/{channel.id}"))
        await expect(page.locator(".is-about dd").first).to_have_text("never")
        await expect(notice).to_have_count(0)
        await page.goto(address(gateway, "#/channels"))
        await expect(page.get_by_role("row", name=re.compile("Ends this week")).get_by_text("never")).to_be_visible()
        await page.get_by_role("button", name="New channel").click()
        proposed = await page.get_by_label("Expiry", exact=False).input_value()
        assert 364 <= (datetime.fromisoformat(proposed) - datetime.now()).days <= 366
        await page.get_by_label("Name").fill("For ever")
        await page.get_by_role("switch", name="Never expires").check()
        await page.get_by_role("button", name="Create", exact=True).click()
        await page.get_by_role("heading", name="For ever").wait_for()
        [item] = [c for c in gateway.api("GET", "/videostream").json() if c.get("videoname") == "For ever"]
        assert item["outdate"] == "9999-12-31"
        assert await axe(page) == []
        assert not watched.complaints
