"""The console's events, and the notice of a refused push, for operators whose encoder shows no reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route, expect

from gateway.channels.stream_key import sign
from tests.support.browser import axe
from tests.support.clients import push
from tests.support.console import signed_in
from tests.support.gateway import Channel, Gateway, running
from tests.support.media import Film
from tests.support.time_outs import at_most
from tests.support.tools import need

SECRET = "the-secret-of-these-tests"
FILM = Film("console-events", seconds=2)


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
        encoder.process.wait(at_most(30))


async def test_the_channel_page_explains_a_refused_push_and_links_to_the_events(
    browser: Browser, channel: Channel
) -> None:
    async with signed_in(browser, channel.gateway, f"#/channels/{channel.id}") as watched:
        page = watched.page
        notice = page.locator(".notice", has_text="Refused")
        refused = "from 127.0.0.1 (RTMP): the key expired on Sep 9, 2001"
        await expect(notice).to_contain_text(refused, timeout=at_most(20_000))
        await expect(notice).to_contain_text("Copy the current stream key of this page into the encoder.")
        recent = page.get_by_role("region", name="Latest events")
        await expect(recent.get_by_role("listitem").first).to_contain_text("Push refused", timeout=at_most(20_000))
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
        await expect(items).to_have_count(50, timeout=at_most(20_000))
        await page.get_by_role("button", name="Show older events").click()
        await expect(items).to_have_count(63)
        await expect(page.get_by_role("button", name="Show older events")).to_have_count(0)
        await page.get_by_label("Kind").select_option(label="Channel created")
        await expect(items).to_have_count(2)
        await expect(items.last).to_contain_text("Foyer")
        channel.gateway.channel(videoname="Lobby")
        await expect(items).to_have_count(3, timeout=at_most(20_000))
        await expect(items.first).to_contain_text("Lobby")
        await page.get_by_role("link", name="Foyer").click()
        await expect(page.get_by_role("heading", name="Foyer")).to_be_visible()
        assert watched.complaints == []


def logged(*events: tuple[str, dict[str, object]], channel: str) -> list[dict[str, object]]:
    """Events as the API lists them, the newest first."""
    common = {"time": "2026-11-26T13:00:00Z", "channel": channel, "node": ""}
    return [
        {**common, "id": f"{len(events) - n:024x}", "type": type, "data": data} for n, (type, data) in enumerate(events)
    ]


def minutes(count: int, before: float) -> list[tuple[str, dict[str, object]]]:
    """The files of one minute each that a show left until a time, the newest first."""
    data = {"kind": "video", "seconds": 60.0, "key": "x/vod/x.mp4", "bytes": 1}
    return [("recording.ready", {**data, "start": before - 60.0 * (n + 1)}) for n in range(count)]


async def photo(page: Page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


async def test_events_are_told_in_the_words_of_the_console(browser: Browser, channel: Channel) -> None:
    slow = {"stream": channel.id, "code": "fps_low", "value": 20.0,
            "text": "20 of 30 frames arrive: the encoder or the uplink is too slow."}  # fmt: skip
    events = logged(
        ("stream.health", {**slow, "state": "ended"}),
        ("stream.health", {**slow, "state": "begun"}),
        ("channel.changed", {"by": "admin token", "fields": ["hd", "isCodec", "isOnDemand", "inputs", "ofSomebody"]}),
        ("cue", {"type": "out", "seconds": 30, "id": "1922990919"}),
        ("job.failed", {"source": "upload/fd676edb.mp4", "error": "it is text, not media"}),
        channel=channel.id,
    )

    async def answer(route: Route) -> None:
        await route.fulfill(json=events)

    async with signed_in(browser, channel.gateway, "#/users") as watched:
        page = watched.page
        await page.route("**/events?*", answer)
        # This browser has uploaded the file.
        await page.evaluate("""() => import("/console/app/views/films/names.js")
          .then(({ learn }) => learn("fd676edb.mp4", "holiday.mp4"))""")
        await page.goto(page.url.partition("#")[0] + "#/events")
        rows = page.locator(".events li")
        await expect(rows).to_have_count(5)
        await expect(rows.nth(0).locator(".badge.ok")).to_have_text("Fault over")
        await expect(rows.nth(0).locator(".details")).to_have_text("20 of 30 frames arrive")
        await expect(rows.nth(1).locator(".badge.warn")).to_have_text("Stream health")
        await expect(rows.nth(1)).to_contain_text("the encoder or the uplink is too slow.")
        changed = "by the admin token · 720p, Transcoding, On-demand recording, Inputs, ofSomebody"
        await expect(rows.nth(2).locator(".details")).to_have_text(changed)
        await expect(rows.nth(3).locator(".details")).to_have_text("Break · 30 sec")
        await expect(rows.nth(4).locator(".details")).to_have_text("holiday.mp4 · it is text, not media")
        await photo(page, "events")
        assert await axe(page) == []
        await page.evaluate("import('/console/app/i18n.js').then(({ setLanguage }) => setLanguage('zh', false))")
        await expect(rows.nth(0).locator(".badge.ok")).to_have_text("故障已结束")
        await photo(page, "events-zh")


async def test_the_files_of_one_show_are_one_event(browser: Browser, channel: Channel) -> None:
    ended = ("publish.ended", {"seconds": 3600, "reason": "publisher gone"})
    begun = ("publish.started", {"peer": "192.0.2.7", "protocol": "rtmp"})
    files = minutes(60, 1e9)
    events = logged(files[0], ended, *files[1:], begun, *minutes(1, 9e8), channel=channel.id)

    async def answer(route: Route) -> None:
        await route.fulfill(json=events)

    async with signed_in(browser, channel.gateway, "#/users") as watched:
        page = watched.page
        await page.route("**/events?*", answer)
        await page.goto(page.url.partition("#")[0] + f"#/channels/{channel.id}")
        rows = page.get_by_role("list", name="Latest events").get_by_role("listitem")
        await expect(rows).to_have_count(4)
        await expect(rows.nth(0)).to_contain_text("MP4 · 1 hr · 60 files of one show")
        await expect(rows.nth(1)).to_contain_text("Push ended")
        await expect(rows.nth(2)).to_contain_text("Push started")
        await expect(rows.nth(3).locator(".details")).to_have_text("MP4 · 1 min")
        await photo(page, "events-latest")
