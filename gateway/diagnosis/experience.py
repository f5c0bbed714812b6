"""Sums what viewers experience: start-up time, stalls, delay and quality, for each channel and protocol.

Only numbers are kept, no text of a viewer. Everything has a fixed size.
"""

from __future__ import annotations

import math
import re
import time
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.diagnosis.cmcd import Cmcd
from gateway.lib.address_counts import AddressCounts
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.clocks import Clock
from gateway.lib.metrics import Metrics

PROTOCOLS: Final[tuple[str, ...]] = ("flv", "wsflv", "hls", "cmaf", "dash", "instant", "whep", "moq", "other")
WINDOW_SECONDS: Final = 1800.0  # totals show the last one to two windows
MAX_TOTALS: Final = 2000  # pairs of channel and protocol, about 3 kB each; the least recent pair is dropped first
MAX_PLAYERS: Final = 20_000  # players, about 300 bytes each; see `_make_room`
PER_MINUTE: Final = 600  # reports of one address; a page sends two a minute, and many viewers may share an address
_REPORTED_SECONDS: Final = 70.0  # pages report every 30 s
_SAME_STALL_SECONDS: Final = 1.0  # requests for sound and picture report the same empty buffer
_EARLIER_SECONDS: Final = 60.0  # stalls of a player count from this long before its first report
_SPARSE: Final = re.compile(r"(?:[0-9]{1,2}-[0-9]{1,7}(?:\.[0-9]{1,2}-[0-9]{1,7}){0,30})?", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
# The largest values that these two expressions accept. Viewers can report any number of long stalls while a node does
# not answer.
_MAX_COUNT: Final = 9_999_999
_MAX_NUMBER: Final = 999_999_999

# Upper bounds of the buckets; a value above the last one counts in one more bucket.
_STARTUP: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 60)  # seconds
_LATENCY: Final = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 60)  # seconds
_BITRATE: Final = (
    *(100, 200, 400, 600, 800, 1000, 1500, 2000, 2500, 3000, 4000, 5000),
    *(6000, 8000, 10_000, 15_000, 25_000),
)  # kbit/s
PAGES: Final[tuple[str, ...]] = ("watch", "embed", "flv", "index", "hls", "dash", "instant", "whep", "other")
_PAGE: Final = tuple(range(len(PAGES) - 1))  # the numbers of pages in `pages` of Totals
_HEIGHT: Final = (144, 240, 360, 480, 540, 720, 1080, 1440, 2160, 4320)  # pixels


class Distribution:
    """Counts values in buckets."""

    __slots__ = ("bounds", "counts")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = array("Q", (0,)) * (len(bounds) + 1)

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1

    def merge(self, other: Distribution) -> None:
        self.counts = array("Q", map(sum, zip(self.counts, other.counts, strict=True)))

    def quantile(self, share: float) -> float | None:
        """Returns the value that `share` of all values do not exceed, interpolated within its bucket; None: no values.

        Values above the last bound count as the last bound.
        """
        wanted = sum(self.counts) * share
        if not wanted:
            return None
        below, passed = 0.0, 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if passed + count >= wanted:
                return below + (bound - below) * (wanted - passed) / count
            below, passed = bound, passed + count
        return self.bounds[-1]

    def encode(self) -> str:
        """Returns the counts that are not 0, such as `3-1.7-12`."""
        return ".".join(f"{n}-{min(count, _MAX_COUNT)}" for n, count in enumerate(self.counts) if count)

    def decode(self, text: str) -> None:
        """Reads what `encode` has written. Raises ValueError."""
        if not _SPARSE.fullmatch(text):
            raise ValueError("not a distribution")
        for item in filter(None, text.split(".")):
            n, _, count = item.partition("-")
            if int(n) >= len(self.counts):
                raise ValueError("not a distribution")
            self.counts[int(n)] = int(count)


