"""The loads of a soak run that need a thread each: playlists that are read, WHEP viewers that come and go, clips."""

from __future__ import annotations

import threading
from abc import abstractmethod

from bench.harness import hls
from bench.harness.clients import Client
from bench.harness.procs import BenchError
from bench.harness.servers import Gateway
from bench.harness.webrtc import WhepViewers

STAY = 20  # seconds that a group of WHEP viewers stays
CLIP_SECONDS = 10


class Load(threading.Thread):
    """Repeats `step` until it is stopped, with `pause` seconds between."""

    pause = 1.0

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(self.pause):
            self.step()

    @abstractmethod
    def step(self) -> None:
        """One round. Raises nothing for faults of the server: it counts them."""

    def stop(self) -> None:
        self._end.set()
        self.join(60)


class PlaylistWatcher(Load):
    """Reads a live playlist every second: MEDIA-SEQUENCE must never go back while its publisher comes and goes."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = self._playlist = url
        self._connection = hls.Connection(url)
        self._newest = -1
        self.answers = self.misses = self.backwards = 0

    def step(self) -> None:
        try:
            if self._playlist == self._url:
                self._playlist = hls.media_playlist(self._connection, self._url, 5)
            msn = hls.edge(self._connection.get(self._playlist).decode(), self._playlist).msn
        except BenchError:
            self.misses += 1  # between two pushes there may be no playlist
            self._connection = hls.Connection(self._url)
            self._playlist = self._url
            return
        self.answers += 1
        self.backwards += msn < self._newest
        self._newest = max(self._newest, msn)


class WhepGroups(Load):
    """Groups of WHEP viewers, one after the other: they leave with DELETE, and each third group without a word.

    seconds: how long a group stays. lasts: whether a group that vanishes is left out.
    """

    def __init__(self, urls: list[str], viewers: int, seconds: float = STAY, *, lasts: bool = False) -> None:
        super().__init__()
        self._urls, self._viewers, self._seconds, self._lasts = urls, viewers, seconds, lasts
        self._running: Client | None = None
        self.groups = self.joined = self.failed = self.vanished = self.frames = 0

    def step(self) -> None:
        self.groups += 1
        vanish = not self._lasts and self.groups % 3 == 0
        group = self._running = WhepViewers(self._urls, self._viewers, self._seconds, "-warm", 0, rate=20)
        try:
            events = {"MEASURE_START": lambda: self._vanish(group)} if vanish else {}
            seen = group.until(events)
            self.joined += seen["connected"]
            self.failed += seen["failed"]
            self.frames += seen["frames"]
        except BenchError:
            self.failed += 0 if vanish or self._end.is_set() else self._viewers
        finally:
            self._running = None
            group.stop()

    def _vanish(self, group: Client) -> None:
        self._end.wait(5)
        self.vanished += self._viewers
        group.process.kill()  # the server has to notice that nobody answers its checks

    def stop(self) -> None:
        self._end.set()
        if (running := self._running) is not None:
            running.process.kill()
        super().stop()


class ClipMaker(Load):
    """Makes a clip of the last seconds of each channel in turn."""

    pause = 5.0

    def __init__(self, server: Gateway) -> None:
        super().__init__()
        self._server = server
        self.made = self.missed = self.bytes = 0

    def step(self) -> None:
        ids = self._server.ids
        channel = ids[(self.made + self.missed) % len(ids)]
        try:
            clip = self._server.api("POST", f"/videostream/{channel}/clips", {"last": CLIP_SECONDS})
        except (BenchError, OSError):
            self.missed += 1  # nothing of this time is recorded yet, or too many clips are being made
            return
        self.made += 1
        self.bytes += clip["size"]
