"""Keeps the shows of all channels: measures those of this process, stores them every minute, and reads all of them.

The store has an entry for each show. It is written from its begin on, so a process that dies leaves what was known.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.channels.channel import Channel
from gateway.diagnosis.experience import Experience
from gateway.diagnosis.show import Show
from gateway.lib.clocks import SYSTEM_CLOCKS, Clocks
from gateway.lib.numbers import read_integer
from gateway.live.hub import Hub
from gateway.live.stream import Stream
from gateway.ports.events import Event, EventType
from gateway.ports.store_outage import StoreOutage
from gateway.ports.stored_rows import read_rows
from gateway.ports.stores import ConsoleStore

log = structlog.get_logger(__name__)

KIND: Final = "show/"  # with the channel: the kind in the store
MAX_SHOWS: Final = 500  # of a channel; the oldest are deleted first
SAVE_SECONDS: Final = 60.0  # between two writes of a show that lasts; more if there are very many
WRITES_PER_SECOND: Final = 2.0  # of shows that last
FRESH: Final = 600.0  # seconds since the last sample, after which a show of another node counts as ended
_STEP: Final = 5.0  # seconds between two samples
_TICK: Final = 1.0  # seconds in which a new show gets its first one
_PER_TURN: Final = 50  # shows that are measured before other tasks run
_MAX_UNSAVED: Final = 1_000  # ended shows that wait for the store; the oldest is dropped
# Longest wait for the on-demand recording, seconds: the show has its number. It begins with the first key frame.
_RECORDING_WAIT: Final = 10.0
_ON_DEMAND: Final = "ondemand"  # the output

TitleOf = Callable[[Channel, float], str]  # the title of a channel's show that starts at this time


@dataclass(slots=True, eq=False)
class LiveShow:
    """A show of a stream of this process.

    sent: bytes of the channel before it. show: None until its number is known.
    """

    stream: Stream
    sent: int
    show: Show | None = None
    saved: float = float("-inf")  # monotonic time


@dataclass(frozen=True, slots=True)
class ShowSources:
    """The sources of a show's figures. viewers: returns the viewers of a stream on all nodes, by protocol."""

    hub: Hub
    experience: Experience
    viewers: Callable[[Stream], Mapping[str, int]]
    title: TitleOf


