"""A program of a transport stream leaves out its sound or its pictures within a push, and the open pages go on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from playwright.async_api import Browser

from tests.support import films
from tests.support.browser import Watched, opened
from tests.support.gateway import Channel, Gateway
from tests.support.shared_gateway import shared_gateway
from tests.support.srt import call
from tests.support.time_outs import at_most
from tests.unit.formats.ts.test_program_reader import pid_at, pmt, section_packet

PAGES = ["hls.html", "dash.html", "flv.html", "index.html"]
PICTURES, SOUND = (0x1B, 0x100, b""), (0x0F, 0x101, b"")
PMT_PID, SECONDS = 0x1000, 150
VIDEO = "document.querySelector('video')"

gateway = shared_gateway("chromium", "ffmpeg")


class Sender:
    """Pushes a film over SRT in real time. streams: of its program map; packets of others are left out."""

    def __init__(self, channel: Channel) -> None:
        film = films.film(
            "program.ts", *("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15", "-f", "lavfi", "-i", "sine"),
            *("-t", str(SECONDS), "-c:v", "libx264", "-preset", "ultrafast", "-g", "15", "-bf", "0"),
            *("-pix_fmt", "yuv420p", "-c:a", "aac", "-f", "mpegts"),
        )  # fmt: skip
        data = film.read_bytes()
        self._packets = [data[at : at + 188] for at in range(0, len(data), 188)]
        self._channel, self._version, self._stop = channel, 0, threading.Event()
        self._streams = [PICTURES, SOUND]
        self._thread = threading.Thread(target=self._send)

    def leave_only(self, *streams: tuple[int, int, bytes]) -> None:
        self._streams, self._version = list(streams), self._version + 1

    def _send(self) -> None:
        channel, sent, began = self._channel, 0, time.monotonic()
        with call(channel.gateway.ports["srt"], f"publish:{channel.id}?sign={channel.key}") as peer:
            while not self._stop.is_set():
                until = min(len(self._packets), int((time.monotonic() - began) / SECONDS * len(self._packets)))
                data = b"".join(map(self._changed, self._packets[sent:until]))
                peer.push([data[at : at + 1316] for at in range(0, len(data), 1316)])
                sent = until
                peer.run(0.02)

    def _changed(self, packet: bytes) -> bytes:
        pid = pid_at(packet, 0)
        if pid == PMT_PID:
            return section_packet(PMT_PID, pmt(1, self._streams, self._version), packet[3] & 15)
        return packet if pid < 0x100 or pid in [stream[1] for stream in self._streams] else b""

    @asynccontextmanager
    async def sends(self) -> AsyncIterator[Sender]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            await asyncio.to_thread(self._thread.join)


async def plays(watched: Watched) -> None:
    await watched.plays()


async def plays_on(watched: Watched) -> None:
    """Plays for longer than it has buffered media of before."""
    await watched.plays_past((await watched.video())["time"] + 6)


async def is_heard_alone(watched: Watched) -> None:
    alone = f"(at) => {VIDEO}.videoWidth === 0 && {VIDEO}.currentTime > 1"
    await watched.page.wait_for_function(alone, timeout=at_most(25_000))
    at = (await watched.video())["time"]
    await watched.page.wait_for_function(f"(at) => {VIDEO}.currentTime > at + 2", arg=at, timeout=at_most(10_000))
    assert await watched.says() == "Live"


async def shows_pictures(watched: Watched) -> None:
    await watched.page.wait_for_function(f"() => {VIDEO}.videoWidth === 320", timeout=at_most(25_000))
    await watched.plays(10)
    assert await watched.says() == "Live"


async def test_open_pages_go_on_with_the_rest_of_a_program(gateway: Gateway, browser: Browser) -> None:
    channel = gateway.channel("program", isCMAF=True, isHls=True, hls_time="1")
    async with Sender(channel).sends() as sender, pages_of(browser, channel) as each:
        await each(plays)
        sender.leave_only(PICTURES)
        await each(plays_on)
        sender.leave_only(PICTURES, SOUND)
        await each(plays_on)
        sender.leave_only(SOUND)
        await each(is_heard_alone)
        sender.leave_only(PICTURES, SOUND)
        await each(shows_pictures)


@asynccontextmanager
async def pages_of(
    browser: Browser, channel: Channel
) -> AsyncIterator[Callable[[Callable[[Watched], Awaitable[None]]], Awaitable[None]]]:
    """Opens the pages. The yielded function runs a check for all of them, and names those that fail."""
    async with AsyncExitStack() as stack:
        watched = [await stack.enter_async_context(opened(browser, channel.url(page))) for page in PAGES]

        async def each(check: Callable[[Watched], Awaitable[None]]) -> None:
            ends = await asyncio.gather(*map(check, watched), return_exceptions=True)
            wrong = [f"{page}: {end}" for page, end in zip(PAGES, ends, strict=True) if end is not None]
            assert not wrong, f"{check.__name__}:\n" + "\n".join(wrong)

        yield each
