"""The scenarios that the page's tables come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from tools.capacity import measured, plan
from tools.capacity.balance import Spread
from tools.capacity.demand import MIXED, ONLY_FLV, Cdn, Mix
from tools.capacity.machines import C7G_LARGE, C7GN_2XLARGE, C7GN_LARGE, C7GN_XLARGE, FARGATE_1, FARGATE_2, Machine
from tools.capacity.plan import Load
from tools.capacity.scaling import Target
from tools.capacity.scenario import Crowd, Death, Deploy, Event, Outage, Scenario

CHANNELS: Final = (1, 100, 10_000)
VIEWERS: Final = (1_000, 10_000, 100_000, 1_000_000)
MACHINES: Final = (FARGATE_1, FARGATE_2, C7G_LARGE, C7GN_2XLARGE, C7GN_LARGE, C7GN_XLARGE)
FARGATE: Final = (FARGATE_1, FARGATE_2)
FILL: Final = 0.57
GATEWAYS: Final = 4  # where the scenario is about what happens to them


def steady(load: Load, name: str = "", *, seconds: float = 600.0, machines: tuple[Machine, ...] = MACHINES) -> Scenario:
    """A load that stays as it is, on the cheapest fleet that carries it; players and encoders come and go."""
    fleet = plan.cheapest(load, machines, FILL)
    spread = Spread.HASH if load.hashed else Spread.LEAST
    named = {machine.name: machine for machine in machines}
    gateway, edge = named[fleet.gateway.name], named[fleet.edge.name]
    return Scenario(name, load, seconds=seconds, gateway=gateway, edge=edge, spread=spread, fill=FILL)


def scales() -> Iterator[Load]:
    """From one channel and a thousand viewers to ten thousand and a million."""
    for channels in CHANNELS:
        for viewers in VIEWERS:
            yield Load(channels, viewers, MIXED)


BASE: Final = Load(100, 100_000, MIXED)
WIDE: Final = Load(10_000, 100_000, MIXED)


TOLD_OF_MANY_CHANNELS: Final = (
    "as it is",
    "`cmaf.part` 1",
    "no Origin Shield (13 caches ask)",
    "players hashed to edges by channel (HAProxy)",
    "nobody by FLV",
)


def knobs(base: Load) -> Mapping[str, Load]:
    """One change each to a load."""
    media = base.media
    every = {
        "as it is": base,
        "`http.flush_ms` 200": replace(base, fanout=measured.FANOUT_SLOW.value),
        "CloudFront passes on every request for an HLS playlist": replace(base, cdn=Cdn(kept=0.0)),
        "`hls_time` 6": replace(base, media=replace(media, segment=6.0, window=60.0)),
        "`cmaf.part` 1": replace(base, media=replace(media, part=1.0)),
        "no Origin Shield (13 caches ask)": replace(base, cdn=Cdn(caches=13)),
        "players hashed to edges by channel (HAProxy)": replace(base, hashed=True),
        "`hls.on_demand`, `cmaf.on_demand`": replace(base, on_demand=True),
        "streams of 1 Mbit/s": replace(base, media=replace(media, bitrate=1e6)),
        "nobody by FLV": replace(base, mix=Mix(0.0, 0.65, 0.35)),
    }
    if base is WIDE:  # the rest says nothing new there
        return {name: load for name, load in every.items() if name in TOLD_OF_MANY_CHANNELS}
    return every


def faults() -> Mapping[str, Scenario]:
    """What happens to a fleet of 100 channels and 20,000 FLV viewers, and to a cold edge."""
    load = Load(100, 20_000, ONLY_FLV)
    fleet = plan.fleet(load, C7GN_LARGE, C7GN_LARGE, FILL)

    def with_(name: str, *events: Event, seconds: float = 300.0) -> Scenario:
        return Scenario(
            name, load, seconds=seconds, warm=30, events=events, gateway=C7GN_LARGE, edge=C7GN_LARGE,
            gateways=GATEWAYS, edges=fleet.edges // fleet.edge.parts, spread=Spread.LEAST, fill=FILL, session=1e9,
        )  # fmt: skip

    alone = Load(1, 0, ONLY_FLV)
    cold = Scenario(
        "herd", alone, seconds=60, warm=10, events=(Crowd(5, 5_000, 1.0),), edge=C7GN_2XLARGE, edges=1, gateways=1,
        cold=True, target=None,
    )  # fmt: skip
    return {
        "nothing": with_("nothing"),
        "5,000 joins within 1 s, one cold c7gn.2xlarge": cold,
        "… within 10 s": replace(cold, events=(Crowd(5, 5_000, 10.0),)),
        "a gateway dies": with_("gateway", Death(60, "gateway")),
        "… and its machine with it": with_("gateway machine", Death(60, "gateway", silent=True)),
        "an edge dies": with_("edge", Death(60, "edge")),
        "… and its machine": with_("edge machine", Death(60, "edge", silent=True)),
        "all gateways replaced, one by one": with_("deploy gateways", Deploy(10, "gateway"), seconds=600.0),
        "all edges replaced, one by one": with_("deploy edges", Deploy(10, "edge"), seconds=1200.0),
        "the registry away for 60 s": with_("outage", Outage(60, 60)),
    }


def crowds() -> Mapping[str, Scenario]:
    """100,000 FLV viewers who come within a minute, to one channel, while 20,000 watch 100 others."""
    load = Load(100, 20_000, ONLY_FLV)
    fleet = plan.fleet(load, C7GN_LARGE, C7GN_LARGE, FILL)
    edges = fleet.edges // fleet.edge.parts
    base = Scenario(
        "crowd", load, seconds=900, warm=30, events=(Crowd(30, 100_000, 60.0),), gateway=C7GN_LARGE, edge=C7GN_LARGE,
        gateways=GATEWAYS, edges=fleet.edges // fleet.edge.parts, spread=Spread.LEAST, fill=FILL, session=1e9,
    )  # fmt: skip
    return {
        f"{edges} edges, target tracking of traffic": base,
        f"{edges} edges, target tracking of CPU at 60 %": replace(base, target=Target("CPU", 0.6)),
        f"{4 * edges} edges, tracking of traffic": replace(base, edges=4 * edges),
        "an hour's notice: edges for all of them": replace(base, edges=6 * edges, target=None),
    }
