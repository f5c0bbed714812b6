"""Announces stream keys that expire soon, also of channels that are not live."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.channels.channel import Channel
from gateway.channels.expiry import WARNING_SECONDS
from gateway.channels.stores import StoredChannels
from gateway.lib.rfc3339 import rfc3339
from gateway.ports.events import Event, EventType
from gateway.ports.stores import ConsoleStore

INTERVAL_SECONDS: Final = 3600.0  # between two reads of the channels
_AGAIN_SECONDS: Final = 86_400 - 60  # one read must not be too early by its own duration
_KIND: Final = "key.expires"  # of the entries in the console's store


@dataclass(frozen=True, slots=True)
class ExpiryNotices:
    """Emits `key.expires` once a day for each channel, from seven days before the date.

    `notes` remembers the notices of a day, so that restarts and several nodes repeat none.
    report: called with all channels whose keys expire within seven days, also those that were announced.
    """

    channels: StoredChannels
    notes: ConsoleStore
    emit: Callable[[Event], None]
    report: Callable[[Sequence[Channel]], None]
    clock: Callable[[], float] = time.time

    async def run_once(self) -> None:
        """Announces the keys that are due. Raises StoreUnavailable."""
        now = self.clock()
        expiring = [c for c in await self.channels.list() if now <= c.expires < now + WARNING_SECONDS]
        self.report(expiring)
        for channel in expiring:
            if await self._is_due(channel, now):
                data = {"name": channel.name[:100], "expires": rfc3339(channel.expires, "seconds")}
                self.emit(Event(EventType.KEY_EXPIRES, now, channel.id, data))

    async def _is_due(self, channel: Channel, now: float) -> bool:
        """Whether this date was not announced within a day. A new date is announced at once."""
        return await self.notes.add(_KIND, f"{channel.id} {channel.expires}", {}, now + _AGAIN_SECONDS)
