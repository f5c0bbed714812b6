"""Counts HTTP viewers without a lasting connection: players that fetched playlists or media recently."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from gateway.http.request import Request


class WatchedStream(Protocol):
    """A stream of this node or of another."""

    name: str
    viewers: Counter[str]


class _Seen:
    __slots__ = ("at", "stream")

    def __init__(self, stream: WatchedStream, at: float) -> None:
        self.stream = stream
        self.at = at


class HttpViewers:
    """Counts players in `stream.viewers` under their protocol, by address and user agent, for `window` seconds.

    window: about three target durations, because a player makes at least one request in each.
    most: the largest number of players; the one not seen for the longest time is removed first.
    """

    def __init__(self, window: float = 15.0, most: int = 50_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._most = most
        self._clock = clock
        # The address and user agent are stored as a hash, because a user agent may be as long as a request's head.
        self._seen: OrderedDict[tuple[str, str, int], _Seen] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._seen)

    def saw(self, request: Request, stream: WatchedStream, protocol: str) -> None:
        """Notes that a player fetched something of `stream`. Hot path."""
        key = (stream.name, protocol, hash((request.peer, request.headers.get("user-agent"))))
        seen = self._seen.get(key)
        if seen is not None and seen.stream is stream:
            seen.at = self._clock()
            self._seen.move_to_end(key)
            return
        if seen is not None:
            self._forget(key)  # it watched an earlier stream of this name
        self._seen[key] = _Seen(stream, self._clock())
        stream.viewers[protocol] += 1
        if len(self._seen) > self._most:
            self._forget(next(iter(self._seen)))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._window / 5, self._tick)

    def expire(self) -> None:
        """Removes players that were not seen within the window."""
        due = self._clock() - self._window
        while self._seen:
            key, seen = next(iter(self._seen.items()))
            if seen.at > due:
                return
            self._forget(key)

    def close(self) -> None:
        """Removes all players."""
        for key in list(self._seen):
            self._forget(key)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        self.expire()
        if self._seen:
            self._timer = asyncio.get_running_loop().call_later(self._window / 5, self._tick)

    def _forget(self, key: tuple[str, str, int]) -> None:
        self._seen.pop(key).stream.viewers[key[1]] -= 1


class _UncountedViewers(HttpViewers):
    """Counts nothing: for requests on behalf of players that are counted elsewhere."""

    def saw(self, request: Request, stream: WatchedStream, protocol: str) -> None:
        return


UNCOUNTED: Final[HttpViewers] = _UncountedViewers()
