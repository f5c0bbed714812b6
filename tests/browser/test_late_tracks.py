"""Pictures that begin long after the sound reach pages that are open, and a stream without pictures is heard."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from playwright.async_api import Browser

from gateway.formats.flv.reader import FlvReader
from tests.support import films
from tests.support.browser import opened
from tests.support.gateway import Channel, Gateway
from tests.support.rtmp import AUDIO, VIDEO, Peer, connected
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

gateway = shared_gateway("chromium", "ffmpeg", MILLRACE_STREAM__TRACKS_WAIT="1")
PAGES = ["hls.html", "dash.html", "whep.html", "flv.html"]
LATE = 8_000  # ms, from which pictures are sent; sound alone is announced after 5 s


@contextlib.asynccontextmanager
async def pushed(channel: Channel, silent: set[str]) -> AsyncIterator[None]:
    """Pushes the sound of a film by RTMP, and its pictures from `LATE` on, once `silent` is empty."""
    path = films.film(
        "late.flv", *("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15", "-f", "lavfi", "-i", "sine"), "-t", "60",
        *("-c:v", "libx264", "-preset", "ultrafast", "-g", "15", "-bf", "0", "-pix_fmt", "yuv420p", "-c:a", "aac"),
    )  # fmt: skip
    tags = [tag for tag in FlvReader().receive(path.read_bytes()) if tag[0] in (AUDIO, VIDEO)]
    header = next(body for kind, _, body in tags if kind == VIDEO)

    async def send(peer: Peer) -> None:
        began, has_pictures = time.monotonic(), False
        for kind, at, body in tags:
            if kind == VIDEO and not has_pictures:
                if at < LATE or silent or body[0] >> 4 != 1:  # a key frame
                    continue
                has_pictures = True
                await peer.body(VIDEO, header, at)
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
    channel, silent = gateway.channel("late"), set(PAGES)
    video = "document.querySelector('video')"

    async def judge(page: str) -> None:
        async with opened(browser, channel.url(page)) as player:
            try:
                await player.page.wait_for_function(f"() => {video}.currentTime > 0.5", timeout=at_most(20_000))
                assert await player.page.evaluate(f"{video}.videoWidth") == 0
            finally:
                silent.discard(page)
            await player.page.wait_for_function(f"() => {video}.videoWidth === 320", timeout=at_most(35_000))
            await player.plays(10)

    async with pushed(channel, silent):
        ends = await asyncio.gather(*map(judge, PAGES), return_exceptions=True)
    wrong = [f"{page}: {end}" for page, end in zip(PAGES, ends, strict=True) if end is not None]
    assert not wrong, "\n".join(wrong)
