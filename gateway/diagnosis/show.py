"""The numbers of one show: a stream from its first push to its end. No clock and no I/O: callers pass the time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from gateway.diagnosis.experience import PROTOCOLS, Totals

MAX_POINTS: Final = 240  # of the curve of viewers; a longer show has larger steps
_FIRST_STEP: Final = 5  # seconds
_MAX_GAP: Final = 30.0  # seconds; a longer time without a sample is not counted as watched
_MAX_NAMES: Final = 32  # languages of captions


@dataclass(slots=True)
class Watched:
    """Viewers of one protocol: the most at one time, and the seconds that all of them have watched."""

    peak: int = 0
    seconds: float = 0.0

    def add(self, count: int, seconds: float) -> None:
        self.peak = max(self.peak, count)
        self.seconds += count * seconds


@dataclass(slots=True, eq=False)
class Show:
    """One show of a channel.

    start: seconds since 1970, in whole milliseconds. end: None while it lasts. seen: time of the last sample.
    session: the start of its first on-demand recording, milliseconds since 1970; None: it was not recorded.
    viewers: by protocol. peak_at: when there were the most, seconds since 1970.
    curve: the most viewers in each `step` seconds since the start. sent, received: bytes.
    captions: languages or names of the captions. experience: what viewers reported, by protocol.
    """

    start: float
    title: str
    seen: float
    end: float | None = None
    session: int | None = None
    all: Watched = field(default_factory=Watched)
    viewers: dict[str, Watched] = field(default_factory=dict)
    peak_at: float = 0.0
    step: int = _FIRST_STEP
    curve: list[int] = field(default_factory=list)
    sent: int = 0
    received: int = 0
    captions: list[str] = field(default_factory=list)
    experience: Mapping[str, Totals] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The start in milliseconds since 1970."""
        return str(round(self.start * 1000))

    @property
    def seconds(self) -> float:
        """The duration, until now while the show lasts."""
        return max(0.0, (self.seen if self.end is None else self.end) - self.start)

    @property
    def mean(self) -> float:
        """The mean number of viewers."""
        return self.all.seconds / self.seconds if self.seconds else 0.0

    def sample(self, now: float, counts: Mapping[str, int]) -> None:
        """Counts the viewers of this moment, by protocol. now: seconds since 1970."""
        passed = min(max(0.0, now - self.seen), _MAX_GAP)
        self.seen = max(self.seen, now)
        for protocol, count in counts.items():
            if count > 0:
                self.viewers.setdefault(protocol, Watched()).add(count, passed)
        total = sum(counts.values())
        if total > self.all.peak:
            self.peak_at = now
        self.all.add(total, passed)
        self._draw(total)

    def name_captions(self, names: list[str]) -> None:
        """Adds names of captions that the stream has now."""
        self.captions = list(dict.fromkeys((*self.captions, *names)))[:_MAX_NAMES]

    def _draw(self, count: int) -> None:
        at = int((self.seen - self.start) // self.step)
        while at >= MAX_POINTS:
            self.curve = [max(self.curve[n : n + 2]) for n in range(0, len(self.curve), 2)]
            self.step *= 2
            at = int((self.seen - self.start) // self.step)
        if at >= 0:
            self.curve += [0] * (at + 1 - len(self.curve))
            self.curve[at] = max(self.curve[at], count)

    def stored(self) -> dict[str, Any]:
        """Returns the show as JSON, at most 8 kB."""
        viewers = {name: [one.peak, round(one.seconds, 1)] for name, one in self.viewers.items()}
        experience = {name: totals.encode() for name, totals in self.experience.items()}
        names = ("start", "title", "seen", "end", "session", "peak_at", "step", "curve", "sent", "received", "captions")
        own = {name: getattr(self, name) for name in names}
        return {**own, "all": [self.all.peak, self.all.seconds], "viewers": viewers, "experience": experience}

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Returns a stored show. Raises LookupError, TypeError, ValueError for anything else."""
        return cls(
            float(value["start"]),
            str(value["title"]),
            float(value["seen"]),
            peak_at=float(value["peak_at"]),
            step=int(value["step"]),
            sent=int(value["sent"]),
            received=int(value["received"]),
            end=None if value["end"] is None else float(value["end"]),
            session=None if value["session"] is None else int(value["session"]),
            all=_watched(value["all"]),
            viewers={str(name): _watched(one) for name, one in value["viewers"].items()},
            curve=[int(count) for count in value["curve"][:MAX_POINTS]],
            captions=[str(name) for name in value["captions"]],
            experience={n: Totals.decode(text) for n, text in value["experience"].items() if n in PROTOCOLS},
        )


def _watched(value: Any) -> Watched:
    peak, seconds = value
    return Watched(int(peak), float(seconds))
