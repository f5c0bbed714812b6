"""Closed captions of the pictures (CEA-608) on the player pages, in Chromium."""

import pytest
from playwright.async_api import Browser

from tests.support.at_night import at_night
from tests.support.browser import opened
from tests.support.caption_writer import captioned
from tests.support.clients import push
from tests.support.gateway import Gateway
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway

FILM = Film("captions-page", seconds=12, size="320x180", audio=None)
LINES = [(10 + 60 * n, f"LINE NUMBER {n}") for n in range(5)]

gateway = shared_gateway("chromium", "ffmpeg", films=[FILM])


@pytest.mark.parametrize("page", ["dash.html", *at_night("hls.html", "index.html", "flv.html")])
async def test_closed_captions_are_shown_and_the_pictures_go_on(browser: Browser, gateway: Gateway, page: str) -> None:
    film = captioned(FILM, LINES)
    channel = gateway.channel("captioned")
    async with opened(browser, channel.url(page)) as watched:
        with push(film, channel.push, loop=True):
            await watched.plays()
            await watched.page.keyboard.press("c")
            await watched.comes_true(
                "async () => document.querySelector('.caption-texts')?.innerText.includes('LINE NUMBER')"
            )
            await watched.plays()
            assert not watched.complaints
