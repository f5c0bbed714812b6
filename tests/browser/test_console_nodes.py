"""The console of one node in a cluster: the node of each stream, and the state of all nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.async_api import Browser, Page, ViewportSize, expect

from tests.support.browser import axe
from tests.support.clients import push
from tests.support.console import signed_in
from tests.support.fleet import nodes, sharing
from tests.support.gateway import Channel, Gateway, running
from tests.support.media import SMALL
from tests.support.time_outs import at_most
from tests.support.tools import need

WIDE = {"width": 1360, "height": 900}
NARROW = {"width": 360, "height": 740}


@dataclass
class RemoteStream:
    """A stream that another node than the one whose console is open holds. holder: its id."""

    asked: Gateway
    channel: Channel
    holder: str


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteStream]:
    need("chromium", "ffmpeg")
    with sharing(tmp_path_factory.mktemp("console-nodes"), 2) as (asked, holder):
        channel = Channel(holder, asked.channel(videoname="Main stage").item)
        with push(SMALL, channel.push, loop=True):
            channel.wait_live()
            yield RemoteStream(asked, channel, next(node["node"] for node in nodes(asked) if not node["here"]))


async def fits(page: Page) -> None:
    """Waits until the page needs no horizontal scrolling: a new size reaches the page later on a busy machine."""
    fitting = "() => document.documentElement.scrollWidth <= innerWidth"
    await page.wait_for_function(fitting, timeout=at_most(5_000))


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_the_system_view_lists_the_nodes(browser: Browser, stage: RemoteStream, viewport: dict[str, int]) -> None:
    async with signed_in(browser, stage.asked, "#/system") as watched:
        page = watched.page
        await page.set_viewport_size(ViewportSize(**viewport))
        table = page.get_by_role("table", name="Nodes")
        rows = table.locator("tbody tr")
        await expect(rows).to_have_count(2)
        other = rows.filter(has_text=stage.holder)
        for column, value in (("Role", "Gateway"), ("Streams", "1"), ("Publishers", "1"), ("Viewers", "0")):
            await expect(other.locator(f'td[data-label="{column}"]')).to_have_text(value)
        await expect(other.locator('td[data-label="Address"]')).to_have_text(
            f"127.0.0.1:{stage.channel.gateway.ports['http']}"
        )
        await expect(rows.filter(has_text="This node").locator('td[data-label="Streams"]')).to_have_text("0")
        await fits(page)
        assert not await axe(page)
        assert not watched.complaints


async def test_a_node_that_does_not_answer_shows_no_figures(browser: Browser, stage: RemoteStream) -> None:
    entries: list[dict[str, Any]] = stage.asked.api("GET", "/nodes").json()
    silent = dict.fromkeys(("version", "uptime", "cpu", "streams", "publishers", "viewers"))
    entries[1] |= {"answers": False, **silent}
    async with signed_in(browser, stage.asked, "#/users") as watched:
        page = watched.page
        await page.route("**/nodes", lambda route: route.fulfill(json=entries))
        await page.evaluate("() => { location.hash = '#/system'; }")
        row = page.get_by_role("table", name="Nodes").locator("tbody tr", has_text=stage.holder)
        await expect(row).to_contain_text("Does not answer")
        await expect(row.locator('td[data-label="Load"]')).to_have_text("–")
        assert not await axe(page)


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_the_console_shows_the_node_of_a_stream(
    browser: Browser, stage: RemoteStream, viewport: dict[str, int]
) -> None:
    async with signed_in(browser, stage.asked, "#/live") as watched:
        page = watched.page
        card = page.get_by_role("article", name="Main stage")
        await card.locator(".spark canvas").wait_for()  # drawn while the window is wide, and then it gets narrow
        await page.set_viewport_size(ViewportSize(**viewport))
        await expect(card.get_by_role("term").filter(has_text="Node")).to_be_visible()
        await expect(card).to_contain_text(stage.holder)
        await fits(page)
        assert not await axe(page)
        await page.evaluate("(id) => { location.hash = `#/channels/${id}`; }", stage.channel.id)
        now = page.get_by_role("region", name="Now")
        await expect(now).to_contain_text(stage.holder)
        await expect(page.get_by_role("button", name="End push")).to_be_visible()
        await fits(page)
        assert not await axe(page)
        assert not watched.complaints


async def test_the_node_table_is_translated_into_chinese(browser: Browser, stage: RemoteStream) -> None:
    async with signed_in(browser, stage.asked, "#/system") as watched:
        page = watched.page
        await page.evaluate("() => localStorage.setItem('millrace.language', 'zh')")
        await page.reload()
        await expect(page.get_by_role("table", name="全部节点")).to_contain_text("本节点")


async def test_a_single_node_shows_no_node_table(browser: Browser) -> None:
    need("chromium")
    with running() as gateway:
        async with signed_in(browser, gateway, "#/system") as watched:
            await watched.page.get_by_role("region", name="Ports").wait_for()
            await expect(watched.page.get_by_role("table", name="Nodes")).to_have_count(0)
