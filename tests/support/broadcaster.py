"""Drives the broadcaster page in Chromium, with its fake cameras."""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page

from tests.support.browser import Watched, opened
from tests.support.gateway import Channel
from tests.support.time_outs import at_most

CAMERAS = ("--use-fake-device-for-media-stream=device-count=2", "--use-fake-ui-for-media-stream")

# A browser without Chromium's streams of pictures, as Firefox and Safari are.
NO_STREAMS = "delete globalThis.MediaStreamTrackProcessor; delete globalThis.MediaStreamTrackGenerator;"

# Chromium encodes 360p with a quarter of the CPU of 720p, the usual size. A choice of the test stays.
_SMALL = """if (location.protocol.startsWith("http"))
  localStorage["millrace.broadcast"] ??= JSON.stringify({ size: "360p" });"""


@dataclass
class Broadcaster:
    """The broadcaster page of one channel."""

    watched: Watched

    @property
    def page(self) -> Page:
        return self.watched.page

    @property
    def complaints(self) -> list[str]:
        return self.watched.complaints

    async def choose(self, way: str) -> None:
        """Selects the sending method: frames or container."""
        await self.page.locator("#advanced-card summary").click()
        await self.page.get_by_label("Sending method").select_option(way)

    async def go_live(self) -> None:
        """Presses "Go live" and waits until the server has accepted the push."""
        await self.press("Go live")
        await self.says("Live")

    async def stop(self) -> None:
        """Presses "Stop" and waits until the push has ended."""
        await self.press("Stop")
        await self.says("Not live")

    async def press(self, name: str) -> None:
        await self.page.get_by_role("button", name=name, exact=True).click()

    async def says(self, state: str, within: float = 20.0) -> None:
        """Waits until the page shows exactly this state; fails with the shown state."""
        place = self.page.locator("#state", has_text=re.compile(f"^{re.escape(state)}$"))
        try:
            await place.wait_for(timeout=within * 1000)
        except Exception as error:
            raise AssertionError(
                f"not {state!r} but {await self.page.locator('#state').inner_text()!r}, {await self.notice()!r}, "
                f"{await self.log()}, {self.complaints[:4]}"
            ) from error

    async def notices(self, words: str, within: float = 20.0) -> None:
        """Waits until the alert of the page contains these words."""
        await self.page.locator("#notice", has_text=words).wait_for(timeout=at_most(within * 1000))

    async def notice(self) -> str:
        """The text of the alert, or "" without one."""
        place = self.page.locator("#notice")
        return (await place.inner_text()).strip() if await place.is_visible() else ""

    async def log(self) -> list[str]:
        """The lines of the details pane."""
        return list(await self.page.locator("#log li").evaluate_all("all => all.map((line) => line.textContent)"))


@contextlib.asynccontextmanager
async def from_console(browser: Browser, channel: Channel, **options: Any) -> AsyncIterator[Broadcaster]:
    """Opens the console's broadcaster page of this channel, signed in."""
    base = f"http://127.0.0.1:{channel.gateway.ports['admin']}"

    async def sign_in(context: BrowserContext) -> None:
        body = json.dumps({"password": channel.gateway.token})
        reply = await context.request.post(f"{base}/login", data=body, headers={"Content-Type": "application/json"})
        assert reply.ok, await reply.text()

    prepare = _prepare(options, sign_in)
    async with opened(browser, f"{base}/console/broadcast.html#{channel.id}", prepare=prepare, **options) as watched:
        yield Broadcaster(watched)


@contextlib.asynccontextmanager
async def from_key(
    browser: Browser, channel: Channel, key: str | None = None, **options: Any
) -> AsyncIterator[Broadcaster]:
    """Opens the broadcaster page of the playback listener.

    key: the stream key behind the `#`. None: that of the channel, "": no key.
    """
    fragment = channel.obs_key if key is None else key
    url = f"http://127.0.0.1:{channel.gateway.ports['http']}/broadcast.html{'#' if fragment else ''}{fragment}"
    async with opened(browser, url, prepare=_prepare(options), **options) as watched:
        yield Broadcaster(watched)


def _prepare(options: dict[str, Any], *steps: Any) -> Any:
    """Prepares the browser context from `options`.

    script: runs before the scripts of the page. granted: allows camera and microphone. prepare: an additional step.
    usual: the page begins with its usual size of the picture.
    """
    steps += (options.pop("prepare"),) if "prepare" in options else ()
    script, granted = options.pop("script", ""), options.pop("granted", True)
    if not options.pop("usual", False):
        script = f"{script}\n;{_SMALL}"
    options.setdefault("locale", "en-US")

    async def prepare(context: BrowserContext) -> None:
        if granted:
            await context.grant_permissions(["camera", "microphone"])
        if script:
            await context.add_init_script(script)
        for step in steps:
            await step(context)

    return prepare


class SlowProxy:
    """A TCP proxy that limits the bytes per second towards one port. None: no limit."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.rate: int | None = None
        self.port = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["SlowProxy"]:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # unread bytes wait at the sender
        server = await asyncio.start_server(self._serve, sock=listener, limit=4096)
        self.port = listener.getsockname()[1]
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await asyncio.open_connection("127.0.0.1", self._to)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self._carry(reader, onward[1], slow=True), self._carry(onward[0], writer, slow=False))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool) -> None:
        try:
            while data := await reader.read(2048):
                writer.write(data)
                await writer.drain()
                if slow and self.rate is not None:
                    await asyncio.sleep(len(data) / self.rate)
        finally:
            writer.close()
