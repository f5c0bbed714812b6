"""Pages report what their viewers experience, and the channel's page shows it with the last hours."""

from __future__ import annotations

import asyncio
from typing import Any

from playwright.async_api import Browser, BrowserContext, Request, Route, expect

from tests.support.browser import axe, opened
from tests.support.clients import push
from tests.support.console import signed_in
from tests.support.gateway import running
from tests.support.media import SMALL
from tests.support.time_outs import at_most


async def without_tracking(context: BrowserContext) -> None:
    await context.add_init_script("Object.defineProperty(navigator, 'globalPrivacyControl', { value: true })")


async def test_player_pages_send_reports_and_the_channel_page_shows_them(browser: Browser) -> None:
    with running() as gateway:
        channel = gateway.channel()
        with push(SMALL, channel.push, loop=True):
            channel.wait_playable("live.m3u8", "master.m3u8")

            async def reports_as(protocol: str, page: str) -> None:
                reports: asyncio.Queue[str] = asyncio.Queue()

                async def see_reports(context: BrowserContext) -> None:
                    # From the beginning: a page may send its first report before it is loaded.
                    def see(request: Request) -> None:
                        if request.url.endswith("/report"):
                            reports.put_nowait(request.post_data or "")

                    context.on("request", see)

                async with opened(browser, channel.url(page), prepare=see_reports) as watched:
                    await watched.plays()
                    line = await asyncio.wait_for(reports.get(), at_most(20))
                    assert f"millrace-p={protocol}," in line
                    assert ",msd=" in line and "bsa=(0)" in line
                    assert not watched.complaints

            async def sends_nothing(page: str, prepare: Any = None) -> None:
                async with opened(browser, channel.url(page), prepare=prepare) as watched:
                    asked: list[str] = []
                    watched.page.on("request", lambda request: asked.append(request.url))
                    await watched.plays()
                    await watched.page.goto("about:blank")  # nothing is sent when it is left either
                    assert not [url for url in asked if "/report" in url]

            await asyncio.gather(
                *(reports_as("flv", "flv.html"), reports_as("hls", "index.html")),
                *(sends_nothing("flv.html?report=0"), sends_nothing("flv.html", without_tracking)),
            )

            async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
                page = watched.page
                table = page.get_by_role("table", name="What viewers experience")
                for name in ("HTTP-FLV", "HLS"):
                    row = table.get_by_role("row").filter(has=page.get_by_text(name, exact=True))
                    await expect(row.locator("[data-label='Viewers']")).to_have_text("1")
                    await expect(row.locator("[data-label^='Start']")).to_contain_text("·")
                traffic = page.get_by_role("table", name="Traffic")
                for cell in ("Received", "Sent to viewers"):  # today, and the sum of all days
                    await expect(traffic.locator(f"[data-label='{cell}']")).to_contain_text(["B", "B"])

                async def too_early(route: Route) -> None:
                    answer = await route.fetch()
                    await route.fulfill(json={**await answer.json(), "times": [], "series": {}})

                await page.route("**/history?hours=24&*", too_early, times=1)
                await page.get_by_role("radio", name="24 h").check(force=True)
                chart = page.get_by_role("img", name="Bitrate: ").first
                await chart.wait_for()
                await page.reload()
                await expect(page.get_by_role("radio", name="24 h")).to_be_checked()
                await chart.wait_for()
                assert not await axe(page)
                assert not watched.complaints
