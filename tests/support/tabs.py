"""A Chromium whose background tabs are really hidden, unlike those of playwright.

It uses the browser's debugging protocol, only as far as tests of hidden tabs need it.
"""

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.support.time_outs import at_most


class Tab:
    """One tab, which can evaluate scripts and come to the front."""

    def __init__(self, window: "Window", target: str, session: str) -> None:
        self._window = window
        self._target = target
        self._session = session

    async def evaluate(self, expression: str) -> Any:
        """Returns the awaited value of an expression. Fails with the exception of the script."""
        said = await self._window.call(
            "Runtime.evaluate", self._session, expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def until(self, expression: str, within: float = 20.0) -> None:
        """Waits until the expression is true."""
        async with asyncio.timeout(at_most(within)):
            while not await self.evaluate(expression):
                await asyncio.sleep(0.1)

    async def start(self, script: str, url: str) -> None:
        """Loads `url`; `script` runs before the scripts of the page."""
        await self._window.call("Page.enable", self._session)
        await self._window.call("Page.addScriptToEvaluateOnNewDocument", self._session, source=script)
        await self._window.call("Page.navigate", self._session, url=url)

    async def to_front(self) -> None:
        await self._window.call("Target.activateTarget", targetId=self._target)


class Window:
    """A browser with one window and several tabs."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Sends one command of the protocol and returns its answer. Events are ignored."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        await self._socket.send(json.dumps(message))
        while True:
            said = json.loads(await self._socket.recv())
            if said.get("id") == number:
                assert "error" not in said, said
                return dict(said["result"])

    async def tab(self, url: str) -> Tab:
        """Opens a new tab in the front."""
        target = (await self.call("Target.createTarget", url=url))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        return Tab(self, target, session)


@contextlib.asynccontextmanager
async def window(*flags: str) -> AsyncIterator[Window]:
    """Runs a headless Chromium during a `with` block."""
    with tempfile.TemporaryDirectory(prefix="millrace-tabs-", ignore_cleanup_errors=True) as folder:
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-port=0",
            f"--user-data-dir={folder}",
        ]
        command = [str(shutil.which("chromium")), *options, *flags, "about:blank"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            async with connect(await asyncio.to_thread(_address, process), max_size=None) as socket:
                yield Window(socket)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stderr is not None
            process.stderr.close()


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"listening on (ws://\S+)", line):
            return found[1]
    raise AssertionError("Chromium ended before it listened")
