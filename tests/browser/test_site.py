"""The operator's look, a channel's face and address, the account of a user: in Chromium, with both themes."""

import asyncio
import io
import re
import time

import pytest
from PIL import Image, ImageDraw
from playwright.async_api import Browser, Page, expect

from gateway.lib.totp import STEP, code_at
from tests.support.at_night import at_night
from tests.support.browser import axe, opened
from tests.support.clients import push
from tests.support.console import WIDE, address, signed_in
from tests.support.gateway import Gateway
from tests.support.media import SMALL
from tests.support.shared_gateway import shared_gateway

NARROW = {"width": 390, "height": 844}
PASSWORD = "a long password"
TEXT = "Concerts every Friday.\nMore at https://example.com/tickets. <script>alert(1)</script>"

gateway = shared_gateway("chromium", "ffmpeg", AWS_REGION="")


def picture(size: tuple[int, int], color: str, mode: str = "RGB") -> dict[str, object]:
    image = Image.new(mode, size, color)
    ImageDraw.Draw(image).ellipse((4, 4, size[1] - 4, size[1] - 4), fill="white")
    out = io.BytesIO()
    image.save(out, "PNG")
    return {"name": "picture.png", "mimeType": "image/png", "buffer": out.getvalue()}


async def choose(page: Page, group: str, file: dict[str, object]) -> None:
    field = page.get_by_role("group", name=group)
    async with page.expect_file_chooser() as chooser:
        await field.get_by_role("button", name=re.compile("Choose|Replace")).click()
    await (await chooser.value).set_files([file])  # type: ignore[list-item]
    await expect(field.get_by_role("img")).to_be_visible()


async def test_an_operator_gives_the_pages_a_look(browser: Browser, gateway: Gateway) -> None:
    async with signed_in(browser, gateway, "#/site") as watched:
        page = watched.page
        await page.get_by_role("textbox", name="Title").fill("Studio Süd")
        await page.get_by_label("Accent colour", exact=True).fill("#ffd400")
        await page.get_by_label("Text", exact=True).fill(TEXT)
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("The pages show it within ten seconds.")).to_be_visible()
        await choose(page, "Logo", picture((240, 60), "#8000ff", "RGBA"))
        assert await axe(page) == []
        await page.goto(address(gateway, "#/channels"))
        await page.get_by_role("button", name="New channel").first.click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label(re.compile("^Name")).fill("Main stage")
        await dialog.get_by_label("Address (optional)").fill("vod")
        await dialog.get_by_role("switch", name="On the home page").click()
        await dialog.get_by_role("button", name="Create").click()
        await expect(dialog.get_by_text("addresses that begin with vod are in use")).to_be_visible()
        await dialog.get_by_label("Address (optional)").fill("main-stage")
        assert await axe(page) == []
        await dialog.get_by_role("button", name="Create").click()
        await expect(page.get_by_role("heading", name="Main stage")).to_be_visible()
        await expect(page.locator("code").filter(has_text=re.compile("/main-stage/")).first).to_be_visible()
        await choose(page, "Poster", picture((640, 360), "#7a0026"))
        await page.get_by_role("button", name="Change title").click()
        await page.get_by_role("dialog").get_by_label("Description").fill("Live from the hall")
        await page.get_by_role("dialog").get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Title and description are saved.")).to_be_visible()
        assert await axe(page) == []
        assert [said for said in watched.complaints if "400" not in said] == []  # the reserved slug was refused

    base = f"http://127.0.0.1:{gateway.ports['http']}"
    channel = next(c for c in gateway.api("GET", "/videostream").json() if c.get("slug") == "main-stage")
    for theme, size in (("light", WIDE), ("dark", NARROW)):
        async with opened(browser, base, locale="en-US", viewport=size, color_scheme=theme) as watched:
            page = watched.page
            await expect(page.get_by_role("heading", name="Studio Süd")).to_be_visible()
            await expect(page.get_by_role("link", name="https://example.com/tickets")).to_have_attribute(
                "rel", "noopener nofollow"
            )
            await expect(page.get_by_text("<script>alert(1)</script>")).to_be_visible()
            card = page.get_by_role("link", name=re.compile("Main stage"))
            await expect(card).to_have_attribute("href", "/main-stage/")
            assert await axe(page) == []
            await card.click()
            await expect(page).to_have_url(re.compile("/main-stage/$"))
            await expect(page.get_by_role("heading", name="Main stage")).to_be_visible()
            await expect(page.get_by_role("link", name="Studio Süd")).to_be_visible()
            await expect(page.locator("img.logo")).to_be_visible()
            assert await axe(page) == []
            assert watched.complaints == []
    push_url = f"rtmp://127.0.0.1:{gateway.ports['rtmp']}/stream/{channel['id']}?sign={channel['key']}"
    await asyncio.to_thread(SMALL.path)
    with push(SMALL, push_url, loop=True):
        async with opened(browser, f"{base}/main-stage/", locale="en-US", viewport=WIDE) as watched:
            await watched.plays()


