"""The console's events, and the notice of a refused push, for operators whose encoder shows no reason."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from gateway.channels.stream_key import sign
from tests.support.browser import axe
from tests.support.clients import push
from tests.support.console import signed_in
from tests.support.gateway import Channel, Gateway, running
from tests.support.media import Film
from tests.support.tools import need

SECRET = "the-secret-of-these-tests"
FILM = Film("console-events", seconds=2)

# One browser for all: each test has a context of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def channel() -> Iterator[Channel]:
    """A channel with a refused push, in a gateway with another channel and sixty changes."""
    need("chromium", "ffmpeg")
    with running(MILLRACE_SIGNING__SECRET=SECRET, MILLRACE_STREAM__LINGER="0") as gateway:
        other = gateway.channel(videoname="Foyer")
        for number in range(60):
            gateway.api("PUT", f"/videostream/{other.id}", {"description": str(number)})
        channel = gateway.channel(videoname="Studio 1")
        refuse(gateway, channel)
        yield channel


def refuse(gateway: Gateway, channel: Channel) -> None:
    """A push with an old key, which has expired."""
    key = sign(channel.id, 1_000_000_000, SECRET)
    with push(FILM, f"{channel.obs_server}/{channel.id}?sign={key}") as encoder:
        encoder.process.wait(30)


async def test_the_channel_page_explains_a_refused_push_and_links_to_the_events(
    browser: Browser, channel: Channel
) -> None:
    async with signed_in(browser, channel.gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        notice = page.locator(".notice", has_text="Refused")
        refused = "from 127.0.0.1 (RTMP): the key expired on Sep 9, 2001"
        await expect(notice).to_contain_text(refused, timeout=20_000)
        await expect(notice).to_contain_text("Copy the current stream key of this page into the encoder.")
        recent = page.get_by_role("region", name="Latest events")
        await expect(recent.get_by_role("listitem").first).to_contain_text("Push refused", timeout=20_000)
        await recent.get_by_role("link", name="All events").click()
        await expect(page.get_by_role("heading", name="Events")).to_be_visible()
        await expect(page.get_by_role("combobox", name="Channel")).to_have_value(channel.id)
        items = page.get_by_role("list", name="Events").get_by_role("listitem")
        await expect(items).to_have_count(2)
        await expect(items.last).to_contain_text("by the admin token")
        assert await axe(page) == []
        assert watched.complaints == []


async def test_events_can_be_filtered_and_paged_and_are_updated_live(browser: Browser, channel: Channel) -> None:
    async with signed_in(browser, channel.gateway, "#/events") as watched:
        page = watched.page
        items = page.get_by_role("list", name="Events").get_by_role("listitem")
        await expect(items).to_have_count(50, timeout=20_000)
        await page.get_by_role("button", name="Show older events").click()
        await expect(items).to_have_count(63)
        await expect(page.get_by_role("button", name="Show older events")).to_have_count(0)
        await page.get_by_label("Kind").select_option(label="Channel created")
        await expect(items).to_have_count(2)
        await expect(items.last).to_contain_text("Foyer")
        channel.gateway.channel(videoname="Lobby")
        await expect(items).to_have_count(3, timeout=20_000)
        await expect(items.first).to_contain_text("Lobby")
        await page.get_by_role("link", name="Foyer").click()
        await expect(page.get_by_role("heading", name="Foyer")).to_be_visible()
        assert watched.complaints == []
