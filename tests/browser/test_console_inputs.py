"""The inputs of a channel in the console: pictures, the one on air, taking one by hand, order, adding and removing."""

import asyncio
import re
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.support.browser import axe
from tests.support.clients import Program
from tests.support.console import WIDE, address, held_changes, signed_in
from tests.support.gateway import Channel, Gateway
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

# The colour in the middle of a picture, 0 to 255 each.
_MIDDLE = """async (image) => {
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0);
  return [...pen.getImageData(canvas.width >> 1, canvas.height >> 1, 1, 1).data].slice(0, 3);
}"""
PICTURE = bytes.fromhex(  # a PNG of one pixel
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100c9fe92ef"
    "0000000049454e44ae426082"
)


gateway = shared_gateway("chromium", "ffmpeg", MILLRACE_STREAM__LINGER="2")


def push(color: str, url: str) -> Program:
    picture = ("-f", "lavfi", "-i", f"color={color}:s=640x360:r=15", "-g", "15")
    sound = ("-f", "lavfi", "-i", "sine=440:r=44100")
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-c:a", "aac")
    return Program(["ffmpeg", "-v", "error", "-re", *picture[:4], *sound, *codecs, *picture[4:], "-f", "flv", url])


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("listitem", name=name, exact=True)


async def color(page: Page, name: str) -> list[int]:
    image = page.get_by_role("img", name=f"Picture of {name}", exact=True)
    await expect(image).to_be_visible()
    return list(await image.evaluate(_MIDDLE))


async def order(page: Page) -> list[str]:
    rows = page.get_by_role("list", name="Inputs").get_by_role("listitem")
    return [str(await one.get_attribute("aria-label")) for one in await rows.all()]


def stored(gateway: Gateway, channel: Channel) -> list[dict[str, Any]]:
    return list(gateway.api("GET", f"/videostream/{channel.id}/inputs").json())


async def test_inputs_can_be_added_previewed_taken_ordered_and_removed(
    browser: Browser, gateway: Gateway, tmp_path: Any
) -> None:
    channel = gateway.channel(videoname="Harbour view")
    with push("red", channel.push):
        channel.wait_live()
        async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
            page = watched.page
            # One push: a sentence and the ways to add another.
            await page.get_by_role("heading", name="Inputs").wait_for()
            await expect(page.get_by_role("list", name="Inputs")).to_have_count(0)
            await page.get_by_role("button", name="Add backup").click()
            dialog = page.get_by_role("dialog")
            await dialog.get_by_label("Name").fill("the van")
            await dialog.get_by_role("button", name="Add", exact=True).click()
            await expect(dialog.get_by_label("Name")).to_have_attribute("aria-invalid", "true")
            await expect(dialog.get_by_text("the name of an input has")).to_be_visible()
            watched.complaints.clear()  # the browser reports the refusal
            await dialog.get_by_label("Name").fill("van")
            await dialog.get_by_role("button", name="Add", exact=True).click()
            await expect(row(page, "main").get_by_text("On air")).to_be_visible()
            await expect(row(page, "van").get_by_text("Off", exact=True)).to_be_visible()
            await expect(page.get_by_role("button", name="Take van")).to_be_disabled()

            # The key of the backup is hidden until it is wanted.
            item = stored(gateway, channel)[1]
            await expect(page.get_by_text(item["key"])).to_have_count(0)
            await page.get_by_role("button", name="Show the push address of van").click()
            await expect(page.get_by_text(item["pushUrl"], exact=True)).to_be_visible()
            await page.get_by_role("button", name="QR code of RTMP URL of van").click()
            await expect(page.get_by_role("dialog").get_by_role("img")).to_be_visible()
            await page.get_by_role("button", name="Close").click()
            with push("blue", item["pushUrl"]):
                await expect(row(page, "van").get_by_text("Ready")).to_be_visible()
                red, blue = await color(page, "main"), await color(page, "van")
                assert red[0] > 150 > red[2] and blue[2] > 150 > blue[0], (red, blue)

                await page.get_by_role("button", name="Take van").click()
                await expect(row(page, "van").get_by_text("On air")).to_be_visible()
                await expect(row(page, "van").get_by_text("By hand")).to_be_visible()
                assert channel.session()["input"] == "van"
                await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # back from another tab
                await expect(page.get_by_text("main → van · by hand")).to_be_visible()
                assert await axe(page) == []
                await page.goto(address(gateway, "#/live"))
                card = page.get_by_role("article", name="Harbour view")
                await expect(card.get_by_text("van", exact=True)).to_be_visible()
                await page.goto(address(gateway, f"#/channels/{channel.id}"))
                await page.get_by_role("button", name="Automatic").click()
                await expect(row(page, "main").get_by_text("On air")).to_be_visible()

                # The order decides; the keyboard changes it.
                up = page.get_by_role("button", name="Move van up")
                await up.focus()
                await page.keyboard.press("Enter")
                await expect(row(page, "van").get_by_text("On air")).to_be_visible()
                assert await order(page) == ["van", "main"]
                await expect(up).to_be_focused()
                await page.get_by_role("switch", name="Return to a better input only by hand").check()
                await expect(page.get_by_role("switch", name="Return to a better input only by hand")).to_be_checked()

                await page.get_by_role("button", name="Add input").click()
                await page.get_by_role("menuitem", name="Add slate").click()
                picture = tmp_path / "back soon.png"
                picture.write_bytes(PICTURE)
                await dialog.get_by_label("Upload a picture or video").first.set_input_files(picture)
                await expect(dialog.get_by_label("Picture or video", exact=True)).to_have_value(re.compile(r"\.png$"))
                await dialog.get_by_role("switch", name="On air without a push too").check()
                await dialog.get_by_role("button", name="Add", exact=True).click()
                await expect(row(page, "slate")).to_be_visible()
                slate = stored(gateway, channel)[2]
                assert (slate["kind"], slate["always"]) == ("slate", True)
                key = slate["picture"]
                assert re.fullmatch(r"[0-9a-f-]{36}\.png", key)
                # Off air, its picture is the one that would be shown.
                await expect(row(page, "slate").get_by_text("Ready")).to_be_visible()
                async with asyncio.timeout(at_most(30)):
                    while (await color(page, "slate"))[0] < 150:  # the card comes first
                        await asyncio.sleep(0.5)

                # Videos that begin at a time of day have a time zone.
                await page.get_by_role("button", name="Add input").click()
                await page.get_by_role("menuitem", name="Add playlist").click()
                await dialog.get_by_text("Edit as a text").click()
                await dialog.get_by_label("Videos", exact=True).fill("night.mp4")
                await expect(dialog.get_by_label("Time zone")).to_have_count(0)
                await dialog.get_by_label("Videos", exact=True).fill("night.mp4\nnews.mp4@25:00")
                await dialog.get_by_label("Time zone").select_option("Europe/Berlin")
                await dialog.get_by_role("button", name="Add", exact=True).click()
                await expect(dialog.get_by_text("25:00 is no time of day")).to_be_visible()
                watched.complaints.clear()  # the browser reports the refusal
                # By name: the order, and the time of day.
                items = dialog.get_by_role("list", name="Order of playing").get_by_role("listitem")
                await dialog.get_by_role("button", name="Move news.mp4 up").click()
                await expect(items.first).to_contain_text("news.mp4")
                time = dialog.get_by_label("Time of day at which news.mp4 begins")
                await time.fill("20:00")
                await time.press_sequentially("0830PM")
                await expect(time).to_have_value("20:30")
                await expect(time).to_be_focused()
                await dialog.get_by_role("button", name="Move news.mp4 down").press("Enter")
                await expect(items.last).to_contain_text("news.mp4")
                await expect(dialog.get_by_role("button", name="Move news.mp4 up")).to_be_focused()
                assert await axe(page) == []
                await dialog.get_by_role("button", name="Add", exact=True).click()
                await expect(row(page, "playlist").get_by_text("by the time of day, Europe/Berlin")).to_be_visible()
                watched.complaints.clear()

                # The removal of the input on air says what follows.
                await page.get_by_role("button", name="Remove the input van").click()
                question = page.get_by_role("alertdialog")
                await expect(question.get_by_text("It is on air now.")).to_be_visible()
                await question.get_by_role("button", name="Remove").click()
                await expect(row(page, "van")).to_have_count(0)
                await expect(row(page, "main").get_by_text("On air")).to_be_visible()
                # The picture of the input may have been requested while it was removed.
                assert [text for text in watched.complaints if "/inputs/van/preview" not in text] == []
    assert gateway.api("GET", f"/videostream/{channel.id}").json()["inputsManual"] is True


