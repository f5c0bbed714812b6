"""Adds up the traffic of each channel by day, and stores the sums of this process every minute.

The store has an entry for each day and process, so processes never overwrite each other, and readers add them up. A
process that starts again begins a new entry.
"""

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Final, TypeAlias

import structlog

from gateway.lib.clocks import Clock
from gateway.lib.traffic import TrafficCounts
from gateway.ports.errors import StoreUnavailable
from gateway.ports.stored_rows import read_rows
from gateway.ports.stores import ConsoleStore

log = structlog.get_logger(__name__)

DAYS: Final = 31  # days that are kept, with today
SAVE_SECONDS: Final = 60.0
KIND: Final = "traffic/"  # with the day: the kind in the store
_DAY: Final = 86_400
_PER_ENTRY: Final = 2_000  # channels; DynamoDB takes items of 400 kB

Bytes: TypeAlias = tuple[int, int]  # received, sent


def day_of(now: float) -> str:
    """Returns the UTC day of a time, such as 2026-11-26. now: seconds since 1970."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()


@dataclass(slots=True, eq=False)
class DailyTraffic:
    """The traffic of all channels on the last DAYS days, of all nodes that share the store.

    The figures of other processes are up to two minutes old. Those of earlier days are read when somebody asks, and
    stay in memory: at most as many channels as TrafficCounts has in each process, for each day.
    """

    counts: TrafficCounts
    store: ConsoleStore
    clock: Clock = time.time
    _process: str = field(default_factory=lambda: secrets.token_hex(6), init=False)
    _own: dict[str, dict[str, Bytes]] = field(default_factory=dict, init=False)  # of today, and of unsaved days
    _unsaved: set[str] = field(default_factory=set, init=False)
    _others: dict[str, dict[str, Bytes]] = field(
        default_factory=dict, init=False
    )  # stored sums without those of `_own`
    _collected: float = field(default=0.0, init=False)
    _saving: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    @property
    def days(self) -> list[str]:
        """The days that are kept, newest first: today and those before."""
        now = self.clock()
        return [day_of(now - n * _DAY) for n in range(DAYS)]

    async def run(self) -> None:
        """Stores the sums every minute and at midnight, until it is cancelled."""
        while True:
            await asyncio.sleep(min(SAVE_SECONDS, _DAY - self.clock() % _DAY))
            await self.save()

    async def save(self) -> None:
        """Stores what has changed. If the store is unavailable, the next call does it."""
        async with self._saving:
            self._collect()
            days = self.days
            try:
                for day in sorted(self._unsaved.intersection(days)):
                    self._unsaved.discard(day)
                    await self._put(day)
            except StoreUnavailable as error:
                self._unsaved.add(day)
                log.warning("the traffic of this day cannot be stored now", reason=str(error))
            past = set(days[2:]) - self._own.keys()  # nobody changes their sums any more
            self._others = {day: sums for day, sums in self._others.items() if day in past}
            kept = self._unsaved.intersection(days) | {days[0]}
            self._own = {day: sums for day, sums in self._own.items() if day in kept}

    async def _put(self, day: str) -> None:
        sums, expires = self._own[day], datetime.fromisoformat(f"{day}T00:00Z").timestamp() + (DAYS + 1) * _DAY
        for first in range(0, len(sums), _PER_ENTRY):
            part = dict(islice(sums.items(), first, first + _PER_ENTRY))
            await self.store.put(f"{KIND}{day}", f"{self._process}/{first}", part, expires)

    def _collect(self) -> None:
        """Adds what was counted since the last call to the day of that call."""
        now = self.clock()
        day, self._collected = day_of(self._collected or now), now
        for channel, received, sent in self.counts.take_all():
            _add(self._own.setdefault(day, {}), channel, (received, sent))
            self._unsaved.add(day)

    async def of_day(self, day: str) -> Mapping[str, Bytes]:
        """Returns the bytes of each channel on one of `days`. Raises StoreUnavailable."""
        if day not in self._others:
            entries = await self.store.list(f"{KIND}{day}")
            others = self._others[day] = {}
            of_others = [e for e in entries.items() if day not in self._own or not e[0].startswith(self._process)]
            for entry in read_rows("traffic", _counted, of_others):
                for channel, counted in entry:
                    _add(others, channel, counted)
        sums = dict(self._others[day])
        self._collect()
        for channel, own in self._own.get(day, {}).items():
            _add(sums, channel, own)
        return sums

    async def by_day(self, channel: str = "") -> list[tuple[str, int, int]]:
        """Returns the received and sent bytes of a channel, today and on earlier days with traffic, newest first.

        channel: its id; "": the sum of all channels. Raises StoreUnavailable.
        """
        found: list[tuple[str, int, int]] = []
        for day in self.days:
            sums = await self.of_day(day)
            counted = [sums.get(channel, (0, 0))] if channel else sums.values()
            total = sum(received for received, _ in counted), sum(sent for _, sent in counted)
            if not found or any(total):
                found.append((day, *total))
        return found


def _counted(entry: Mapping[str, Sequence[int]]) -> list[tuple[str, Bytes]]:
    return [(channel, (int(received), int(sent))) for channel, (received, sent) in entry.items()]


def _add(sums: dict[str, Bytes], channel: str, new: Bytes) -> None:
    before = sums.get(channel, (0, 0))
    sums[channel] = before[0] + new[0], before[1] + new[1]
