"""Films whose sound and pictures begin or end at different times play from their begin to their end."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from tests.support import films
from tests.support.browser import opened
from tests.support.film_captions import uploaded_film
from tests.support.gateway import Gateway
from tests.support.shared_gateway import shared_gateway

gateway = shared_gateway("chromium", "ffmpeg", MILLRACE_VOD__PRESET="ultrafast")

HEARD = "document.querySelector('video').webkitAudioDecodedByteCount"


@pytest.mark.parametrize(
    ("name", "pictures", "sound", "moments"),
    [
        ("late-sound.mp4", (0, 36), (15, 36), (0, 14, 33)),
        ("late-pictures.mp4", (15, 36), (0, 36), (0, 14, 33)),
        ("short-sound.mp4", (0, 130), (0, 3), (0, 2, 127)),
        ("short-pictures.mp4", (0, 3), (0, 130), (0, 2, 127)),
    ],
)
async def test_a_film_plays_at_any_moment(
    browser: Browser, gateway: Gateway, name: str, pictures: tuple[int, int], sound: tuple[int, int],
    moments: tuple[int, ...],
) -> None:  # fmt: skip
    key = uploaded_film(gateway, films.uneven(name, pictures, sound))
    async with opened(browser, f"http://127.0.0.1:{gateway.ports['http']}/vod/{key}/") as watched:
        await watched.page.locator("#start").click()
        for moment in moments:
            await watched.page.locator("video").evaluate("(video, at) => { video.currentTime = at; }", moment)
            await watched.plays_past(moment + 2, within=20)
            now = await watched.video()
            assert now["width"] and now["time"] < moment + 8, now
        assert await watched.page.evaluate(HEARD) > 0
        assert not watched.complaints
