"""The real program as a subprocess on free ports, with channels created through the admin API."""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from tests.support import fork_server
from tests.support.time_outs import at_most

START_WITHIN = 60.0  # seconds; it takes one or two, but a test machine may be busy
FAR = "2035-12-31"
# For a program of its own: a default port that another test uses would be said in its log.
ANY_PORTS: Final = {f"MILLRACE_{name}__PORT": "0" for name in ("RTMP", "HTTP", "WS", "ADMIN", "WEBRTC", "SRT")}
_FAULT = re.compile(
    r"^.*(?:(?:Runtime|Resource)Warning: (?!Enable)|Exception ignored in|was never retrieved|Task was destroyed).*$",
    re.MULTILINE,
)


def faults(log: str) -> list[str]:
    """The lines in which Python reports an unawaited coroutine or an unclosed resource."""
    return _FAULT.findall(log)


@dataclass(frozen=True)
class Reply:
    """An HTTP answer with any status."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        return json.loads(self.body)


def http(
    method: str, url: str, *, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 15.0
) -> Reply:
    """Sends one HTTP request with a JSON body. An error status raises no exception."""
    data = None if body is None else json.dumps(body).encode()
    send = {**(headers or {}), **({"Content-Type": "application/json"} if data is not None else {})}
    request = urllib.request.Request(url, data=data, headers=send, method=method)
    try:
        with urllib.request.urlopen(request, timeout=at_most(timeout)) as reply:
            return Reply(reply.status, {k.lower(): v for k, v in reply.headers.items()}, reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


@dataclass(frozen=True)
class Channel:
    """A channel of a running gateway, with its public addresses."""

    gateway: "Gateway"
    item: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.item["id"])

    @property
    def key(self) -> str:
        """The stored key, `<expiry>-<hash>`."""
        return str(self.item["key"])

    @property
    def obs_server(self) -> str:
        return f"rtmp://127.0.0.1:{self.gateway.ports['rtmp']}/stream"

    @property
    def obs_key(self) -> str:
        return f"{self.id}?sign={self.key}"

    @property
    def push(self) -> str:
        """The URL for ffmpeg to publish to."""
        return f"{self.obs_server}/{self.obs_key}"

    @property
    def rtmp(self) -> str:
        """The URL for RTMP players."""
        return f"{self.obs_server}/{self.id}"

    @property
    def srt_push(self) -> str:
        """The address to push to over SRT."""
        return f"{self.srt_server}?streamid=publish:{self.id}?sign={self.key}"

    @property
    def srt(self) -> str:
        """The address for players of SRT."""
        return f"{self.srt_server}?streamid=read:{self.id}"

    @property
    def srt_server(self) -> str:
        return f"srt://127.0.0.1:{self.gateway.ports['srt']}"

    def url(self, path: str) -> str:
        """A playback URL: `live.flv`, `live.m3u8`, `master.m3u8`, `manifest.mpd`, a player page …"""
        return f"http://127.0.0.1:{self.gateway.ports['http']}/{self.id}/{path}"

    def session(self) -> dict[str, Any]:
        """The live state from the admin API."""
        reply = self.gateway.api("GET", f"/videostream/{self.id}/session")
        assert reply.status == 200, f"session of {self.id}: {reply.status} {reply.text[:300]}"
        return dict(reply.json())

    def wait_live(self, timeout: float = 20.0) -> None:
        """Waits until the channel's publisher is accepted."""
        self._wait(lambda: self.session()["state"] == "live", "live", timeout)

    def wait_playable(self, *paths: str, timeout: float = 20.0) -> None:
        """Waits until all these files answer 200."""
        for path in paths:
            self._wait(lambda path=path: http("GET", self.url(path)).status == 200, f"serving {path}", timeout)

    def _wait(self, condition: Any, what: str, timeout: float) -> None:
        limit = at_most(timeout)
        end = time.monotonic() + limit
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"{self.id} is not {what} after {limit:.0f} s\n{self.gateway.log[-2000:]}")
            time.sleep(0.1)


