"""A frame of sound that no decoder reads: Chromium gives up the media element, and each page plays on."""

from pathlib import Path

import pytest
from playwright.async_api import Browser

from gateway.formats.flv import muxer
from gateway.formats.flv.tag import AUDIO
from tests.support.at_night import at_night
from tests.support.browser import opened
from tests.support.clients import push
from tests.support.flv_reader import FlvReader
from tests.support.gateway import Gateway
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway

FILM = Film("damaged-sound", rate=15, gop=15, seconds=30)
AT = 4000  # ms
# When the page lost its media for the last time; 0: never.
WATCH = """() => { const video = document.querySelector("video"); window.broken = 0;
  for (const event of ["error", "emptied"]) {
    video.addEventListener(event, () => { if (window.broken || video.error) window.broken = performance.now(); });
  } }"""
# A repair may play a little, and meet the damaged frame again.
PLAYS_ON = """async () => window.broken && performance.now() - window.broken > 4000
  && document.querySelector("#state").innerText.trim() === "Live" && !document.querySelector("video").paused"""

gateway = shared_gateway("chromium", "ffmpeg", films=[FILM])


def damaged(film: bytes) -> bytes:
    """An FLV file whose first frame of sound after `AT` has lost its second half."""
    tags = FlvReader().receive(film)
    broken = next(tag for tag in tags if tag.type_id == AUDIO and tag.timestamp > AT)
    broken.payload = broken.payload[: len(broken.payload) // 2]
    return muxer.file_header(True, True) + b"".join(muxer.tag(one.type_id, one.timestamp, one.payload) for one in tags)


@pytest.mark.parametrize("page", ["hls.html", *at_night("index.html", "dash.html", "flv.html")])
async def test_a_damaged_frame_of_sound_does_not_end_playback(
    browser: Browser, gateway: Gateway, tmp_path: Path, page: str
) -> None:
    film = tmp_path / "film.flv"
    film.write_bytes(damaged(FILM.path().read_bytes()))
    channel = gateway.channel("damaged", isFlv=True, hls_time="1")
    async with opened(browser, channel.url(page)) as watched:
        await watched.page.evaluate(WATCH)
        with push(film, channel.push):
            await watched.comes_true(PLAYS_ON)
            await watched.plays()
