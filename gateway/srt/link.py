"""SrtLink: an established connection, the way of its datagrams, and its user."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Protocol

from gateway.media.errors import InvalidData
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.srt.connection import PEER_CLOSED, TICK_SECONDS, SrtConnection
from gateway.protocols.srt.statistics import LinkPath, LinkStatistics

_TURN_SECONDS: Final = 0.002  # of work in one turn of the event loop
_SHORTEST_REST: Final = 0.001  # seconds between two rounds
_MOST_AT_ONCE: Final = 8  # packets, after which the time is looked at: media may be made to cost a lot
READ_DELAY: Final = 2 * TICK_SECONDS  # by which a socket may be read later: the ticker ends the delay before
SECOND: Final = 1.0
PATH_SECONDS: Final = 4.0  # without a packet on a path, after which it counts as down

# Sends datagrams to the peer.
Send = Callable[[Sequence[bytes]], object]
# Returns the paths of a connection that has several. now: monotonic seconds.
Paths = Callable[[float], tuple[LinkPath, ...]]


class Direction(StrEnum):
    """Whether the caller of our listener pushes or plays."""

    PUBLISH = "publish"
    PLAY = "play"


class SrtUser(Protocol):
    """Uses a connection."""

    def receive(self, payloads: list[bytes], now: float) -> None:
        """Takes payloads in order, when their time has come. Hot path. Raises RemoteProtocolError, InvalidData."""

    def tick(self, now: float) -> None:
        """Checks time limits. Called once a second. now: monotonic seconds."""

    def closed(self, reason: str) -> None:
        """Frees everything. Called once."""


@dataclass(slots=True, eq=False)
class SrtLink:
    """A connection with its peer.

    peer: the peer's address without port. on_closed: called once at the end, before the user is told.
    paths: returns its paths, if it may have several. direction: of a link of our listener.
    stopped: whether the peer said that it ends.
    """

    connection: SrtConnection
    send: Send
    peer: str
    on_closed: Callable[[SrtLink], None]
    user: SrtUser | None = None
    paths: Paths | None = None
    direction: Direction = Direction.PUBLISH
    stopped: bool = field(default=False, init=False)
    _next_second: float = field(default=0.0, init=False)
    _at_once: int = field(default=_MOST_AT_ONCE, init=False)  # packets that cost less than a turn, as far as known

    def receive(self, datagrams: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """Takes datagrams of the peer. Hot path."""
        connection = self.connection
        connection.receive(datagrams, arrivals)
        self._flush()

    def push(self, payloads: Sequence[bytes]) -> None:
        """Sends payloads of at most 1,456 bytes. Hot path."""
        if not self.connection.ended:
            self.connection.push(payloads, time.monotonic())
            self._flush()

    def tick(self, now: float, until: float) -> bool:
        """Delivers what is due, and sends acknowledgements and requests. Hot path.

        until: monotonic seconds, after which the rest waits for the next call. Then the result is True. What waits is
        bounded by the window of the receive buffer, which counts what it refuses.
        """
        connection, user, begin, is_late = self.connection, self.user, now, False
        if user is None:
            return False
        try:
            while self.user is user and (payloads := connection.due(now, self._at_once)):
                user.receive(payloads, now)
                end = time.monotonic()
                fitting = int(len(payloads) * _TURN_SECONDS / max(end - begin, 1e-6))
                self._at_once, begin = max(1, min(fitting, _MOST_AT_ONCE)), end
                if end > until:
                    is_late = connection.received.is_due(now)
                    break
        except (RemoteProtocolError, InvalidData) as error:
            self.close(str(error))
            return False
        if connection.ended:
            self.stopped = connection.ended == PEER_CLOSED
            if connection.received.is_empty:  # packets that came before the end are still delivered at their time
                self._close(connection.ended)
            return is_late
        connection.tick(now)
        self._flush()
        if now >= self._next_second:
            self._next_second = now + SECOND
            user.tick(now)
        return is_late

    def statistics(self) -> LinkStatistics:
        """Returns the state of the connection and of its paths."""
        state, now = self.connection.statistics(), time.monotonic()
        if self.paths is not None:
            return replace(state, links=self.paths(now))
        is_up = now - self.connection.heard < PATH_SECONDS
        path = LinkPath(self.peer, 100.0 if is_up else 0.0, state.rtt_ms, "up" if is_up else "down")
        return replace(state, links=(path,))

    def close(self, reason: str) -> None:
        """Tells the peer that the connection ends, and frees it. Idempotent."""
        self.connection.close(time.monotonic(), reason)
        self._flush()
        self._close(reason)

    def _close(self, reason: str) -> None:
        user, self.user = self.user, None
        if user is not None:
            self.on_closed(self)
            user.closed(reason)

    def _flush(self) -> None:
        out = self.connection.out
        if out:
            self.connection.out = []
            self.send(out)


class LinkTicker:
    """Calls `tick` of all links every 10 ms. `run` must be running. A turn of the event loop works for about 2 ms.

    If packets of a link still wait after its turn, the next round begins at once, so that others get theirs before.
    reads: called before them, so that their sockets are read in the same turn. A process that has slept pays for each
    turn as much as for the work of one push, and for a task that wakes up as much again. So timers call the ticker.
    """

    def __init__(self) -> None:
        self.reads: Sequence[Callable[[], None]] = ()
        self._links: dict[SrtLink, None] = {}
        self._left: Iterator[SrtLink] = iter(())  # of this round
        self._began = 0.0
        self._is_late = False  # whether packets that were due wait for the next round
        self._loop: asyncio.AbstractEventLoop | None = None  # while it runs
        self._next: asyncio.Handle | None = None

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[SrtLink]:
        return iter(tuple(self._links))

    def add(self, link: SrtLink) -> None:
        self._links[link] = None
        if self._loop is not None and self._next is None:
            self._next = self._loop.call_soon(self._round)

    def remove(self, link: SrtLink) -> None:
        self._links.pop(link, None)

    async def run(self) -> None:
        """Runs until it is cancelled."""
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_soon(self._round)
        try:
            await self._loop.create_future()
        finally:
            self._loop = None
            if self._next is not None:
                self._next.cancel()

    def _round(self) -> None:
        """Begins a round, unless there are no links."""
        self._next = None
        if not self._links:
            return
        self._began, self._is_late = time.monotonic(), False
        try:
            for read in self.reads:
                read()
        finally:  # the event loop tells an error of one peer, and the others continue
            self._left = iter(tuple(self._links))
            self._turn()

    def _turn(self) -> None:
        """Continues a round."""
        clock = time.monotonic
        until, wait = clock() + _TURN_SECONDS, 0.0
        try:
            for link in self._left:
                now = clock()
                self._is_late |= self._tick(link, now, until)
                if now > until:
                    break
            else:
                wait = max(_SHORTEST_REST, 0.0 if self._is_late else self._began + TICK_SECONDS - clock())
        finally:
            if self._loop is not None:
                self._next = self._loop.call_later(wait, self._round) if wait else self._loop.call_soon(self._turn)

    @staticmethod
    def _tick(link: SrtLink, now: float, until: float) -> bool:
        try:
            return link.tick(now, until)
        except Exception:
            link.close("internal error")
            raise
