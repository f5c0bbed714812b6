"""Lists the public channels for the home page, with few reads of the store and of other nodes."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from gateway.channels.channel import Channel
from gateway.http.request import Request
from gateway.http.response import JSON, Response, service_unavailable
from gateway.lib.clocks import SYSTEM_CLOCKS, Clocks
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.live.stream import Stream
from gateway.playback.formats import is_watchable
from gateway.ports.errors import StoreUnavailable

T = TypeVar("T")

MAX_CHANNELS: Final = 500  # in the list; live channels come first
STORE_SECONDS: Final = 10.0  # between two reads of the store
LIVE_SECONDS: Final = 3.0  # between two questions to other nodes, and for which the answer is cached
_PAUSE_FACTOR: Final = 20  # after a read that succeeded, the next one waits at least this many times its duration
_MAX_TEXT: Final = 300  # characters of a name or description in the list
_CACHE_CONTROL: Final = "public, max-age=3"

# A list of channels for viewers. Each entry has the fields of one channel in `channels.json`.
Entries = Sequence[Mapping[str, Any]]


@dataclass(eq=False, slots=True)
class SharedRead(Generic[T]):
    """A value that one task at a time reads for all callers, at most once in `seconds`.

    If reading takes long, it is repeated later, so that it takes at most 5 % of the time. A read that failed is tried
    again after `seconds`, because its duration is that of a time-out. A caller that leaves does not stop the task.
    While the store is unavailable, the last value is used.
    """

    read: Callable[[], Awaitable[T]]
    seconds: float
    tasks: Tasks
    clocks: Clocks = SYSTEM_CLOCKS
    _value: T | None = field(default=None, init=False)
    _error: StoreUnavailable | None = field(default=None, init=False)
    _next: float = field(default=float("-inf"), init=False)  # monotonic time from which the value is read again
    _reading: asyncio.Task[None] | None = field(default=None, init=False)
    _expired: bool = field(default=False, init=False)  # during a read: its value may be old already

    @property
    def due(self) -> bool:
        """Whether `get` would read the value now, or wait for a read."""
        return self._reading is not None or self.clocks.monotonic() >= self._next

    async def get(self) -> T:
        """Returns the value. Raises StoreUnavailable if there has never been one."""
        self.start()
        if self._reading is not None:
            await asyncio.shield(self._reading)
        if self._value is None:
            raise self._error or StoreUnavailable("there is no list of channels yet")
        return self._value

    def start(self) -> None:
        """Begins to read the value, if it is time for that."""
        if self._reading is None and self.clocks.monotonic() >= self._next:
            self._reading = self.tasks.start(self._update(), "public channels")

    async def wait(self, seconds: float) -> None:
        """Waits for a read that is due or running, at most this long. The last value then stays."""
        self.start()
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=seconds)

    def expire(self) -> None:
        """Lets the next caller read the value again."""
        self._next, self._expired = float("-inf"), True

    async def _update(self) -> None:
        self._expired = False
        began, pause = self.clocks.monotonic(), self.seconds
        try:
            self._value = await self.read()
            pause = max(pause, _PAUSE_FACTOR * (self.clocks.monotonic() - began))
        except StoreUnavailable as error:
            self._error = error
        finally:
            self._next = float("-inf") if self._expired else self.clocks.monotonic() + pause
            self._reading = None


class PublicChannels:
    """The channels that the home page shows. Use `entries`.

    A channel is listed if it is marked public, it has an output for viewers, and everyone may play it. After the expiry
    of its key it is listed while it is live. auth: protection of channels without their own.

    stored: returns all channels. live: returns the number of viewers of all live public channels, by id.
    """

    def __init__(
        self,
        stored: Callable[[], Awaitable[Iterable[Channel]]],
        live: Callable[[], Awaitable[Mapping[str, int]]],
        auth: str,
        tasks: Tasks,
        clocks: Clocks = SYSTEM_CLOCKS,
    ) -> None:
        self._list = stored
        self._auth = auth
        self._wall = clocks.wall
        self._stored = SharedRead(self._read_stored, STORE_SECONDS, tasks, clocks)
        self._live = SharedRead(live, LIVE_SECONDS, tasks, clocks)

    async def entries(self) -> Entries:
        """Returns the fields of each channel: live ones first, then by name. Raises StoreUnavailable."""
        channels, live, now = await self._stored.get(), await self._live.get(), self._wall()
        listed = [
            {
                "id": channel.id,
                "slug": channel.slug,
                "name": channel.name[:_MAX_TEXT],
                "description": channel.text("description")[:_MAX_TEXT],
                "live": channel.id in live,
                "viewers": live.get(channel.id, 0),
                **({"upcoming": upcoming.shown()} if (upcoming := channel.upcoming(now)) is not None else {}),
            }
            for channel in channels
            if channel.id in live or not channel.expired(now)
        ]
        return first_entries(listed)

    async def _read_stored(self) -> list[Channel]:
        return [
            channel
            for channel in await self._list()
            if channel.flag("isPublic") and is_watchable(channel) and (channel.play_auth or self._auth) == "none"
        ]


def first_entries(entries: Iterable[Mapping[str, Any]]) -> Entries:
    """Returns the entries in the order of the page, at most MAX_CHANNELS: live ones first, then by name."""
    ordered = sorted(entries, key=lambda entry: (not entry["live"], str(entry["name"]).casefold(), str(entry["id"])))
    return ordered[:MAX_CHANNELS]


def live_public_channels(hub: Hub, remote_viewers: RemoteViewerCounts) -> Iterator[dict[str, Any]]:
    """Yields id and number of viewers of each public channel that is live on this node."""
    for stream in hub:
        if stream.playable and stream.is_source and stream.channel.flag("isPublic"):
            yield {"id": stream.name, "viewers": viewer_count(stream, remote_viewers)}


def viewer_count(stream: Stream, remote_viewers: RemoteViewerCounts) -> int:
    """Returns the number of viewers of a stream of this node, on all nodes."""
    return stream.viewers.total() + remote_viewers.of(stream.name).total()


class ChannelList:
    """Answers `/channels.json`. The answer is made at most once in LIVE_SECONDS.

    entries: returns the list, at most MAX_CHANNELS long.
    """

    def __init__(self, entries: Callable[[], Awaitable[Entries]], tasks: Tasks, clocks: Clocks = SYSTEM_CLOCKS) -> None:
        self._entries = entries
        self._answer = SharedRead(self._make, LIVE_SECONDS, tasks, clocks)

    async def __call__(self, request: Request, rest: str = "") -> Response:
        """Answers viewers and other nodes: the list, or 503 while the store has never been read."""
        try:
            return await self._answer.get()
        except StoreUnavailable as error:
            return service_unavailable("the channels cannot be read now", error.retry_after)

    async def _make(self) -> Response:
        body = json.dumps({"channels": list(await self._entries())}).encode()
        return Response(200, body, JSON, cache=_CACHE_CONTROL, compress=True)
