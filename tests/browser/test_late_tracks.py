"""Pictures that begin long after the sound reach pages that are open, and a stream without pictures is heard."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from gateway.formats.flv.reader import FlvReader
from tests.support import films
from tests.support.browser import opened
from tests.support.gateway import Channel, Gateway
from tests.support.rtmp import AUDIO, VIDEO, Peer, connected
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

gateway = shared_gateway("chromium", "ffmpeg", MILLRACE_STREAM__TRACKS_WAIT="1")
LATE = 12_000  # ms, from which pictures are sent; sound alone is announced after 5 s


@contextlib.asynccontextmanager
async def pushed(channel: Channel, pictures_from: int) -> AsyncIterator[None]:
    """Pushes the sound of a film by RTMP, and its pictures from a time (ms) on."""
    path = films.film(
        "late.flv", *("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15", "-f", "lavfi", "-i", "sine"), "-t", "40",
        *("-c:v", "libx264", "-preset", "ultrafast", "-g", "15", "-bf", "0", "-pix_fmt", "yuv420p", "-c:a", "aac"),
    )  # fmt: skip
    tags = [tag for tag in FlvReader().receive(path.read_bytes()) if tag[0] in (AUDIO, VIDEO)]
    header = next(body for kind, _, body in tags if kind == VIDEO)

    async def send(peer: Peer) -> None:
        began, has_pictures = time.monotonic(), False
        for kind, at, body in tags:
            if kind == VIDEO and at < pictures_from:
                continue
            await asyncio.sleep(at / 1000 - (time.monotonic() - began))
            if kind == VIDEO and not has_pictures:
                has_pictures = True
                await peer.body(VIDEO, header, at)
            await peer.body(kind, body, at)

    async with connected(channel.gateway.ports["rtmp"]) as peer:
        await peer.publish(channel.obs_key)
        sending = asyncio.create_task(send(peer))
        try:
            yield
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize("page", ["hls.html", "dash.html", "whep.html", "flv.html"])
async def test_a_page_that_is_open_shows_pictures_that_begin_later(
    page: str, browser: Browser, gateway: Gateway
) -> None:
    channel = gateway.channel(page)
    async with pushed(channel, LATE), opened(browser, channel.url(page)) as player:
        video = "document.querySelector('video')"
        await player.page.wait_for_function(f"() => {video}.currentTime > 0.5", timeout=at_most(20_000))
        assert await player.page.evaluate(f"{video}.videoWidth") == 0
        await player.page.wait_for_function(f"() => {video}.videoWidth === 320", timeout=at_most(25_000))
        await player.plays(10)