class Totals:
    """The totals of the players of one channel by one protocol. players: those that began. stall_seconds: of all.

    pages: in which of PAGES they began, as far as they say.
    """

    __slots__ = ("bitrate", "height", "latency", "pages", "players", "stall_seconds", "stalls", "startup")

    def __init__(self) -> None:
        self.players = 0
        self.stalls = 0
        self.stall_seconds = 0.0
        self.startup = Distribution(_STARTUP)
        self.latency = Distribution(_LATENCY)
        self.bitrate = Distribution(_BITRATE)  # kbit/s
        self.height = Distribution(_HEIGHT)
        self.pages = Distribution(_PAGE)

    def distributions(self) -> tuple[Distribution, ...]:
        return self.startup, self.latency, self.bitrate, self.height

    def merge(self, other: Totals) -> None:
        self.players += other.players
        self.stalls += other.stalls
        self.stall_seconds += other.stall_seconds
        self.pages.merge(other.pages)
        for own, added in zip(self.distributions(), other.distributions(), strict=True):
            own.merge(added)

    def encode(self) -> str:
        """Returns the totals as text of URL characters, at most 700. Larger numbers than `decode` reads are limited.

        The pages are left out if there are none: earlier versions do not read them.
        """
        numbers = (self.players, self.stalls, round(self.stall_seconds * 1000))
        texts = [str(min(number, _MAX_NUMBER)) for number in numbers]
        pages = [text] if (text := self.pages.encode()) else []
        return "_".join((*texts, *(d.encode() for d in self.distributions()), *pages))

    @classmethod
    def decode(cls, text: str) -> Totals:
        """Reads what `encode` has written. Raises ValueError."""
        fields = text.split("_")
        totals = cls()
        if len(fields) not in (7, 8) or not all(map(_NUMBER.fullmatch, fields[:3])):
            raise ValueError("not totals of players")
        totals.players, totals.stalls, milliseconds = map(int, fields[:3])
        totals.stall_seconds = milliseconds / 1000
        for distribution, counts in zip((*totals.distributions(), totals.pages), fields[3:], strict=False):
            distribution.decode(counts)
        return totals

    def as_json(self) -> dict[str, Any]:
        """Returns the totals for the API: seconds, bits per second, pixels."""
        p50, p95 = self.height.quantile(0.5), self.height.quantile(0.05)
        return {
            "viewers": self.players,
            "stalls": self.stalls,
            "stallSeconds": round(self.stall_seconds, 1),
            "startup": _quantiles(self.startup),
            "latency": _quantiles(self.latency),
            "bitrate": _quantiles(self.bitrate, 1000, worst=0.05),
            "height": {"p50": _bucket_of(p50), "p95": _bucket_of(p95)},
        }


def _quantiles(values: Distribution, factor: float = 1, worst: float = 0.95) -> dict[str, float | None]:
    """Returns `p50`, and as `p95` the quantile `worst`: 5 of 100 viewers have a worse value."""
    found = {"p50": values.quantile(0.5), "p95": values.quantile(worst)}
    return {name: None if value is None else round(value * factor, 3) for name, value in found.items()}


def _bucket_of(height: float | None) -> int | None:
    """Returns the usual height for an interpolated one."""
    return None if height is None else int(_HEIGHT[min(bisect_left(_HEIGHT, height), len(_HEIGHT) - 1)])


@dataclass(slots=True)
class _PlayerState:
    """The state of one player.

    began: time of its first request. starved: time of its last empty buffer; -1e9: never.
    earliest: time from which its stalls count. These times are monotonic seconds.
    stalls, stalled_ms: of its last report.
    counted_stalls, counted_seconds: number and duration of the stalls that were counted.
    """

    began: float
    earliest: float
    starting: bool = False
    started: bool = False
    starved: float = -1e9
    stalls: int = 0
    stalled_ms: int = 0
    counted_stalls: int = 0
    counted_seconds: float = 0.0


@dataclass(slots=True, eq=False)
class _Windows:
    """The totals of the current window, which began at `began`, and of the one before."""

    began: float
    before: Totals = field(default_factory=Totals)
    now: Totals = field(default_factory=Totals)

    def advance(self, at: float) -> None:
        if at - self.began >= WINDOW_SECONDS:
            self.before = self.now if at - self.began < 2 * WINDOW_SECONDS else Totals()
            self.now = Totals()
            self.began = at

    def combine(self) -> Totals:
        totals = Totals()
        totals.merge(self.before)
        totals.merge(self.now)
        return totals


