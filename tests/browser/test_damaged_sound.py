"""A frame of sound that no decoder reads: Chromium gives up the media element, and each page plays on."""

from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.support.at_night import at_night
from tests.support.browser import opened
from tests.support.clients import Program
from tests.support.gateway import Gateway
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway

FILM = Film("damaged-sound", rate=15, gop=15, seconds=30)
AT = 4000  # ms
COUNT = """() => { const video = document.querySelector("video"); window.broken = 0;
  video.addEventListener("error", () => { window.broken += 1; }); }"""

gateway = shared_gateway("chromium", "ffmpeg", films=[FILM])


def damaged(film: bytes) -> bytes:
    """An FLV file whose first frame of sound after `AT` has lost its second half."""
    made, at = bytearray(film[:13]), 13
    done = False
    while at < len(film):
        size, time = int.from_bytes(film[at + 1 : at + 4]), int.from_bytes(film[at + 4 : at + 7])
        tag = film[at : at + 11 + size]
        if film[at] == 8 and time > AT and not done:
            done = True
            tag = tag[:1] + (size // 2).to_bytes(3) + tag[4 : 11 + size // 2]
        made += tag + len(tag).to_bytes(4)
        at += 11 + size + 4
    assert done
    return bytes(made)


@pytest.mark.parametrize("page", ["hls.html", *at_night("index.html", "dash.html", "flv.html")])
async def test_a_damaged_frame_of_sound_does_not_end_playback(
    browser: Browser, gateway: Gateway, tmp_path: Path, page: str
) -> None:
    film = tmp_path / "film.flv"
    film.write_bytes(damaged(FILM.path().read_bytes()))
    channel = gateway.channel("damaged", isFlv=True, hls_time="1")
    async with opened(browser, channel.url(page)) as watched:
        await watched.page.evaluate(COUNT)
        with Program(["ffmpeg", "-nostdin", "-v", "error", "-re", "-i", film, "-c", "copy", "-f", "flv", channel.push]):
            await watched.comes_true("async () => window.broken > 0")
            await watched.page.wait_for_function("() => document.querySelector('video').error === null")
            await watched.plays()
            assert await watched.says() == "Live"
