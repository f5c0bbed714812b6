"""The player pages on a slow link, with a clock in the picture: delay, choice of the rendition, and what they say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.support.at_night import at_night
from tests.support.browser import Watched, opened
from tests.support.clock_picture import Sample, clock_push, difference, longest_still, sampled, stalls
from tests.support.gateway import Channel, Gateway, running
from tests.support.slow_link import SlowLink, slow_link
from tests.support.time_outs import at_most
from tests.support.tools import need

SLOW = "Your connection is too slow for this stream"
WIDTH, RENDITION_WIDTH = 426, 320
# The bits of 854 × 480 and 640 × 360 in smaller pictures, which need less CPU.
LADDER = """[standard]
vbv = 1.5
rungs = [{ name = "180p", flag = "ld", width = 320, height = 180, bitrate = 400000, audio = 64000 }]
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    need("chromium", "ffmpeg")
    ladders = tmp_path_factory.mktemp("slow-link") / "ladders.toml"
    ladders.write_text(LADDER)
    with running(MILLRACE_TRANSCODE__LADDERS=str(ladders), MILLRACE_TRANSCODE__PRESET="ultrafast") as instance:
        yield instance


@contextmanager
def on_air(gateway: Gateway, *paths: str, **fields: Any) -> Iterator[Channel]:
    """A channel of 1.6 Mbit/s."""
    channel = gateway.channel(videoname="clock", codec="libx264", ld=True, **fields)
    with clock_push(channel.push, size="426x240", kbps=1600):
        channel.wait_playable("live.m3u8", "master.m3u8", *paths)
        yield channel


@pytest.fixture(scope="module")
def transcoded(gateway: Gateway) -> Iterator[Channel]:
    """A channel that has a rendition of 464 kbit/s."""
    with on_air(gateway, "index.m3u8", isCodec=True) as channel:
        yield channel


@pytest.fixture(scope="module")
def original(gateway: Gateway) -> Iterator[Channel]:
    """A channel without renditions."""
    with on_air(gateway) as channel:
        yield channel


@asynccontextmanager
async def watching(
    browser: Browser, channel: Channel, page: str, kbps: float, **options: Any
) -> AsyncIterator[tuple[SlowLink, Watched]]:
    async with (
        slow_link(channel.gateway.ports["http"], kbps=kbps) as link,
        opened(browser, f"http://127.0.0.1:{link.port}/{channel.id}/{page}", **options) as watched,
    ):
        yield link, watched


def honest(samples: list[Sample], error: float = 0.5) -> None:
    """error: seconds by which the shown delay may differ: the encoder of the clock needs some, too.

    The page says after 1.5 s that the picture stands still. It looks each 0.25 s, and so does `sampled`, or later on a
    busy machine.
    """
    assert abs(difference(samples)) <= error, samples
    assert longest_still(samples) <= 2.5, samples


@pytest.mark.nightly
@pytest.mark.parametrize("page", ["", "flv.html", "instant.html"])
async def test_on_a_slow_link_automatic_plays_the_rendition_without_stalls(
    page: str, transcoded: Channel, browser: Browser
) -> None:
    async with watching(browser, transcoded, page, 900) as (_, watched):
        chosen = watched.page.locator("#quality option:checked", has_text="Auto (180p)")
        await chosen.wait_for(state="attached", timeout=at_most(10_000))
        await watched.page.wait_for_function(
            f"() => document.querySelector('video').videoWidth === {RENDITION_WIDTH}", timeout=at_most(10_000)
        )
        # The original was too slow, and the page says so until the rendition has played for a while.
        await watched.page.locator("#notice").wait_for(state="hidden", timeout=at_most(10_000))
        samples = await sampled(watched.page, 12)  # two minutes at night: test_situations
        honest(samples)
        assert stalls(samples) <= 1, samples
        assert {sample.width for sample in samples} == {RENDITION_WIDTH}
        assert {sample.notice for sample in samples} == {""}
        assert not watched.complaints


async def test_automatic_changes_down_and_up_with_the_link(transcoded: Channel, browser: Browser) -> None:
    async with watching(browser, transcoded, "", 20_000) as (link, watched):
        await watched.page.locator("#quality option:checked", has_text="Auto (Original)").wait_for(
            state="attached", timeout=at_most(20_000)
        )
        link.kbps = 900
        samples = await sampled(watched.page, 12)
        honest(samples)
        assert stalls(samples) <= 2, samples
        assert samples[-1].width == RENDITION_WIDTH, samples
        assert samples[-1].quality == "Auto (180p)"
        link.kbps = 20_000
        await watched.page.wait_for_function(
            f"() => document.querySelector('video').videoWidth === {WIDTH}", timeout=at_most(60_000)
        )
        samples = await sampled(watched.page, 4)
        honest(samples)
        assert stalls(samples) == 0
        assert not watched.complaints


@pytest.mark.parametrize(
    ("language", "page", "words"),
    [("en-GB", "", SLOW), *at_night(("zh-CN", "instant.html", "您的网络速度不足以流畅播放该直播"))],
)
async def test_without_renditions_the_viewer_reads_that_the_link_is_too_slow(
    language: str, page: str, words: str, original: Channel, browser: Browser
) -> None:
    async with watching(browser, original, page, 900, locale=language) as (link, watched):
        await watched.page.locator("#notice", has_text=words).wait_for(timeout=at_most(30_000))
        honest(await sampled(watched.page, 6))
        link.kbps = 20_000
        await watched.page.locator("#notice").wait_for(state="hidden", timeout=at_most(40_000))
        await watched.page.locator("#stage[data-state=live]").wait_for(timeout=at_most(20_000))


@pytest.mark.parametrize(
    "page", ["hls.html", *at_night("", "whep.html", "flv.html", "instant.html", "index.html", "dash.html")]
)
async def test_the_shown_delay_is_that_of_the_picture(page: str, original: Channel, browser: Browser) -> None:
    async with opened(browser, original.url(page)) as watched:
        await watched.page.locator("#stage[data-state=live]").wait_for(timeout=at_most(30_000))
        await watched.page.wait_for_timeout(4000)  # a player comes closer to live in its first seconds
        # The dates in playlists begin with the first picture, which an encoder on a busy machine sends late.
        honest(await sampled(watched.page, 4), 0.6 if page in ("hls.html", "index.html", "dash.html") else 0.5)
        assert await watched.page.title() == ("clock" if page == "" else "clock · Millrace")
        assert await watched.page.get_by_role("heading", name="clock").is_visible()
        assert not watched.complaints