class Experience:
    """Takes the reports of viewers at this node, and the totals that other nodes send. clock: monotonic seconds.

    metrics: gets only the viewers of this node.

    Any client can send false reports. So an address may send PER_MINUTE of them. A player cannot stall for longer than
    it exists. If there are too many players, the channel with the most loses its oldest ones.
    """

    def __init__(self, metrics: Metrics, clock: Clock = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._limit = AddressCounts(PER_MINUTE)
        self._states: dict[str, OrderedDict[int, _PlayerState]] = {}  # of the players, by channel and session id
        self.players = 0  # number of all
        self._delays: BoundedDict[str, tuple[float, float]] = BoundedDict(MAX_TOTALS)  # time and delay, by channel
        self._totals: BoundedDict[tuple[str, str], _Windows] = BoundedDict(MAX_TOTALS)  # by channel and protocol
        self._unsent: BoundedDict[tuple[str, str], Totals] = BoundedDict(MAX_TOTALS)  # since the last `take`
        self._shows: dict[str, dict[str, Totals]] = {}  # of shows that last, by channel and protocol

    def __len__(self) -> int:
        return len(self._totals)

    def count_report(self, address: str) -> bool:
        """Counts a report of an address. Returns False above PER_MINUTE; then the caller ignores the report."""
        return self._limit.take(address, self._clock())

    def add(self, channel: str, protocol: str, data: Cmcd, began: float | None = None) -> None:
        """Adds what a player has sent. protocol: one of PROTOCOLS. Hot path.

        began: when a new player sent its first request, monotonic seconds; None: now.
        """
        now = self._clock()
        states = self._states.get(channel)
        state = states.get(data.session) if states is not None else None
        new = state is None
        if state is None:
            state = self._begin(channel, data.session, now if began is None else began, now)
        elif states is not None:
            states.move_to_end(data.session)
        startup = self._update_startup(state, data, now)
        stalls, seconds = self._update_stalls(state, data, now)
        latency = None if data.latency is None else data.latency / 1000
        self._count(protocol, startup, stalls, seconds, latency)
        if latency is not None:
            self._delays[channel] = (now, latency)
        values = startup, latency, data.bitrate, data.height
        for totals in self._current_and_unsent(channel, protocol, now):
            totals.players += new
            if new and data.page:
                totals.pages.add(PAGES.index(data.page) if data.page in PAGES else len(PAGES) - 1)
            totals.stalls += stalls
            totals.stall_seconds += seconds
            for distribution, value in zip(totals.distributions(), values, strict=True):
                if value is not None:
                    distribution.add(value)

    def has_players(self, channel: str) -> bool:
        """Whether players of a channel have sent reports not long ago."""
        return bool(self._states.get(channel))

    def behind(self, channel: str) -> float | None:
        """Returns the delay that a viewer of this node has reported last, seconds; None: no viewer did so recently."""
        at, delay = self._delays.get(channel) or (-math.inf, 0.0)
        return delay if self._clock() - at < _REPORTED_SECONDS else None

    def merge(self, channel: str, totals: Mapping[str, Totals]) -> None:
        """Adds the totals of another node, by protocol."""
        now = self._clock()
        for protocol, added in totals.items():
            for into in self._current_and_unsent(channel, protocol, now):
                into.merge(added)

    def put_back(self, channel: str, totals: Mapping[str, Totals]) -> None:
        """Returns totals that could not be sent, for the next call of `take`."""
        for protocol, unsent in totals.items():
            self._unsent_of(channel, protocol).merge(unsent)

    def take(self, held_here: Callable[[str], bool]) -> dict[str, dict[str, Totals]]:
        """Returns the totals since the last call, by channel and protocol, for channels that another node holds."""
        found: dict[str, dict[str, Totals]] = {}
        for (channel, protocol), totals in self._unsent.items():
            if not held_here(channel):
                found.setdefault(channel, {})[protocol] = totals
        self._unsent.clear()
        return found

    def of(self, channel: str) -> dict[str, Totals]:
        """Returns the totals of a channel by protocol, over the last one to two windows."""
        now, found = self._clock(), {}
        for protocol in PROTOCOLS:
            windows = self._totals.get((channel, protocol))
            if windows is not None:
                windows.advance(now)
                totals = windows.combine()
                if totals.players or any(any(d.counts) for d in totals.distributions()):
                    found[protocol] = totals
        return found

    def begin_show(self, channel: str) -> None:
        """Counts the totals of a show from now on."""
        self._shows[channel] = {}

    def of_show(self, channel: str) -> Mapping[str, Totals]:
        """Returns the totals since `begin_show`, by protocol. They change until `end_show`."""
        return self._shows.get(channel, {})

    def end_show(self, channel: str) -> None:
        self._shows.pop(channel, None)

    # ---- details ----

    def _begin(self, channel: str, id: int, began: float, now: float) -> _PlayerState:
        if self.players >= MAX_PLAYERS:
            self._make_room()
        state = _PlayerState(began, now - _EARLIER_SECONDS)
        self._states.setdefault(channel, OrderedDict())[id] = state
        self.players += 1
        return state

    def _make_room(self) -> None:
        """Removes a hundredth of the players: the least recent ones of the channel with the most players."""
        channel = max(self._states, key=lambda name: len(self._states[name]))
        states = self._states[channel]
        for _ in range(min(len(states), MAX_PLAYERS // 100 + 1)):
            states.popitem(last=False)
            self.players -= 1
        if not states:
            del self._states[channel]

    def _current_and_unsent(self, channel: str, protocol: str, now: float) -> Iterator[Totals]:
        """Yields the current totals, those that are not sent yet, and those of the show."""
        windows = self._totals[channel, protocol] = self._totals.get((channel, protocol)) or _Windows(now)
        windows.advance(now)
        yield windows.now
        yield self._unsent_of(channel, protocol)
        if (show := self._shows.get(channel)) is not None:
            yield show.setdefault(protocol, Totals())

    def _unsent_of(self, channel: str, protocol: str) -> Totals:
        totals = self._unsent.get((channel, protocol))
        if totals is None:
            totals = self._unsent[channel, protocol] = Totals()
        return totals

    @staticmethod
    def _update_startup(state: _PlayerState, data: Cmcd, now: float) -> float | None:
        """Returns the start-up time in seconds if this report ends the start-up; otherwise None.

        If the player did not send the time, it is measured here.
        """
        if state.started:
            return None
        if data.startup is not None:
            state.started = True
            return data.startup / 1000
        if data.starting:
            state.starting = True
            return None
        state.started = True
        return now - state.began if state.starting else None

    @staticmethod
    def _update_stalls(state: _PlayerState, data: Cmcd, now: float) -> tuple[int, float]:
        """Returns number and seconds of the stalls since the last report of this player."""
        stalls, seconds = 0, 0.0
        if data.stalls is not None:
            stalls, state.stalls = data.stalls - state.stalls, data.stalls
        elif data.starved and now - state.starved > _SAME_STALL_SECONDS:
            stalls, state.starved = 1, now
        if data.stalled_ms is not None:
            seconds, state.stalled_ms = (data.stalled_ms - state.stalled_ms) / 1000, data.stalled_ms
        elif data.stall_ms is not None:
            seconds = data.stall_ms / 1000
        possible = now - state.earliest
        stalls = max(0, min(stalls, int(possible) - state.counted_stalls))
        seconds = max(0.0, min(seconds, possible - state.counted_seconds))
        state.counted_stalls += stalls
        state.counted_seconds += seconds
        return stalls, seconds

    def _count(self, protocol: str, startup: float | None, stalls: int, seconds: float, latency: float | None) -> None:
        metrics = self._metrics
        if startup is not None:
            metrics.viewer_startup.observe(startup, protocol)
        if latency is not None:
            metrics.viewer_latency.observe(latency, protocol)
        if stalls:
            metrics.viewer_stalls.add(protocol, amount=stalls)
        if seconds:
            metrics.viewer_stall_seconds.add(protocol, amount=seconds)


def summary(totals: Mapping[str, Totals]) -> dict[str, Any]:
    """Returns the totals of a channel for the API: of all protocols together, and of each protocol."""
    together = Totals()
    for one in totals.values():
        together.merge(one)
    protocols = {name: one.as_json() for name, one in totals.items()}
    return {"seconds": int(2 * WINDOW_SECONDS), "all": together.as_json(), "protocols": protocols}