@pytest.mark.parametrize("label", ["Return to a better input only by hand", "On the home page"])
async def test_a_switch_keeps_its_new_state_until_the_gateway_reports_it(
    browser: Browser, gateway: Gateway, label: str
) -> None:
    channel = gateway.channel(videoname="Two cameras")
    inputs = [{"kind": "push"}, {"kind": "backup", "name": "van"}]
    assert gateway.api("PUT", f"/videostream/{channel.id}/inputs", inputs).status == 200
    async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
        page, answered = watched.page, await held_changes(watched.page, channel)
        switch = page.get_by_role("switch", name=label)
        await switch.click()
        for _ in range(2):  # a request that began before the click may be answered first
            async with page.expect_response(lambda reply: reply.url.endswith(f"/videostream/{channel.id}")):
                await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert await switch.is_checked()
        async with page.expect_response(lambda reply: reply.request.method == "PUT"):
            answered.set()
        await expect(switch).not_to_have_attribute("aria-busy", "true")
        assert await switch.is_checked()
        await page.reload()
        await expect(switch).to_be_checked()
        assert watched.complaints == []


async def test_previews_are_requested_only_while_they_are_visible(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="Pier")
    inputs = [{"kind": "push"}, {"kind": "backup", "name": "van"}]
    assert gateway.api("PUT", f"/videostream/{channel.id}/inputs", inputs).status == 200
    with push("green", channel.push):
        channel.wait_live()
        async with signed_in(browser, gateway, f"#/channels/{channel.id}", viewport={**WIDE, "height": 300}) as watched:
            page, requested = watched.page, list[str]()
            page.on("request", lambda request: requested.append(request.url) if "/preview?" in request.url else None)
            await page.get_by_role("heading", name="Inputs").wait_for()
            async with page.expect_response(lambda reply: reply.url.endswith("/inputs")):
                pass
            assert requested == []
            await row(page, "main").scroll_into_view_if_needed()
            async with asyncio.timeout(at_most(15)):
                while len(requested) < 3:
                    await page.wait_for_event("request")
            assert all("/main/preview" in url for url in requested), "the backup delivers nothing"
            assert watched.complaints == []
