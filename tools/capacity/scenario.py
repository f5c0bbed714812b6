"""Scenarios: a load, what happens to it, and how the fleet may react."""

from __future__ import annotations

from dataclasses import dataclass, field

from tools.capacity.balance import Spread
from tools.capacity.machines import C7GN_LARGE, FARGATE_2, Machine
from tools.capacity.plan import Load
from tools.capacity.policy import Policy, Surroundings
from tools.capacity.scaling import Target


@dataclass(frozen=True, slots=True)
class Crowd:
    """Viewers of FLV who come besides, within `over` seconds. channel: the one they want; None: by popularity."""

    at: float
    viewers: int
    over: float
    channel: int | None = 0


@dataclass(frozen=True, slots=True)
class Death:
    """A machine's processes that die without a word. silent: the machine with them, so that nobody says so either."""

    at: float
    what: str  # "gateway" or "edge"
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Deploy:
    """All machines are replaced, one after another: the new one is there before the old one goes."""

    at: float
    what: str


@dataclass(frozen=True, slots=True)
class Outage:
    """The registry does not answer."""

    at: float
    seconds: float


Event = Crowd | Death | Deploy | Outage


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a simulation runs. warm: seconds that are not measured, then `seconds` that are. gateways, edges: machines
    at the beginning; 0: as planned.

    fill: how full the plan makes nodes. stay, session, pause: seconds that a viewer stays, an encoder pushes and
    pauses, on the average. cold: nobody watches at the beginning.
    """

    name: str
    load: Load
    seconds: float = 600.0
    warm: float = 60.0
    events: tuple[Event, ...] = ()
    gateway: Machine = FARGATE_2
    edge: Machine = C7GN_LARGE
    gateways: int = 0
    edges: int = 0
    spread: Spread = Spread.ROUND
    target: Target | None = field(default_factory=Target)
    fill: float = 0.57
    stay: float = 1800.0
    session: float = 7200.0
    pause: float = 60.0
    cold: bool = False
    policy: Policy = field(default_factory=Policy)
    around: Surroundings = field(default_factory=Surroundings)