@pytest.mark.parametrize(
    "color", ["#ffff00", "#777777", *at_night("#ffffff", "#000000", "#00ff00", "#0000ff", "#c8102e")]
)
async def test_texts_stay_readable_in_any_colour(browser: Browser, gateway: Gateway, color: str) -> None:
    channel = gateway.channel(videoname="Colour", color=color, slug=f"color-{color[1:]}")
    base = f"http://127.0.0.1:{gateway.ports['http']}/{channel.item['slug']}/"
    for theme in ("light", "dark"):
        async with opened(browser, base, locale="en-US", viewport=NARROW, color_scheme=theme) as watched:
            page = watched.page
            await expect(page.get_by_role("heading", name="Colour")).to_be_visible()
            ratios = await page.evaluate(
                """async (color) => {
              const { tokens, contrast, rgbOf } = await import("/_player/accent.js");
              return ["light", "dark"].flatMap((theme) => {
                const made = tokens(rgbOf(color), theme);
                return [["accent", "accent-ink"], ["accent-hover", "accent-ink"], ["accent-text", "accent-soft"]]
                  .map(([a, b]) => contrast(made[`--${a}`], made[`--${b}`]));
              });
            }""",
                color,
            )
            assert min(ratios) >= 4.5, ratios
            assert await axe(page) == []


async def test_a_user_adds_a_second_factor_and_signs_in_with_it(browser: Browser, gateway: Gateway) -> None:
    gateway.api("POST", "/users", {"name": "mia", "password": PASSWORD, "role": "broadcaster", "channels": []})
    async with opened(browser, address(gateway), locale="en-US", viewport=NARROW) as watched:
        page = watched.page

        async def sign_in(password: str) -> None:
            await page.get_by_label("User name").fill("mia")
            await page.get_by_label("Token or password").fill(password)
            await page.get_by_role("button", name="Log in").click()

        await sign_in(PASSWORD)
        await expect(page.get_by_role("heading", name="Channels", exact=True)).to_be_visible()
        await page.goto(address(gateway, "#/account"))
        await page.get_by_role("button", name="Set up an authenticator app").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Your password now").fill(PASSWORD)
        await dialog.get_by_role("button", name="Next").click()
        await expect(dialog.get_by_role("img", name="QR code for the app")).to_be_visible()
        secret = (await dialog.locator("code").first.inner_text()).strip()
        await dialog.get_by_label("Code", exact=True).fill(code_at(secret, int(time.time()) // STEP))
        assert await axe(page) == []
        await dialog.get_by_role("button", name="Confirm").click()
        await expect(dialog.get_by_text("Keep these codes in a safe place")).to_be_visible()
        async with page.expect_response("**/second-factor"):
            await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # back from another tab
        recovery = (await dialog.locator("code").first.inner_text()).split()
        assert len(recovery) == 10
        assert await axe(page) == []
        await dialog.get_by_role("button", name="Done").click()
        await expect(page.get_by_text("You have 10 recovery codes.")).to_be_visible()
        await page.get_by_label("Your password now").fill(PASSWORD)
        await page.get_by_label("New password").fill("another long password")
        await page.get_by_role("button", name="Change the password").click()
        await expect(page.get_by_text("The password is changed.")).to_be_visible()
        await page.reload()
        await expect(page.get_by_text("You have 10 recovery codes.")).to_be_visible()  # this session goes on
        assert await axe(page) == []
        await page.context.clear_cookies()
        await page.goto("about:blank")
        await page.goto(address(gateway))
        await sign_in("another long password")
        await expect(page.get_by_label("Code", exact=True)).to_be_focused()
        await page.get_by_label("Code", exact=True).fill("000000")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_text("The code is wrong or was used already.")).to_be_visible()
        assert await axe(page) == []
        await page.get_by_label("Code", exact=True).fill(recovery[0])
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("heading", name="Channels", exact=True)).to_be_visible()


async def test_an_administrator_makes_and_revokes_a_token(browser: Browser, gateway: Gateway) -> None:
    async with signed_in(browser, gateway, "#/users") as watched:
        page = watched.page
        await page.get_by_role("button", name="Make a token").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name of the token").fill("scheduler")
        await dialog.get_by_role("radio", name="Administrator").check()
        await dialog.get_by_role("button", name="Make", exact=True).dblclick()
        token = (await dialog.locator("code").first.inner_text()).strip()
        assert token.startswith("mlr_")
        assert await axe(page) == []
        await dialog.get_by_role("button", name="Done").click()
        await expect(page.get_by_role("row", name=re.compile("scheduler.*Never"))).to_be_visible()
        assert await axe(page) == []
        await page.get_by_role("button", name="Revoke the token scheduler").click()
        await (
            page.get_by_role("alertdialog").or_(page.get_by_role("dialog")).get_by_role("button", name="Revoke").click()
        )
        await expect(page.get_by_text("No tokens yet.")).to_be_visible()
        assert watched.complaints == []
