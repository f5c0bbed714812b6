"""Debian's WebKitGTK, Safari's engine with GStreamer in place of AVFoundation, driven by WebDriver.

Source: https://www.w3.org/TR/webdriver2/. A session is a browser with a new profile and one window. WebKit 2.50 writes
no console messages of such a window and has no WebDriver BiDi. So complaints are collected from the load of a page on.
"""

from __future__ import annotations

import base64
import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.support.clients import Program, until
from tests.support.free_ports import free_port
from tests.support.gateway import http
from tests.support.time_outs import at_most
from tests.support.tools import need

_START_SECONDS: Final = 30.0
_COMMAND_SECONDS: Final = 40.0
_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver §12.2: "web element identifier"
# Collects what a page complains about from its load on.
_WATCH: Final = """() => { const all = window.complaints = []; const { error } = console;
  console.error = (...words) => { all.push(words.join(" ")); error.apply(console, words); };
  addEventListener("error", ({ message }) => all.push(message));
  addEventListener("unhandledrejection", ({ reason }) => all.push(String(reason)));
  document.addEventListener("securitypolicyviolation", (e) => all.push(`${e.violatedDirective} ${e.blockedURI}`)); }"""


class WebKitError(Exception):
    """A command was refused, or a script of a page raised an exception."""


class Window:
    """The window of a session."""

    def __init__(self, address: str) -> None:
        self._address = address

    def command(self, method: str, path: str, body: object = None) -> Any:
        reply = http(method, f"{self._address}{path}", body=body, timeout=_COMMAND_SECONDS)
        value = reply.json()["value"]
        if reply.status != 200:
            raise WebKitError(f"{path}: {value['error']}: {value['message']}")
        return value

    def goto(self, url: str) -> None:
        """Loads a URL, waits, and begins to collect complaints."""
        self.command("POST", "/url", {"url": url})
        self.evaluate(_WATCH)

    def evaluate(self, function: str, argument: object = None) -> Any:
        """Calls a JavaScript function, also an async one, with a JSON value; returns its result, a JSON value."""
        script = (
            f"const done = arguments[1]; (async () => ({function})(arguments[0]))()"
            ".then((value) => done({ value: value ?? null }), (error) => done({ error: String(error) }));"
        )
        answer = self.command("POST", "/execute/async", {"script": script, "args": [argument]})
        if "error" in answer:
            raise WebKitError(f"{function[:80]}: {answer['error']}")
        return answer["value"]

    def until(self, function: str, what: str, argument: object = None, seconds: float = 20.0) -> Any:
        """Returns the first true value of a JavaScript function; fails with the text of the page."""
        limit = at_most(seconds)
        end = time.monotonic() + limit
        while not (value := self.evaluate(function, argument)):
            if time.monotonic() > end:
                shown = self.evaluate("() => [document.body.innerText.slice(0, 400), window.complaints]")
                raise AssertionError(f"after {limit:.0f} s still not: {what}; the page shows {shown!r}")
            time.sleep(0.1)
        return value

    def text(self, selector: str) -> str:
        """The visible text of an element."""
        return str(self.evaluate("(s) => document.querySelector(s).innerText.trim()", selector))

    def comes_to_say(self, state: str, seconds: float = 20.0) -> None:
        """Waits until the page shows exactly this state."""
        self.until(
            "(words) => document.querySelector('#state')?.innerText.trim() === words", state, state, seconds=seconds
        )

    def click(self, selector: str) -> None:
        self.command("POST", f"/element/{self._find(selector)}/click", {})

    def write(self, selector: str, text: str) -> None:
        """Types into a field."""
        self.command("POST", f"/element/{self._find(selector)}/value", {"text": text})

    def press(self, key: str) -> None:
        keys = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self.command("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": keys}]})

    @contextlib.contextmanager
    def frame(self, number: int) -> Iterator[None]:
        """Commands of the block go to a frame of the page."""
        self.command("POST", "/frame", {"id": number})
        try:
            yield
        finally:
            self.command("POST", "/frame", {"id": None})

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.command("GET", "/screenshot")))

    @property
    def complaints(self) -> list[str]:
        """The errors since the page was loaded."""
        return list(self.evaluate("() => window.complaints"))

    def _find(self, selector: str) -> str:
        return str(self.command("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT])


class Driver:
    """A running driver with a screen and a sound card, created by `webkit`. It has one session at a time."""

    def __init__(self, address: str) -> None:
        self._address = address

    @contextlib.contextmanager
    def window(self, *flags: str, autoplay: str = "allow") -> Iterator[Window]:
        """Starts a browser. flags: of MiniBrowser. autoplay: allow, allow-without-sound or deny."""
        browser = next(Path("/usr/lib").glob("*/webkit2gtk-4.1/MiniBrowser"))
        options = {"binary": str(browser), "args": ["--automation", f"--autoplay-policy={autoplay}", *flags]}
        wanted = {"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": options}}}
        made = http("POST", f"{self._address}/session", body=wanted, timeout=_START_SECONDS)
        assert made.status == 200, made.text
        window = Window(f"{self._address}/session/{made.json()['value']['sessionId']}")
        try:
            window.command("POST", "/window/rect", {"width": 640, "height": 480})  # without a GPU, pixels cost CPU
            yield window
        finally:
            with contextlib.suppress(WebKitError):  # it has crashed
                window.command("DELETE", "")


@contextlib.contextmanager
def webkit() -> Iterator[Driver]:
    """Starts the driver."""
    need("WebKitWebDriver", "Xvfb", "pulseaudio")
    with tempfile.TemporaryDirectory(prefix="webkit-", ignore_cleanup_errors=True) as folder, _devices(folder) as env:
        port = free_port()
        with Program(["WebKitWebDriver", f"--port={port}"], env=env):
            address = f"http://127.0.0.1:{port}"

            def answers() -> bool:
                with contextlib.suppress(OSError):
                    return http("GET", f"{address}/status").status == 200
                return False

            until(answers, "the driver of WebKit answers", _START_SECONDS)
            yield Driver(address)


@contextlib.contextmanager
def _devices(folder: str) -> Iterator[dict[str, str]]:
    """A screen and a sound card. Yields the environment of programs that use them."""
    sound, number = Path(folder, "sound"), Path(folder, "display")
    # With the locale C.UTF-8 the pages' language would be "C", which is no language.
    env = {"HOME": folder, "XDG_RUNTIME_DIR": folder, "LANG": "C", "NO_AT_BRIDGE": "1"}
    # Without a sound card, films with sound stand still.
    null_sink = ["--load=module-null-sink", f"--load=module-native-protocol-unix socket={sound} auth-anonymous=1"]
    screen = ["sh", "-c", f"exec Xvfb -displayfd 3 -screen 0 1280x900x24 -nolisten tcp 3>{number}"]
    with (
        Program(screen, env=env),
        Program(
            ["pulseaudio", "-n", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes", *null_sink], env=env
        ),
    ):
        until(
            lambda: sound.exists() and number.exists() and number.read_text().endswith("\n"),
            "screen and sound card",
            _START_SECONDS,
        )
        yield env | {"DISPLAY": f":{number.read_text().strip()}", "PULSE_SERVER": f"unix:{sound}"}
