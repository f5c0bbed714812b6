"""Adds up the traffic of each channel by day, and stores the sums of this process every minute.

The store has an entry for each day and process, so processes never overwrite each other, and readers add them up. A
process that starts again begins a new entry.
"""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Final, TypeAlias

import structlog

from gateway.lib.clocks import SYSTEM_CLOCKS, Clocks
from gateway.lib.traffic import TrafficCounts
from gateway.ports.errors import StoreUnavailable
from gateway.ports.stores import ConsoleStore

log = structlog.get_logger(__name__)

DAYS: Final = 31  # days that are kept, with today
SAVE_SECONDS: Final = 60.0
_DAY: Final = 86_400
_FRESH_SECONDS: Final = 30.0  # for which the sums of other processes are not read again
_PAST_SECONDS: Final = 3_600.0  # the same for days that are over; a process may store the last minute of one late
_PER_ENTRY: Final = 4_000  # channels; DynamoDB takes items of 400 kB
KIND: Final = "traffic/"  # with the day: the kind in the store

Bytes: TypeAlias = tuple[int, int]  # received, sent
_NONE: Final[Bytes] = (0, 0)


def day_of(now: float) -> str:
    """Returns the UTC day of a time, such as 2026-11-26. now: seconds since 1970."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def _add(sums: dict[str, Bytes], channel: str, received: int, sent: int) -> None:
    before = sums.get(channel, _NONE)
    sums[channel] = before[0] + received, before[1] + sent


@dataclass(slots=True, eq=False)
class DailyTraffic:
    """The traffic of all channels of the last DAYS days, on all nodes that share the store.

    The figures of other processes are up to SAVE_SECONDS + _FRESH_SECONDS old. At most as many channels are in memory
    as TrafficCounts has, for each of the days; the sums of earlier days are read when somebody asks.
    """

    counts: TrafficCounts
    store: ConsoleStore
    clocks: Clocks = SYSTEM_CLOCKS
    _process: str = field(default_factory=lambda: secrets.token_hex(6), init=False)
    _own: dict[str, dict[str, Bytes]] = field(default_factory=dict, init=False)  # by day: today, and unsaved days
    _unsaved: set[str] = field(default_factory=set, init=False)
    _others: dict[str, tuple[float, Mapping[str, Bytes]]] = field(default_factory=dict, init=False)  # by day; with age
    _collected: float = field(default=0.0, init=False)
    _saving: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    @property
    def days(self) -> list[str]:
        """The days that are kept, newest first: today and those before."""
        now = self.clocks.wall()
        return [day_of(now - n * _DAY) for n in range(DAYS)]

    async def run(self) -> None:
        """Stores the sums every minute and at midnight, until it is cancelled."""
        while True:
            await asyncio.sleep(min(SAVE_SECONDS, _DAY - self.clocks.wall() % _DAY))
            await self.save()

    def _collect(self) -> None:
        """Adds what was counted since the last call to the day of that call."""
        now = self.clocks.wall()
        day = day_of(self._collected or now)
        self._collected = now
        for channel, received, sent in self.counts.take_all():
            _add(self._own.setdefault(day, {}), channel, received, sent)
            self._unsaved.add(day)

    async def save(self) -> None:
        """Stores what has changed. If the store is unavailable, the next call does it."""
        async with self._saving:
            self._collect()
            try:
                for day in sorted(self._unsaved):
                    await self._save_day(day)
            except StoreUnavailable as error:
                log.warning("the traffic of this day cannot be stored now", reason=str(error))
            days = self.days
            self._unsaved.intersection_update(days)
            for day in self._own.keys() - self._unsaved - {days[0]}:  # from now on, the store has them
                del self._own[day]
                self._others.pop(day, None)
            for day in self._others.keys() - set(days):
                del self._others[day]

    async def _save_day(self, day: str) -> None:
        self._unsaved.discard(day)
        expires = datetime.fromisoformat(f"{day}T00:00Z").timestamp() + (DAYS + 1) * _DAY
        try:
            sums = self._own[day]
            for first in range(0, len(sums), _PER_ENTRY):
                part = dict(islice(sums.items(), first, first + _PER_ENTRY))
                await self.store.put(f"{KIND}{day}", f"{self._process}/{first}", part, expires)
        except StoreUnavailable:
            self._unsaved.add(day)
            raise

    # ---- reading ----

    async def of_day(self, day: str) -> Mapping[str, Bytes]:
        """Returns the bytes of each channel on one of `days`. Raises StoreUnavailable."""
        sums = dict(await self._of_others(day))
        self._collect()
        for channel, (received, sent) in self._own.get(day, {}).items():
            _add(sums, channel, received, sent)
        return sums

    async def of_channel(self, channel: str, day: str) -> Bytes:
        """Returns the bytes of a channel on one of `days`. Raises StoreUnavailable."""
        received, sent = (await self._of_others(day)).get(channel, _NONE)
        self._collect()
        own = self._own.get(day, {}).get(channel, _NONE)
        return received + own[0], sent + own[1]

    async def days_of(self, channel: str) -> list[tuple[str, Bytes]]:
        """Returns today and the earlier days with traffic of a channel, newest first. Raises StoreUnavailable."""
        days = self.days
        found = [(day, await self.of_channel(channel, day)) for day in days]
        return [(day, sums) for day, sums in found if day == days[0] or any(sums)]

    async def _of_others(self, day: str) -> Mapping[str, Bytes]:
        """Returns the stored sums, without those that this process has in memory. Raises StoreUnavailable."""
        now = self.clocks.monotonic()
        known = self._others.get(day)
        seconds = _FRESH_SECONDS if day in self.days[:2] else _PAST_SECONDS
        if known is not None and now - known[0] < seconds:
            return known[1]
        try:
            entries = await self.store.list(f"{KIND}{day}")
        except StoreUnavailable:
            if known is None:
                raise
            self._others[day] = now, known[1]
            return known[1]
        sums: dict[str, Bytes] = {}
        for key, entry in entries.items():
            if day not in self._own or not key.startswith(f"{self._process}/"):
                for channel, (received, sent) in entry.items():
                    _add(sums, channel, received, sent)
        self._others[day] = now, sums
        return sums
