"""Pictures or sound that begin long after the other media of a push reach the pages that are open."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from gateway.formats.flv.reader import FlvReader
from tests.support import films
from tests.support.at_night import at_night
from tests.support.browser import opened
from tests.support.gateway import Channel, Gateway, http
from tests.support.rtmp import AUDIO, VIDEO, Peer, connected
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most
from tests.support.waiting import until

gateway = shared_gateway("chromium", "ffmpeg", MILLRACE_STREAM__TRACKS_WAIT="1")
PAGES = ["hls.html", "dash.html", "whep.html", "flv.html"]
LATE = 8_000  # ms, from which the other media are sent; sound alone is announced after 5 s


@contextlib.asynccontextmanager
async def pushed(channel: Channel, waiting: set[str], late: int = VIDEO) -> AsyncIterator[None]:
    """Pushes a film by RTMP. Its media `late` follow from `LATE` on, once `waiting` is empty.

    Pictures that are late have a key frame each second, because segments stay as short as those of the sound.
    Others have one each 4 s, so that sound is listed long after its first part.
    """
    gop = 15 if late == VIDEO else 60
    path = films.film(
        f"late-{gop}.flv", *("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15", "-f", "lavfi", "-i", "sine"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-g", str(gop), "-bf", "0", "-pix_fmt", "yuv420p"),
        *("-c:a", "aac", "-t", "60"),
    )  # fmt: skip
    tags = [tag for tag in FlvReader().receive(path.read_bytes()) if tag[0] in (AUDIO, VIDEO)]
    header = next(body for kind, _, body in tags if kind == late)

    async def send(peer: Peer) -> None:
        began, has_all = time.monotonic(), False
        for kind, at, body in tags:
            if kind == late and not has_all:
                if at < LATE or waiting or (late == VIDEO and body[0] >> 4 != 1):  # no key frame
                    continue
                has_all = True
                await peer.body(late, header, at)
            await asyncio.sleep(at / 1000 - (time.monotonic() - began))
            await peer.body(kind, body, at)

    async with connected(channel.gateway.ports["rtmp"]) as peer:
        await peer.publish(channel.obs_key)
        sending = asyncio.create_task(send(peer))
        try:
            yield
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def test_pages_that_are_open_show_pictures_that_begin_later(browser: Browser, gateway: Gateway) -> None:
    channel, waiting = gateway.channel("late"), set(PAGES)
    video = "document.querySelector('video')"

    async def judge(page: str) -> None:
        async with opened(browser, channel.url(page)) as player:
            try:
                await player.page.wait_for_function(f"() => {video}.currentTime > 0.5", timeout=at_most(20_000))
                assert await player.page.evaluate(f"{video}.videoWidth") == 0
            finally:
                waiting.discard(page)
            await player.page.wait_for_function(f"() => {video}.videoWidth === 320", timeout=at_most(35_000))
            await player.plays(10)

    async with pushed(channel, waiting):
        ends = await asyncio.gather(*map(judge, PAGES), return_exceptions=True)
    wrong = [f"{page}: {end}" for page, end in zip(PAGES, ends, strict=True) if end is not None]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("when", ["before", *at_night("as it begins")])
async def test_pages_play_sound_that_begins_later(when: str, browser: Browser, gateway: Gateway) -> None:
    """Also if no playlist has it yet when the page is opened."""
    pages = ["hls.html", "index.html", "dash.html"]
    is_early = when == "before"
    channel, waiting = gateway.channel("heard"), set(pages if is_early else ())

    async def judge(page: str) -> None:
        if not is_early:
            await until(lambda: "audio" in kinds_of(channel), "the sound is announced", within=40.0)
        async with opened(browser, channel.url(page)) as player:
            try:
                await player.plays()
            finally:
                waiting.discard(page)
            heard = "() => document.querySelector('video').webkitAudioDecodedByteCount > 0"
            await player.page.wait_for_function(heard, timeout=at_most(35_000))
            await player.plays(10)
            assert not player.complaints

    async with pushed(channel, waiting, AUDIO):
        ends = await asyncio.gather(*map(judge, pages), return_exceptions=True)
    wrong = [f"{page}: {end}" for page, end in zip(pages, ends, strict=True) if end is not None]
    assert not wrong, "\n".join(wrong)


def kinds_of(channel: Channel) -> list[str]:
    """Returns the kinds of the tracks that viewers get."""
    return [track["kind"] for track in http("GET", channel.url("status.json")).json().get("tracks") or ()]
