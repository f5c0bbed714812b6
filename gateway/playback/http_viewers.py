"""Counts HTTP viewers that have no lasting connection: players that have fetched playlists or media recently."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.http.request import Request
from gateway.playback.reports import RequestReports


class WatchedStream(Protocol):
    """A stream of this node or of another."""

    name: str
    viewers: Counter[str]


@dataclass(slots=True)
class _Entry:
    """at: time of the player's last request, monotonic seconds. reports: number of its requests with CMCD."""

    stream: WatchedStream
    at: float
    reports: int = 0


class HttpViewers:
    """Counts players in `stream.viewers` by protocol, for `window` seconds after their last request.

    A player is identified by address and user agent.
    window: about three target durations, because a player makes at least one request in each.
    max_viewers: limit of players. Above it, the player with the oldest request is removed.
    reports: reads the CMCD of their requests; None: it is ignored.
    """

    def __init__(
        self,
        window: float = 15.0,
        max_viewers: int = 50_000,
        clock: Callable[[], float] = time.monotonic,
        reports: RequestReports | None = None,
    ) -> None:
        self._window = window
        self._max_viewers = max_viewers
        self._clock = clock
        self._reports = reports
        # The address and user agent are stored as a hash, because a user agent may be as long as a request head.
        self._entries: OrderedDict[tuple[str, str, int], _Entry] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def record(self, request: Request, stream: WatchedStream, protocol: str) -> None:
        """Records that a player has fetched a file of `stream`. Hot path."""
        key = (stream.name, protocol, hash((request.peer, request.headers.get("user-agent"))))
        entry = self._entries.get(key)
        if entry is not None and entry.stream is stream:
            entry.at = self._clock()
            self._entries.move_to_end(key)
        else:
            if entry is not None:
                self._forget(key)  # the player watched an earlier stream of this name
            entry = self._begin(key, stream)
        if self._reports is not None and ("CMCD=" in request.raw_query or "cmcd-session" in request.headers):
            entry.reports += 1
            self._reports.read(request, stream.name, protocol, entry.reports)

    def _begin(self, key: tuple[str, str, int], stream: WatchedStream) -> _Entry:
        entry = self._entries[key] = _Entry(stream, self._clock())
        stream.viewers[key[1]] += 1
        if len(self._entries) > self._max_viewers:
            self._forget(next(iter(self._entries)))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._window / 5, self._tick)
        return entry

    def expire(self) -> None:
        """Removes players without a request within the window."""
        due = self._clock() - self._window
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if entry.at > due:
                return
            self._forget(key)

    def close(self) -> None:
        """Removes all players."""
        for key in list(self._entries):
            self._forget(key)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        self.expire()
        if self._entries:
            self._timer = asyncio.get_running_loop().call_later(self._window / 5, self._tick)

    def _forget(self, key: tuple[str, str, int]) -> None:
        self._entries.pop(key).stream.viewers[key[1]] -= 1


class _UncountedViewers(HttpViewers):
    """Counts nothing: for requests of other nodes, which count their players themselves."""

    def record(self, request: Request, stream: WatchedStream, protocol: str) -> None:
        return


UNCOUNTED: Final[HttpViewers] = _UncountedViewers()
