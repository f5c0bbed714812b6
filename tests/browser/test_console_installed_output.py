"""An installed output in the console: its switch and its fields, in both languages, from what the gateway says."""

import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from tests.support.console import signed_in
from tests.support.gateway import Gateway, running
from tests.support.installed_output import install
from tests.support.tools import need


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    need("chromium")
    with running(PYTHONPATH=str(install(tmp_path_factory.mktemp("site")))) as instance:
        yield instance


async def test_an_installed_output_has_a_switch_and_an_editor_section(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel(videoname="extended")
    async with (
        signed_in(browser, gateway, f"#/channels/{channel.id}", locale="en-US") as watched,
    ):
        page = watched.page
        await page.get_by_role("switch", name="Key frame check").click()
        await expect(page.get_by_role("switch", name="Key frame check")).to_be_checked()
        await page.get_by_text("Key frame check is on").wait_for()
        await page.goto(page.url.partition("#")[0] + f"#/channels/{channel.id}/edit?section=basics")
        await page.get_by_role("heading", name="Installed outputs").wait_for()
        limit = page.get_by_label("Longest distance of key frames")
        await expect(limit).to_have_value("4")
        await limit.fill("99")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text("from 0.5 to 60").wait_for()
        await limit.fill("7")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text(re.compile("^Saved")).first.wait_for()
        await page.get_by_text("Everything is saved").wait_for()
        await page.goto(page.url.partition("#")[0] + "#/channels")
        await page.locator(".chips").get_by_text("Key frame check").wait_for()
        assert not watched.complaints
    stored = gateway.api("GET", f"/videostream/{channel.id}").json()
    assert stored["isGopCheck"] is True and float(stored["gop_limit"]) == 7


async def test_the_labels_of_an_installed_output_follow_the_language(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel(videoname="extended too")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}/edit?section=basics") as watched:
        await watched.page.evaluate("() => localStorage.setItem('millrace.language', 'zh')")
        await watched.page.reload()
        await watched.page.get_by_label("关键帧最大间隔").wait_for()
        assert not watched.complaints
