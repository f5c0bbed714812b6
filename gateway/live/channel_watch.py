"""Reads the stored channels of live streams again, so that a change in the store reaches them, whoever makes it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from gateway.channels.channel import Channel
from gateway.channels.channel_changes import ChannelChanges
from gateway.channels.channel_events import channel_changed, channel_deleted
from gateway.channels.stores import StoredChannels
from gateway.lib.waiting import wait_at_most
from gateway.live.hub import Hub
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.ports.errors import StoreUnavailable
from gateway.ports.events import Event, EventType, StoredEvent
from gateway.ports.stores import StoreChanges

log = structlog.get_logger(__name__)

_SECONDS: Final = 3.0  # between two reads; a change must arrive within 5 s
_TOLD_SECONDS: Final = 0.3  # after a notification, in which the API or another node tells its change itself
_EVENT_SECONDS: Final = 1.0  # in which a command stores the event of its change
_CLOCK_SECONDS: Final = 2.0  # by which the clocks of machines may differ
_MAX_NOTICED: Final = 1_000  # changes whose events wait for the log; the oldest get none
_AUTHOR: Final = {"by": "store"}  # of events: a program that changed the row and recorded no event


@dataclass(frozen=True, slots=True)
class _KnownRow:
    """The row of a stream's channel, whose changes all have their events. since: when that was so, since 1970."""

    stream: Stream
    channel: Channel
    since: float


@dataclass(frozen=True, slots=True, eq=False)
class _Noticed:
    """A change that nobody has told. after: None if the row is gone. at: when it was noticed."""

    known: _KnownRow
    after: Channel | None
    at: float

    def event(self, logged: Sequence[StoredEvent]) -> Event | None:
        """Returns the event of what the logged ones do not explain; None if they explain all."""
        id, before, after = self.known.channel.id, self.known.channel.item, self.after
        if after is None:
            is_logged = any(event.type == EventType.CHANNEL_DELETED for event in logged)
            return None if is_logged else channel_deleted(id, self.at, _AUTHOR, "keep")
        fields = [name for name in {*before, *after.item} if before.get(name) != after.item.get(name)]
        names = set(channel_changed(after, self.at, _AUTHOR, fields).data["fields"])
        names.difference_update(*(event.data.get("fields", ()) for event in logged))
        return channel_changed(after, self.at, _AUTHOR, names) if names else None