class Gateway:
    """A running gateway with its own data folder, admin token and log."""

    program: ClassVar[tuple[str, ...]] = ("gateway", "serve")
    forks_workers: ClassVar[bool] = True  # see `fork_server.start`

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(exist_ok=True)
        self.token = secrets.token_urlsafe(24)
        self.ports: dict[str, int] = {}
        env = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
        env |= ANY_PORTS
        env["MILLRACE_SRT__SRTLA_PORT"] = "0"
        env |= {f"MILLRACE_{name}__HOST": "127.0.0.1" for name in ("RTMP", "HTTP", "WS", "WEBRTC", "SRT")}
        env |= {"MILLRACE_DATA": str(self.data), "MILLRACE_ADMIN__TOKEN": self.token, **settings}
        with (folder / "gateway.log").open("wb") as log:
            self.process = fork_server.start(self.program, env, log, forks_workers=self.forks_workers)

    @property
    def log(self) -> str:
        """Its output until now."""
        return (self.folder / "gateway.log").read_text(errors="replace")

    def wait_ready(self) -> None:
        """Waits until `ports.json` reports all listeners as open."""
        limit = at_most(START_WITHIN)
        end = time.monotonic() + limit
        ports = self.data / "ports.json"
        while not ports.exists():
            if self.process.poll() is not None:
                raise AssertionError(f"the gateway ended with {self.process.returncode}: {self.log[-3000:]}")
            if time.monotonic() > end:
                raise AssertionError(f"the gateway is not ready after {limit:.0f} s: {self.log[-3000:]}")
            time.sleep(0.02)
        self.ports = json.loads(ports.read_text())

    def api(self, method: str, path: str, body: Any = None) -> Reply:
        """Sends a request with the token to the admin API."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return http(method, f"http://127.0.0.1:{self.ports['admin']}{path}", body=body, headers=headers)

    def channel(self, name: str = "test", **fields: Any) -> Channel:
        """Creates a channel that does not expire soon, by default with all packagers enabled."""
        body = {"name": name, "isFlv": True, "isHls": True, "isCMAF": True, "isVideo": False, "isImage": False}
        body |= {"isMotion": False, "isOnDemand": False, "hls_time": "1", "hls_list_size": "6", "outdate": FAR}
        reply = self.api("POST", "/videostream", body | fields)
        assert reply.status in (200, 201), f"POST /videostream: {reply.status} {reply.text[:500]}"
        return Channel(self, reply.json())

    def stop(self, timeout: float = 40.0) -> int:
        """Sends SIGTERM and returns the exit code. Fails, after a kill, if the gateway does not end in time."""
        limit = at_most(timeout)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(limit)
            assert not faults(self.log), faults(self.log)
            return code
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the gateway did not end within {limit:.0f} s: {self.log[-2000:]}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


@contextlib.contextmanager
def running(expected: int = 0, **settings: str) -> Iterator[Gateway]:
    """Runs a gateway during a `with` block; it must end with the expected code. settings: MILLRACE_ variables."""
    with tempfile.TemporaryDirectory(prefix="millrace-gateway-") as name:
        gateway = Gateway(Path(name), **settings)
        try:
            gateway.wait_ready()
            yield gateway
        except BaseException:
            with contextlib.suppress(AssertionError):
                gateway.stop(10)
            raise
        assert gateway.stop() == expected, gateway.log[-3000:]


class Edge(Gateway):
    """A running playback edge."""

    program = ("proxy",)

    def url(self, channel: Channel, path: str) -> str:
        """The playback URL of a channel on this edge."""
        return f"http://127.0.0.1:{self.ports['http']}/{channel.id}/{path}"

    def get(self, channel: Channel, path: str, **headers: str) -> Reply:
        return http("GET", self.url(channel, path), headers=headers)

    def metrics(self) -> dict[str, float]:
        """The values of /metrics by name and labels."""
        reply = self.api("GET", "/metrics")
        assert reply.status == 200, reply.text
        pairs = (line.rpartition(" ") for line in reply.text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}
