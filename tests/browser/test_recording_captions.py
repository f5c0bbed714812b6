"""The player page of a recorded session has its captions as text tracks, at the times of its pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import opened
from tests.support.caption_writer import popped_on, with_pairs
from tests.support.clients import Program, until
from tests.support.gateway import Gateway
from tests.support.media import VIDEO_ONLY, Film
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

FILM = Film("on-demand-captions", seconds=8, audio=None, gop=30)
TEXTS = [f"TEXT {n}" for n in range(5)]
CUES = """[...document.querySelector('video').textTracks]
  .filter((track) => track.kind === 'subtitles' && track.label === 'English')
  .flatMap((track) => [...track.cues ?? []].map((cue) => [cue.text, cue.startTime]))"""
gateway = shared_gateway("ffmpeg", films=[VIDEO_ONLY, FILM], MILLRACE_STREAM__LINGER="1")


@pytest.fixture(scope="module")
def page(gateway: Gateway) -> Iterator[str]:
    """The address of the page of a session with captions in its pictures."""
    pairs = {n * 45 + at: pair for n, text in enumerate(TEXTS) for at, pair in enumerate(popped_on(1, text))}
    captions = [{"source": "cc1", "language": "en", "label": "English", "default": True}]
    channel = gateway.channel(isOnDemand=True, ondemand_time="2", captions=captions)
    film = str(with_pairs(FILM, pairs))
    command = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-i", film, "-c", "copy", "-f", "flv", channel.push]
    with Program(command) as pushing:
        channel.wait_live()
        pushing.wait(40)
    path = f"/videostream/{channel.id}/recordings"
    until(lambda: channel.session()["state"] == "idle", "the end")
    until(lambda: (gateway.api("GET", path).json() or [{}])[0].get("seconds", 0) > 7.9, "the session is stored")
    [session] = gateway.api("GET", path).json()
    yield channel.url(f"vod/{session['key'].partition('/')[2]}/")


async def test_the_page_of_a_session_has_its_captions(page: str, browser: Browser) -> None:
    async with opened(browser, page) as watched:
        shown: dict[str, float] = {}
        async with asyncio.timeout(at_most(60)):
            while shown.keys() != set(TEXTS):
                await watched.page.wait_for_timeout(200)
                found = await watched.page.evaluate(CUES)
                for text, start in found:
                    shown[text] = min(start, shown.get(text, start))
        for n, text in enumerate(TEXTS):
            done = n * 45 + len(popped_on(1, text)) - 2  # the first of the two codes that show it
            assert abs(shown[text] - done / 30) <= 1 / 30 + 0.001


async def test_the_replay_on_the_watch_page_has_the_captions_and_their_button(page: str, browser: Browser) -> None:
    async with opened(browser, page.partition("vod/")[0]) as watched:
        await watched.comes_true(f"() => {CUES}.length > 0", within=60)
        await watched.page.locator("#stage").hover()
        button = watched.page.get_by_role("button", name="Captions")
        await expect(button).to_have_attribute("aria-pressed", "true")
        await watched.page.keyboard.press("c")
        await expect(button).to_have_attribute("aria-pressed", "false")
