"""Debian's Firefox, headless, driven by WebDriver BiDi without a driver program.

Source: https://www.w3.org/TR/webdriver-bidi/. Firefox prints the address of its BiDi socket; commands and answers are
JSON messages with an id.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import re
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect

from tests.support.clients import Program
from tests.support.time_outs import at_most

# Settings for tests: the browser sends no own requests, pages may play without a click, and cameras are fake.
_PREFERENCES: Final[dict[str, bool | int | str]] = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.provider.mozilla.updateURL": "",
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage": "about:blank",
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.min_background_timeout_value": 4,
    "extensions.update.enabled": False,
    "media.autoplay.default": 0,
    # Without a sound card, AudioContext would not begin.
    "media.cubeb.force_mock_context": True,
    "media.gmp-manager.url": "",
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": True,
    # Loopback only. A page without a permission for cameras would get only the addresses of the default route.
    "media.peerconnection.ice.force_interface": "lo",
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "permissions.default.camera": 1,
    "permissions.default.microphone": 1,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}
_START_SECONDS: Final = 40.0
_COMMAND_SECONDS: Final = 30.0


class FirefoxError(Exception):
    """A command was refused, or a script of a page raised an exception."""


class Tab:
    """A page in the browser."""

    def __init__(self, browser: Firefox, context: str) -> None:
        self._browser = browser
        self._context = context

    async def goto(self, url: str) -> None:
        """Loads a URL and waits. A page with an error status counts as loaded."""
        await self._browser.command("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def evaluate(self, function: str, argument: object = None) -> Any:
        """Calls a JavaScript function, also an async one, with a JSON value; returns its result, a JSON value."""
        text = f"(async () => JSON.stringify(await ({function})({json.dumps(argument)})) ?? 'null')()"
        answer = await self._browser.command(
            "script.evaluate",
            expression=text,
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        if answer["type"] == "exception":
            raise FirefoxError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])

    async def until(self, function: str, what: str, seconds: float = 20.0) -> Any:
        """Returns the first true value of a JavaScript function; fails with the text of the page."""
        limit = at_most(seconds)
        end = time.monotonic() + limit
        while not (value := await self.evaluate(function)):
            if time.monotonic() > end:
                shown = await self.evaluate("() => document.body.innerText.slice(0, 400)")
                raise AssertionError(f"after {limit:.0f} s still not: {what}; the page shows {shown!r}")
            await asyncio.sleep(0.1)
        return value

    async def click(self, name: str) -> None:
        """Clicks the button with this text. The click counts as a user activation."""
        find = "(name) => [...document.querySelectorAll('button')].find((b) => b.innerText.trim() === name).click()"
        await self.evaluate(find, name)

    async def text(self, selector: str) -> str:
        """The visible text of an element."""
        return str(await self.evaluate("(s) => document.querySelector(s).innerText.trim()", selector))

    async def screenshot(self, path: Path) -> None:
        answer = await self._browser.command("browsingContext.captureScreenshot", context=self._context)
        path.write_bytes(base64.b64decode(answer["data"]))

    async def close(self) -> None:
        await self._browser.command("browsingContext.close", context=self._context)


class Firefox:
    """A running browser, created by `firefox`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def before_pages(self, function: str) -> None:
        """Calls a JavaScript function in each later page before its own scripts."""
        await self.command("script.addPreloadScript", functionDeclaration=function)

    async def command(self, method: str, **parameters: object) -> dict[str, Any]:
        """Sends one command at a time. Raises `FirefoxError` for errors, `TimeoutError` without an answer."""
        number = next(self._numbers)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        async with asyncio.timeout(at_most(_COMMAND_SECONDS)):
            while (answer := json.loads(await self._socket.recv())).get("id") != number:
                pass  # an event
        if answer["type"] == "error":
            raise FirefoxError(f"{method}: {answer['error']}: {answer['message']}")
        return dict(answer["result"])

    @contextlib.asynccontextmanager
    async def tab(self, url: str) -> AsyncIterator[Tab]:
        """Opens a page at `url` and closes it after the block."""
        tab = Tab(self, (await self.command("browsingContext.create", type="tab"))["context"])
        try:
            await tab.goto(url)
            yield tab
        finally:
            await tab.close()


@contextlib.asynccontextmanager
async def firefox() -> AsyncIterator[Firefox]:
    """Starts a browser with a new profile."""
    with tempfile.TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True) as folder:
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _PREFERENCES.items()]
        Path(folder, "user.js").write_text("".join(lines))
        command = ["firefox-esr", "--headless", "--no-remote", "--remote-debugging-port=0", "--profile", folder]
        with Program(command, env={"HOME": folder}) as program:
            address = await _address(program)
            async with connect(f"{address}/session", max_size=None, open_timeout=at_most(_START_SECONDS)) as socket:
                browser = Firefox(socket)
                await browser.command("session.new", capabilities={})
                yield browser


async def _address(program: Program) -> str:
    end = time.monotonic() + at_most(_START_SECONDS)
    while not (match := re.search(r"WebDriver BiDi listening on (ws://\S+)", program.errors)):
        if time.monotonic() > end or not program.running:
            raise AssertionError(f"Firefox does not start: {program.errors[-600:]}")
        await asyncio.sleep(0.1)
    return match[1]
