"""Recordings in the console: grouped by show, selected, deleted together, and restored from the bin."""

from __future__ import annotations

import os
import re
import time

from playwright.async_api import Browser, expect

from gateway.ports import media_keys
from tests.support.browser import axe
from tests.support.console import signed_in
from tests.support.gateway import Gateway
from tests.support.shared_gateway import shared_gateway
from tests.unit.formats.mp4.test_finish import finished, recording

gateway = shared_gateway("chromium")

SHOW_SECONDS = 3.0
PLAY = re.compile("^Play: Video, Extras")


def recorded_show(gateway: Gateway, id: str, files: int, ago: float) -> None:
    """Stores the files of one show, without gaps. ago: seconds since its start."""
    movie, _ = finished(b"".join(recording()))
    for number in range(files):
        start = time.time() - ago + number * SHOW_SECONDS
        path = gateway.data / "media" / media_keys.video_key(id, round(start * 1000))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(movie)
        os.utime(path, (start, start))


async def test_a_deleted_channel_comes_back_by_undo_and_from_the_bin(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="Missed", slug="missed", inputs=[{"name": "spare", "kind": "backup"}])
    before = gateway.api("GET", f"/videostream/{channel.id}").json()
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        for undo in (True, False):
            await page.get_by_role("button", name="Delete").click()
            question = page.get_by_role("alertdialog", name="Delete “Missed”?")
            await question.get_by_role("button", name="Delete channel").click()
            await page.get_by_text("Deleted: Missed").wait_for()
            if undo:
                await page.get_by_role("button", name="Undo").click()
            else:
                await page.evaluate("location.hash = '#/recordings/bin'")
                row = page.get_by_role("row", name=re.compile("Missed.*Channel"))
                await expect(row).to_be_visible()
                assert before["key"] not in await page.content()
                assert not await axe(page)
                await row.get_by_role("button", name="Restore").click()
                await expect(row).to_have_count(0)
                await page.evaluate("location.hash = '#/channels'")
            await page.get_by_role("link", name="Missed").click()
            assert gateway.api("GET", f"/videostream/{channel.id}").json() == before
        assert not watched.complaints


async def test_the_files_of_a_show_are_one_card_and_come_back_after_a_deletion(
    browser: Browser, gateway: Gateway
) -> None:
    channel = gateway.channel(videoname="Extras")
    recorded_show(gateway, channel.id, 3, 3600)
    recorded_show(gateway, channel.id, 1, 3 * 86_400)
    async with signed_in(browser, gateway, "#/recordings") as watched:
        page = watched.page
        cards, folded = page.get_by_role("button", name=PLAY), page.get_by_text("3 files of one show")
        await expect(cards).to_have_count(2)
        await expect(folded).to_be_visible()
        assert not await axe(page)
        await page.get_by_role("button", name="Show all 3 files").click()
        await expect(cards).to_have_count(4)
        await page.get_by_role("button", name="Show fewer").click()

        # The whole show is selected by its card.
        await page.get_by_role("button", name="Select", exact=True).click()
        await page.get_by_role("checkbox").first.check()
        await expect(page.get_by_text("3 selected")).to_be_visible()
        assert not await axe(page)
        await page.get_by_role("button", name="Delete", exact=True).click()
        question = page.get_by_role("alertdialog", name="Delete 3 recordings?")
        await question.get_by_role("button", name="Delete").click()
        await expect(cards).to_have_count(1)
        await page.get_by_role("status").filter(has_text="3 recordings are deleted.").wait_for()
        await page.get_by_role("button", name="Undo").click()
        await expect(folded).to_be_visible()

        # Only older ones: the show of an hour ago is not there.
        before = time.strftime("%Y-%m-%d", time.localtime(time.time() - 2 * 86_400))
        await page.get_by_label("Up to the day").fill(before)
        await expect(cards).to_have_count(1)
        await cards.click()
        viewer = page.get_by_role("dialog", name="Extras")
        await viewer.get_by_role("button", name="Delete").click()
        await page.get_by_role("alertdialog").get_by_role("button", name="Delete").click()
        await expect(cards).to_have_count(0)

        await page.get_by_role("link", name="Bin").click()
        row = page.get_by_role("row").filter(has_text="Extras")
        await expect(row).to_contain_text("in 23 hours")
        assert not await axe(page)
        await page.get_by_role("button", name="Restore: Extras").click()
        await expect(page.get_by_role("heading", name="The bin is empty")).to_be_visible()
        await page.get_by_role("link", name="Recordings").first.click()
        await expect(cards).to_have_count(2)
        assert not watched.complaints


async def test_a_playlist_takes_a_show_as_a_whole(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="Matinee")
    recorded_show(gateway, channel.id, 3, 3600)
    recorded_show(gateway, channel.id, 1, 3 * 86_400)
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        await page.get_by_role("button", name="Add playlist").click()
        dialog = page.get_by_role("dialog")
        choice = dialog.get_by_label("Add a video or recording")
        await expect(choice.locator("option")).to_have_text(
            [re.compile("Choose"), re.compile(r"^Matinee, .+ · 9 sec, 3 files$"), re.compile(r"^Matinee, .+ · 3 sec$")]
        )
        await choice.select_option(index=1)
        order = dialog.get_by_role("list", name="Order of playing").get_by_role("listitem")
        await expect(order).to_have_text([re.compile("^Recording: ")] * 3)
        if folder := os.environ.get("SCREENSHOTS"):
            await page.screenshot(path=f"{folder}/playlist.png")
        assert not await axe(page)
        await dialog.get_by_role("button", name="Add", exact=True).click()
        await expect(dialog).to_have_count(0)
        items = gateway.api("GET", f"/videostream/{channel.id}/inputs").json()[1]["items"]
        assert len(items) == 3 and items == sorted(items)
        assert not watched.complaints


async def test_the_bin_fits_on_a_phone(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="A show with quite a long name that somebody gave it")
    recorded_show(gateway, channel.id, 1, 600)
    (found,) = gateway.api("GET", f"/videostream/{channel.id}/recordings").json()
    gateway.api("DELETE", f"/videostream/{channel.id}/recordings/{found['key'].partition('/')[2]}")
    async with signed_in(browser, gateway, "#/recordings/bin") as watched:
        page = watched.page
        await page.set_viewport_size({"width": 390, "height": 844})
        await page.get_by_role("button", name=re.compile("^Restore: A show")).wait_for()
        assert not await axe(page)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await page.get_by_role("button", name="Empty the bin").click()
        await page.get_by_role("alertdialog").get_by_role("button", name="Empty the bin").click()
        await expect(page.get_by_role("heading", name="The bin is empty")).to_be_visible()
        assert gateway.api("GET", "/bin").json() == []
