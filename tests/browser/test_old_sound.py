"""Sound that browsers do not play in fragments of MP4 is heard on the pages that use them."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from tests.support.at_night import at_night
from tests.support.browser import opened
from tests.support.clients import Program
from tests.support.gateway import Gateway
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

gateway = shared_gateway("chromium", "ffmpeg")
FILM = (
    *("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15", "-f", "lavfi", "-i", "sine", "-c:v", "libx264", "-g", "15"),
    *("-preset", "ultrafast", "-bf", "0", "-pix_fmt", "yuv420p", "-c:a", "libmp3lame", "-ac", "2"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("page", "protocol"),
    [("hls.html", "srt"), ("dash.html", "rtmp"), *at_night(("hls.html", "rtmp"), ("dash.html", "srt"))],
)
async def test_mp3_has_sound(page: str, protocol: str, browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(protocol)
    target = ("flv", channel.push) if protocol == "rtmp" else ("mpegts", channel.srt_push)
    with Program(["ffmpeg", "-nostdin", "-v", "error", "-re", *FILM, "-f", *target]):
        async with opened(browser, channel.url(page)) as player:
            await player.plays(10)
            heard = "() => document.querySelector('video').webkitAudioDecodedByteCount > 5000"
            await player.page.wait_for_function(heard, timeout=at_most(15_000))
            assert [track["codec"] for track in channel.session()["tracks"]] == ["h264", "aac"]
