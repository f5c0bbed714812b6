"""A player page behind the deployed HAProxy uses one HTTP/2 connection, also for WebSockets."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

from playwright.async_api import Browser

from tests.support.authority import Authority
from tests.support.browser import opened
from tests.support.clients import push
from tests.support.farm import farm
from tests.support.haproxy import Front, haproxy
from tests.support.media import SMALL
from tests.support.names import name_server
from tests.support.time_outs import at_most
from tests.support.tools import need

_PROTOCOLS = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .map((entry) => entry.nextHopProtocol)"""
_MESSAGES = """(url) => new Promise((told) => {
  const socket = new WebSocket(url);
  let messages = 0;
  socket.onmessage = () => { messages += 1; if (messages === 50) { socket.close(); told(messages); } };
  socket.onerror = () => told(-1);
})"""


def connections(front: Front) -> int:
    """Returns the number of connections that the playback frontend has accepted."""
    rows = csv.DictReader(front.ask("show stat -1 1 -1").removeprefix("# ").splitlines())
    return next(int(row["conn_tot"]) for row in rows if row["pxname"] == "playback")


async def test_a_page_and_ws_flv_play_over_one_http2_connection(tmp_path: Path, browser: Browser) -> None:
    need("chromium", "ffmpeg", "haproxy")
    await asyncio.to_thread(SMALL.path)
    certificate = tmp_path / "front.pem"
    certificate.write_bytes(b"".join(path.read_bytes() for path in Authority(tmp_path).files("localhost")))
    with name_server() as names, farm(names, 1) as site, haproxy(names.address, certificate, **site.variables) as front:
        front.wait_up("rtmp-ready", *site.gateways)
        front.wait_up("playback-ready", *site.gateways)
        channel = site.channel()
        address = f"https://localhost:{front.ports['https']}/{channel.id}"
        with push(SMALL, f"rtmp://127.0.0.1:{front.ports['rtmp']}/stream/{channel.obs_key}", loop=True):
            await asyncio.to_thread(site.holder, channel)
            async with (
                opened(browser, f"{address}/flv.html", ignore_https_errors=True) as watched,
            ):
                await watched.plays()
                assert set(await watched.page.evaluate(_PROTOCOLS)) == {"h2"}
                before = connections(front)
                socket = address.replace("https://", "wss://") + "/live.flv"
                async with asyncio.timeout(at_most(20)):
                    assert await watched.page.evaluate(_MESSAGES, socket) == 50
                assert connections(front) == before, "RFC 8441: on the connection that is there"
                assert not watched.complaints
