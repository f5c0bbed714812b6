"""The WebRTC load client, started and read: viewers, publishers, the bad network between a client and a server."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bench.harness import paths
from bench.harness.clients import Client, url_list
from bench.harness.procs import BenchError, Process


class WebRtcClient(Client):
    """webrtcload with one of its commands and a list of URLs."""

    def __init__(self, command: str, urls: list[str], *options: object) -> None:
        self.list = url_list(urls)
        words = [str(x) for x in (paths.BUILD / "webrtcload", command, "-list", self.list, *options)]
        self.process = Process(command, words, cwd=paths.BUILD, log=paths.LOGS / f"{command}.log", capture=True)


class WhepViewers(WebRtcClient):
    """n viewers over the URLs in turn; `until` gives their report."""

    def __init__(self, urls: list[str], n: int, seconds: float, *options: object, rate: float = 50) -> None:
        super().__init__("whep", urls, "-n", n, "-seconds", seconds, "-rate", rate, *options)


class WhipPublishers(WebRtcClient):
    """One publisher per URL, H.264 with Opus, returned once all of them are live."""

    def __init__(self, urls: list[str], *options: object) -> None:
        super().__init__("whip", urls, "-file", paths.VIDEO, "-sound", paths.SOUND, *options)
        word, _, live = self.process.line().strip().partition(" ")
        if word != "PUBLISHING" or int(live) != len(urls):
            log = self.process.log
            self.stop()
            raise BenchError(f"only {live or 0} of {len(urls)} WHIP publishers were accepted (log: {log})")

    def finish(self) -> dict[str, Any]:
        """Ends them and returns their report."""
        report = self.report(self.process.finish(10))
        self.list.unlink(missing_ok=True)
        return report


class BadNetwork:
    """webrtcload forward before a server's HTTP address. A context manager."""

    def __init__(self, url: str, loss: float, rtt: float, jitter: float = 0) -> None:
        parts = urlsplit(url)
        numbers = [str(x) for x in ("-loss", loss, "-rtt", rtt, "-jitter", jitter)]
        command = [paths.BUILD / "webrtcload", "forward", "-server", f"http://{parts.netloc}", *numbers]
        self.process = Process("forward", command, cwd=paths.BUILD, log=paths.LOGS / "forward.log", capture=True)
        word, _, port = self.process.line().strip().partition(" ")
        if word != "LISTENING":
            raise self.process.died()
        self._netloc = f"127.0.0.1:{port}"

    def url(self, url: str) -> str:
        """The address of the same resource behind the bad network."""
        return urlunsplit(urlsplit(url)._replace(netloc=self._netloc))

    def stop(self) -> None:
        self.process.stop(3)

    def finish(self) -> dict[str, int]:
        """Ends it and returns what it counted: forwarded, dropped, overflow, clients."""
        counted: dict[str, int] = json.loads(self.process.finish(5))
        return counted