@dataclass(eq=False, slots=True)
class ChannelWatch:
    """Compares the live streams of this process with the store. It applies changes like the API, with `ChannelChanges`.

    The API and other nodes tell their changes (`apply`). A command, another program or the console of AWS changes only
    the store. If the store tells changed rows, only these are read, and the row of each new stream once, because it may
    have changed before; else all rows are read every `_SECONDS`. While the store is unavailable, streams go on.

    A change has one event. Who tells a change records it. A command has recorded it too when `_EVENT_SECONDS` have
    passed. So if the log then has no event since the row was last known, with the changed fields, nobody else records
    one, and the node with the stream does. Two changes of one field within `_CLOCK_SECONDS` may share an event.

    logged: returns the events of a channel since a time. notifications: None: the store tells no changes.
    clock: seconds since 1970.
    """

    hub: Hub
    store: StoredChannels
    logged: Callable[[str, float], Awaitable[Sequence[StoredEvent]]]
    notifications: StoreChanges | None = None
    clock: Callable[[], float] = time.time
    _known: dict[str, _KnownRow] = field(default_factory=dict, init=False)
    _noticed: list[_Noticed] = field(default_factory=list, init=False)  # their events are due
    _due: set[str] = field(default_factory=set, init=False)  # channels to read, although the store tells changes
    _was_told: bool = field(default=False, init=False)  # whether the store told its changes in the last turn
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def __post_init__(self) -> None:
        if self.notifications is not None:
            self.notifications.listen("channels", self._on_stored)

    def apply(self, id: str, channel: Channel | None) -> None:
        """Gives a changed channel to its live streams; None: it is deleted, and they end. See ChangeEffects."""
        self._noticed = [one for one in self._noticed if (one.known.channel.id, one.after) != (id, channel)]
        known = self._known.pop(id, None)
        if channel is None:
            self.hub.end_channel(id, EndReason.DELETED)
            self.hub.feed.tell({id: None})
            return
        if known is not None:
            self._known[id] = _KnownRow(known.stream, channel, self.clock())
        self.hub.channel_changed(channel)

    async def run(self, changes: ChannelChanges) -> None:
        """Watches until it is cancelled."""
        while True:
            try:
                await self.read(changes)
                await self.record(changes)
            except StoreUnavailable as error:
                log.debug("the channels of live streams cannot be read", reason=str(error))
            if await wait_at_most(_EVENT_SECONDS if self._noticed else _SECONDS, self._wake):
                await asyncio.sleep(_TOLD_SECONDS)
                self._wake.clear()

    async def read(self, changes: ChannelChanges) -> None:
        """Reads the channels that may have changed, and applies their changes. Raises StoreUnavailable."""
        streams = {stream.name: stream for stream in self.hub if stream.is_source}
        self._known = {id: known for id, known in self._known.items() if streams.get(id) is known.stream}
        for id in streams.keys() - self._known.keys():
            self._known[id] = _KnownRow(streams[id], streams[id].channel, streams[id].spec.started)
            self._due.add(id)
        is_told = self.notifications is not None and self.notifications.works
        ids = streams.keys() & self._due if is_told and self._was_told else streams.keys()
        self._due, self._was_told = set(), is_told
        if ids:
            try:
                await self._compare(ids, changes)
            except StoreUnavailable:
                self._due.update(ids)
                raise

    async def _compare(self, ids: Collection[str], changes: ChannelChanges) -> None:
        before = {id: self._known[id] for id in ids}
        used, began = {id: known.stream.channel for id, known in before.items()}, self.clock()
        rows = await self.store.get_many(ids)
        changed = []
        for id, known in before.items():
            row = rows.get(id)
            if self._known.get(id) is not known or known.stream.channel is not used[id]:
                self._due.add(id)  # it was changed during the read, whose row may be older
            elif row == known.channel:
                self._known[id] = _KnownRow(known.stream, known.channel, began)
            elif row is not None or id not in rows:  # otherwise it cannot be read, and the stream goes on
                changed.append(id)
                await self._follow(known, row, changes)
        for id in changed:
            await changes.effects.tell_nodes(id)

    async def _follow(self, known: _KnownRow, row: Channel | None, changes: ChannelChanges) -> None:
        id = known.channel.id
        if row is None:
            await changes.protect_media(known.channel)
        log.info("channel changed in the store", channel=id, deleted=row is None)
        try:
            await changes.follow(id, row, tells=False)
        except Exception as error:  # other channels must not wait for a row that another program has written
            log.error("a channel of the store cannot be applied", channel=id, exc_info=error)
        self._noticed = [*self._noticed, _Noticed(known, row, self.clock())][-_MAX_NOTICED:]

    async def record(self, changes: ChannelChanges) -> None:
        """Records the events of changes that nobody else has recorded. Raises StoreUnavailable."""
        for noticed in [one for one in self._noticed if self.clock() - one.at >= _EVENT_SECONDS]:
            logged = await self.logged(noticed.known.channel.id, noticed.known.since - _CLOCK_SECONDS)
            if noticed in self._noticed:  # it was not told meanwhile
                self._noticed.remove(noticed)
                if (event := noticed.event(logged)) is not None:
                    await changes.effects.record(event)

    def _on_stored(self, key: str) -> None:
        """Called with the key of a changed row. That of a deleted channel's record has a prefix."""
        id = key.rpartition("/")[2]
        if id in self._known:
            self._due.add(id)
            self._wake.set()
