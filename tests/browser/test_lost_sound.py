"""Pictures without sound follow on a push that had some, and the pages that are open go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from playwright.async_api import Browser

from tests.support.browser import opened
from tests.support.clients import Program, push
from tests.support.gateway import Channel, Gateway
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most
from tests.support.waiting import until

MAIN = Film("heard", rate=15, gop=15)
MUTE = Film("mute", rate=15, gop=15, audio=None, size="426x240")
PAGES = ["hls.html", "dash.html", "flv.html", "index.html"]

gateway = shared_gateway("chromium", "ffmpeg", films=[MAIN, MUTE])


def inputs_of(channel: Channel) -> dict[str, dict[str, Any]]:
    reply = channel.gateway.api("GET", f"/videostream/{channel.id}/inputs")
    return {entry["name"]: entry for entry in reply.json()}


@contextlib.asynccontextmanager
async def judged(browser: Browser, channel: Channel) -> AsyncIterator[Callable[[], None]]:
    """Opens the pages. After the yielded call, they must show the silent film, and not begin anew."""
    waiting, lost = set(PAGES), asyncio.Event()

    async def judge(page: str) -> None:
        async with opened(browser, channel.url(page)) as watched:
            try:
                await watched.plays()
                assert (await watched.video())["width"] == 320
                note = "document.querySelector('video').addEventListener('emptied', () => { window.began = true; })"
                await watched.page.evaluate(note)
            finally:
                waiting.discard(page)
            await lost.wait()
            shown = "() => document.querySelector('video').videoWidth === 426"
            await watched.page.wait_for_function(shown, timeout=at_most(20_000))
            await watched.plays(6)
            assert await watched.says() == "Live"
            assert not await watched.page.evaluate("window.began === true"), "its player began anew"

    judging = asyncio.gather(*map(judge, PAGES), return_exceptions=True)
    await until(lambda: not waiting, "all pages play", within=60.0)
    yield lost.set
    ends = await judging
    wrong = [f"{page}: {end}" for page, end in zip(PAGES, ends, strict=True) if end is not None]
    assert not wrong, "\n".join(wrong)


async def test_open_pages_go_on_with_an_input_without_sound(gateway: Gateway, browser: Browser) -> None:
    inputs = [{"kind": "push", "name": "main"}, {"kind": "backup", "name": "van"}]
    channel = gateway.channel("mute", isCMAF=True, isHls=True, hls_time="1", inputs=inputs)
    with push(MAIN, channel.push, loop=True) as main:
        await until(lambda: inputs_of(channel)["main"]["state"] == "on air", "the push is on air")
        with push(MUTE, inputs_of(channel)["van"]["pushUrl"], loop=True):
            await until(lambda: inputs_of(channel)["van"]["state"] == "ready", "the backup is ready")
            async with judged(browser, channel) as lose:
                main.kill()
                lose()


async def test_open_pages_go_on_with_an_encoder_that_returns_without_sound(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel("again", isCMAF=True, isHls=True, hls_time="1")
    with contextlib.ExitStack() as pushes:
        main: Program = pushes.enter_context(push(MAIN, channel.push, loop=True))
        async with judged(browser, channel) as lose:
            main.kill()
            pushes.enter_context(push(MUTE, channel.push, loop=True))
            lose()