class ShowLog:
    """A listener of events: `events.listen(show_log.note)`. `run` must be running, and `save` follows it.

    seconds: for which an ended show is stored.
    """

    def __init__(
        self, sources: ShowSources, store: ConsoleStore, seconds: float, clocks: Clocks = SYSTEM_CLOCKS
    ) -> None:
        self._sources, self._store, self._seconds, self._clocks = sources, store, seconds, clocks
        self._live: dict[str, LiveShow] = {}  # by channel
        self._ended: deque[tuple[str, Show]] = deque()  # with their channels; not stored yet
        self._ended_one = asyncio.Event()
        self._saving = asyncio.Lock()
        self._outage = StoreOutage("the reports of shows cannot be stored now")
        self._listeners: list[Callable[[Stream, Show], None]] = []

    def listen(self, callback: Callable[[Stream, Show], None]) -> None:
        """Calls `callback` after each sample of a show that lasts."""
        self._listeners.append(callback)

    def note(self, event: Event) -> None:
        """Follows the begin and the end of streams."""
        if event.type is EventType.STREAM_STARTED:
            stream = self._sources.hub.find(str(event.data["stream"]))
            if stream is not None and stream.is_source:
                self._live[event.channel] = LiveShow(stream, stream.tally.sent)
                self._sources.experience.begin_show(event.channel)
        elif event.type is EventType.STREAM_ENDED:
            live = self._live.get(event.channel)
            if live is not None and live.stream.name == event.data["stream"]:
                self._sample(live, self._clocks.wall(), ended=True)
                del self._live[event.channel]
                self._sources.experience.end_show(event.channel)
                self._ended_one.set()

    async def run(self) -> None:
        """Measures until it is cancelled. New shows are listed within a second, and ended ones are stored at once."""
        due = self._clocks.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._ended_one.wait()
            self._ended_one.clear()
            everyone = self._clocks.monotonic() >= due
            if everyone:
                due = self._clocks.monotonic() + _STEP
            await self.measure(new=not everyone)

    async def measure(self, *, new: bool = False) -> None:
        """Takes a sample of each show of this process, and stores what is due. new: only of those that have none."""
        wanted = [live for live in self._live.values() if not new or live.show is None]
        for number, live in enumerate(wanted, 1):
            if self._live.get(live.stream.channel.id) is live:  # it did not end meanwhile
                self._sample(live, self._clocks.wall())
            if number % _PER_TURN == 0:
                await asyncio.sleep(0)
        await self.save(max(SAVE_SECONDS, len(self._live) / WRITES_PER_SECOND))

    def _sample(self, live: LiveShow, now: float, *, ended: bool = False) -> None:
        stream = live.stream
        known = live.show is not None and live.show.session is not None
        session, waits = (None, False) if known else _recording(stream)
        if live.show is None:
            if session is None and waits and not ended and now - stream.spec.started < _RECORDING_WAIT:
                return
            start = (session or int(stream.spec.started * 1000)) / 1000
            live.show = Show(start, self._sources.title(stream.channel, start), start)
        show = live.show
        show.session = show.session or session
        show.sample(now, self._sources.viewers(stream))
        show.received, show.sent = stream.received.bytes, stream.tally.sent - live.sent
        show.name_captions([track.label or track.language or track.id for track in stream.captions.texts])
        show.experience = self._sources.experience.of_show(stream.channel.id)
        if ended:
            show.end = now
            self._ended.append((stream.channel.id, show))
            if len(self._ended) > _MAX_UNSAVED:
                log.warning("the report of a show is lost: the store does not answer", channel=self._ended.popleft()[0])
            return
        for callback in self._listeners:
            callback(stream, show)

    async def save(self, after: float = 0.0) -> None:
        """Stores ended shows, and those that last and were not stored for `after` seconds.

        If the store is unavailable, the next call does it.
        """
        async with self._saving:
            with self._outage:
                while self._ended:
                    first = self._ended[0]
                    await self._put(*first)
                    if self._ended[0] is first:  # else it was dropped meanwhile, because too many wait
                        self._ended.popleft()
                for channel, live in list(self._live.items()):
                    if live.show is not None and self._clocks.monotonic() - live.saved >= after:
                        if live.saved < 0:
                            await self._delete_surplus(channel)
                        await self._put(channel, live.show)
                        live.saved = self._clocks.monotonic()

    async def _put(self, channel: str, show: Show) -> None:
        await self._store.put(KIND + channel, show.id, show.stored(), show.seen + self._seconds)

    async def _delete_surplus(self, channel: str) -> None:
        """Makes room for a new show of a channel."""
        for id in sorted(await self._store.list(KIND + channel), key=_number)[: 1 - MAX_SHOWS]:
            await self._store.delete(KIND + channel, id)

    async def shows(self, channel: str, fresh: float = 0.0) -> list[Show]:
        """Returns the shows of a channel, newest first. Raises StoreUnavailable.

        A stored show without an end has ended when it was seen last: its process died. fresh: it is less old than
        this many seconds; it then lasts at another node.
        """
        entries = await self._store.list(KIND + channel)
        found = {show.id: show for show in read_rows("show", Show.of, entries.items())}
        live = self._live.get(channel)
        own = live.show if live is not None else None
        for show in found.values():
            if show.end is None and self._clocks.wall() - show.seen >= fresh:
                show.end = show.seen
        found |= {show.id: show for name, show in self._ended if name == channel}
        if own is not None:
            found[own.id] = own
        return sorted(found.values(), key=lambda show: show.start, reverse=True)


def _recording(stream: Stream) -> tuple[int | None, bool]:
    """Returns the number of the on-demand recording that a stream has now, and whether it should have one."""
    outputs = stream.outputs
    if outputs is None or not outputs.enabled(_ON_DEMAND):
        return None, False
    since = next((one.get("openSince") for one in outputs.status() if one["name"] == _ON_DEMAND), None)
    return (round(since * 1000) if isinstance(since, float) else None), True


def _number(id: str) -> int:
    return read_integer(id, 10**15) or 0
