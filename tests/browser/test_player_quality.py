"""Choosing a quality on the player pages: ladders that the players know, and renditions with addresses of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import Watched, opened
from tests.support.ladder import LadderStream, ladder
from tests.support.media import Film
from tests.support.time_outs import at_most
from tests.support.tools import need

SOURCE = Film("ladder-b-source", seconds=80, size="640x360", bframes=2, rate=15, gop=15)
RUNGS = {
    "360p": Film("ladder-b-360p", seconds=80, size="160x90", rate=15, gop=15),
    "480p": Film("ladder-b-480p", seconds=80, size="320x180", rate=15, gop=15),
    "720p": Film("ladder-b-720p", seconds=80, size="480x270", rate=15, gop=15),
}


@asynccontextmanager
async def on_air(rungs: dict[str, Film] = RUNGS, **fields: Any) -> AsyncIterator[LadderStream]:
    """A channel whose film runs."""
    need("chromium", "ffmpeg")
    async with ladder(SOURCE, dict(rungs), **fields) as lab:
        lab.begin()
        broadcast = asyncio.create_task(lab.broadcast())
        try:
            yield lab
        finally:
            broadcast.cancel()


@asynccontextmanager
async def watching(browser: Browser, page: str, **fields: Any) -> AsyncIterator[tuple[LadderStream, Watched]]:
    """A page of a channel with a ladder, once it plays."""
    async with on_air(**fields) as lab, opened(browser, f"{lab.base}/{page}") as watched:
        await watched.plays()
        yield lab, watched


async def offered(watched: Watched) -> list[str]:
    menu = watched.page.get_by_role("combobox", name="Quality")
    await menu.wait_for(timeout=at_most(40_000))
    await watched.page.wait_for_function("() => document.querySelector('#quality').options.length > 3")
    return await menu.locator("option").evaluate_all("all => all.map((one) => one.value)")


async def choose(watched: Watched, quality: str) -> None:
    await watched.page.get_by_role("combobox", name="Quality").select_option(quality)


async def shows(watched: Watched, width: int) -> None:
    """Returns once a picture of this width moves."""
    await watched.page.wait_for_function(
        f"() => document.querySelector('video').videoWidth === {width}", timeout=at_most(30_000)
    )
    await watched.plays()


async def test_every_quality_can_be_chosen_and_is_remembered(browser: Browser) -> None:
    async def judge(base: str, page: str) -> None:
        async with opened(browser, f"{base}/{page}") as watched:
            best_first = ["source", "720p", "480p", "360p"]
            assert await offered(watched) == ["auto", *best_first]
            for quality, width in [("480p", 320), ("source", 640), ("360p", 160)]:
                await choose(watched, quality)
                await shows(watched, width)
                await watched.comes_to_say("Live")
            await watched.page.goto(f"{base}/{page}")
            await shows(watched, 160)
            await expect(watched.page.locator("#quality")).to_have_value("360p")
            assert not watched.complaints

    pages = ["hls.html", "dash.html", "index.html", "flv.html"]
    async with on_air() as lab:
        ends = await asyncio.gather(*(judge(lab.base, page) for page in pages), return_exceptions=True)
    wrong = [f"{page}: {end!r}" for page, end in zip(pages, ends, strict=True) if end is not None]
    assert not wrong, "\n".join(wrong)


@pytest.mark.nightly
async def test_a_chosen_quality_applies_to_the_other_pages(browser: Browser) -> None:
    async with watching(browser, "flv.html") as (lab, watched):
        await offered(watched)
        await choose(watched, "480p")
        await shows(watched, 320)
        await watched.page.goto(f"{lab.base}/hls.html")
        await shows(watched, 320)
        assert not watched.complaints


@pytest.mark.nightly
async def test_the_automatic_choice_shows_its_quality(browser: Browser) -> None:
    async with watching(browser, "hls.html") as (_, watched):
        await offered(watched)
        auto = watched.page.locator("#quality option[value=auto]")
        told = (
            "() => /^Auto \\((720p|480p|360p|Original.*)\\)$/.test(document.querySelector('#quality').options[0].label)"
        )
        await watched.page.wait_for_function(told)
        await choose(watched, "360p")
        await shows(watched, 160)
        assert await auto.inner_text() == "Auto"


async def test_the_source_plays_when_the_chosen_rendition_ends(browser: Browser) -> None:
    async with watching(browser, "flv.html", linger=1.0) as (lab, watched):
        await offered(watched)
        await choose(watched, "480p")
        await shows(watched, 320)
        lab.leave("480p")
        await shows(watched, 640)
        await watched.comes_to_say("Live")


async def test_a_change_of_quality_loses_and_hides_no_picture(browser: Browser) -> None:
    """A busy machine may be late with pictures: then the page waits, but has nothing to step over."""
    async with watching(browser, "flv.html") as (_, watched):
        await offered(watched)
        await watched.page.evaluate(
            """() => { const v = document.querySelector("video"); window.said = []; window.stops = [];
              new MutationObserver(() => window.said.push(document.querySelector("#stage").dataset.state))
                .observe(document.querySelector("#stage"), { attributes: true });
              for (const stop of ["waiting", "emptied", "seeking"])
                v.addEventListener(stop, () => window.stops.push(stop)); }"""
        )
        for quality, width in [("480p", 320), ("source", 640), ("480p", 320), ("source", 640)]:
            await choose(watched, quality)
            await shows(watched, width)
        said, stops, ranges = await watched.page.evaluate(
            """() => { const { buffered } = document.querySelector("video");
              return [window.said, window.stops,
                Array.from({ length: buffered.length }, (_, i) => [buffered.start(i), buffered.end(i)])]; }"""
        )
        assert set(said) <= {"live", "stalled"}, (said, stops)
        assert len(ranges) == 1, (ranges, stops)
        assert "emptied" not in stops, stops


@pytest.mark.nightly
async def test_without_a_ladder_there_is_no_quality_menu(browser: Browser) -> None:
    async with on_air({}, isCodec=False) as lab:
        for page in ("flv.html", "hls.html"):
            async with opened(browser, f"{lab.base}/{page}") as watched:
                await watched.plays()
                assert await watched.page.locator("#quality").is_hidden()
