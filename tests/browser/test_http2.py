"""Pages over HTTP/2 of the gateway itself, and more players of one host than HTTP/1.1 has connections."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.support.authority import Authority
from tests.support.browser import opened
from tests.support.clients import push
from tests.support.curl import command
from tests.support.gateway import running
from tests.support.media import SMALL
from tests.support.tools import need

_PLAYERS = 8  # Chromium opens six connections of HTTP/1.1 to one host
_PAGE = """([address, count]) => { for (let i = 0; i < count; i++) {
  const frame = document.createElement("iframe");
  frame.src = `${address}/flv.html?embed`; frame.allow = "autoplay"; document.body.append(frame); } }"""
_PROTOCOLS = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .map((entry) => entry.nextHopProtocol)"""


@pytest.mark.parametrize("http2", [True, False], ids=["with HTTP/2", "without"])
async def test_eight_players_of_one_host_play_over_http2(tmp_path: Path, browser: Browser, http2: bool) -> None:
    need("chromium", "ffmpeg", "curl")
    await asyncio.to_thread(SMALL.path)
    authority = Authority(tmp_path)
    cert, key = authority.files("localhost")
    settings = {f"MILLRACE_{name}__PORT": "0" for name in ("HTTPS", "RTMPS", "WSS")}
    settings |= {"MILLRACE_TLS__CERT": str(cert), "MILLRACE_TLS__KEY": str(key), "MILLRACE_ADMIN__TLS": "false"}
    with running(**settings, MILLRACE_HTTP__HTTP2=json.dumps(http2)) as gateway:
        site = f"https://localhost:{gateway.ports['https']}"
        arguments = command(f"{site}/", cert, "--insecure", "--output", "/dev/null", "--write-out", "%{http_version}")
        assert subprocess.check_output(arguments, text=True) == ("2" if http2 else "1.1")
        if not http2:
            return
        channel = gateway.channel()
        address = f"{site}/{channel.id}"
        with push(SMALL, channel.push, loop=True):
            async with opened(browser, f"{address}/", ignore_https_errors=True) as watched:
                await watched.plays()
                assert set(await watched.page.evaluate(_PROTOCOLS)) == {"h2"}
                await watched.page.goto(f"{site}/healthcheck")
                await watched.page.evaluate(_PAGE, [address, _PLAYERS])
                playing = watched.page.frames[1:]
                assert len(playing) == _PLAYERS
                for frame in playing:
                    await frame.wait_for_function("() => (document.querySelector('video')?.currentTime ?? 0) > 1")
                assert not watched.complaints
