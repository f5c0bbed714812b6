"""The player pages on a slow link, with a clock in the picture: delay, choice of the rendition, and what they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.browser import Watched, chromium, opened
from tests.support.clock_picture import Sample, clock_push, difference, longest_still, sampled, stalls
from tests.support.gateway import Channel, Gateway
from tests.support.shared_gateway import shared_gateway
from tests.support.slow_link import SlowLink, slow_link

gateway = shared_gateway("chromium", "ffmpeg")
SLOW = "Your connection is too slow for this stream"
WIDTH, RENDITION_WIDTH = 854, 640


@asynccontextmanager
async def on_air(gateway: Gateway, **fields: Any) -> AsyncIterator[Channel]:
    """A channel of 1.6 Mbit/s; with `isCodec`, it has a rendition of 464 kbit/s."""
    channel = gateway.channel("slow", codec="libx264", ld=True, **fields)
    with clock_push(channel.push, size="854x480", kbps=1600):
        await asyncio.to_thread(channel.wait_live)
        await asyncio.to_thread(channel.wait_playable, "live.m3u8", "master.m3u8")
        if fields.get("isCodec"):
            await asyncio.to_thread(channel.wait_playable, "index.m3u8")
        yield channel


@asynccontextmanager
async def watching(channel: Channel, page: str, kbps: float) -> AsyncIterator[tuple[SlowLink, Watched]]:
    async with (
        slow_link(channel.gateway.ports["http"], kbps=kbps) as link,
        chromium() as browser,
        opened(browser, f"http://127.0.0.1:{link.port}/{channel.id}/{page}") as watched,
    ):
        yield link, watched


def honest(samples: list[Sample], error: float = 0.3) -> None:
    assert abs(difference(samples)) <= error, samples
    assert longest_still(samples) <= 2, samples


@pytest.mark.parametrize("page", ["", "flv.html", "instant.html"])
async def test_on_a_slow_link_automatic_plays_the_rendition_without_stalls(page: str, gateway: Gateway) -> None:
    async with on_air(gateway, isCodec=True) as channel, watching(channel, page, 900) as (_, watched):
        chosen = watched.page.locator("#quality option:checked", has_text="Auto (360p)")
        await chosen.wait_for(state="attached", timeout=10_000)
        await watched.page.wait_for_function(
            f"() => document.querySelector('video').videoWidth === {RENDITION_WIDTH}", timeout=10_000
        )
        # The original was too slow, and the page says so until the rendition has played for a while.
        await watched.page.locator("#notice").wait_for(state="hidden", timeout=10_000)
        samples = await sampled(watched.page, 30)
        honest(samples)
        assert stalls(samples) <= 1, samples
        assert {sample.width for sample in samples} == {RENDITION_WIDTH}
        assert {sample.notice for sample in samples} == {""}
        assert not watched.complaints


async def test_automatic_changes_down_and_up_with_the_link(gateway: Gateway) -> None:
    async with on_air(gateway, isCodec=True) as channel, watching(channel, "", 20_000) as (link, watched):
        await watched.page.locator("#quality option:checked", has_text="Auto (Original)").wait_for(
            state="attached", timeout=20_000
        )
        link.kbps = 900
        samples = await sampled(watched.page, 12)
        honest(samples)
        assert stalls(samples) <= 2, samples
        assert samples[-1].width == RENDITION_WIDTH, samples
        assert samples[-1].quality == "Auto (360p)"
        link.kbps = 20_000
        await watched.page.wait_for_function(
            f"() => document.querySelector('video').videoWidth === {WIDTH}", timeout=60_000
        )
        samples = await sampled(watched.page, 4)
        honest(samples)
        assert stalls(samples) == 0
        assert not watched.complaints


@pytest.mark.parametrize(
    ("language", "page", "words"),
    [("en-GB", "", SLOW), ("zh-CN", "instant.html", "您的网络速度不足以流畅播放该直播")],
)
async def test_without_renditions_the_viewer_reads_that_the_link_is_too_slow(
    language: str, page: str, words: str, gateway: Gateway
) -> None:
    async with (
        on_air(gateway, isCMAF=True) as channel,
        slow_link(gateway.ports["http"], kbps=900) as link,
        chromium() as browser,
        opened(browser, f"http://127.0.0.1:{link.port}/{channel.id}/{page}", locale=language) as watched,
    ):
        await watched.page.locator("#notice", has_text=words).wait_for(timeout=30_000)
        honest(await sampled(watched.page, 6))
        link.kbps = 20_000
        await watched.page.locator("#notice").wait_for(state="hidden", timeout=40_000)
        await watched.page.locator("#stage[data-state=live]").wait_for(timeout=20_000)


@pytest.mark.parametrize("page", ["", "flv.html", "instant.html", "whep.html", "hls.html", "index.html", "dash.html"])
async def test_the_shown_delay_is_that_of_the_picture(page: str, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="clock")
    with clock_push(channel.push):
        await asyncio.to_thread(channel.wait_playable, "live.m3u8", "master.m3u8")
        async with chromium() as browser, opened(browser, channel.url(page)) as watched:
            await watched.page.locator("#stage[data-state=live]").wait_for(timeout=30_000)
            await watched.page.wait_for_timeout(4000)  # a player comes closer to live in its first seconds
            # The dates in playlists begin with the first picture, which an encoder on a busy machine sends late.
            honest(await sampled(watched.page, 4), 0.6 if page in ("hls.html", "index.html", "dash.html") else 0.3)
            assert await watched.page.title() == ("clock" if page == "" else "clock · Millrace")
            assert await watched.page.get_by_role("heading", name="clock").is_visible()
            assert not watched.complaints
