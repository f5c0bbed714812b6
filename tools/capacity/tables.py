"""The page's tables, in Markdown: each is computed from nothing but this package."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from tools.capacity import bill, machines, measured, plan, prices, scenarios
from tools.capacity.bill import Usage
from tools.capacity.costs import Spent, of_edge, of_gateway
from tools.capacity.demand import MIXED, ONLY_FLV, ONLY_HLS, ONLY_LLHLS, Asked, Media, player_requests
from tools.capacity.machines import Machine
from tools.capacity.measured import Figure
from tools.capacity.outcome import Outcome, mean, percentile
from tools.capacity.plan import Load
from tools.capacity.registry import Operation
from tools.capacity.scenario import Scenario
from tools.capacity.world import World

SEED: Final = 1


@lru_cache(64)
def simulated(scenario: Scenario) -> World:
    """Run once, for all tables that show it."""
    world = World(scenario, SEED)
    world.run()
    return world


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def number(x: float) -> str:
    """Three digits that count (below ten two), thousands set off."""
    if abs(x) >= 100:
        digits = 10 ** max(0, len(str(round(abs(x)))) - 3)
        return f"{round(x / digits) * digits:,}"
    return f"{x:.3g}" if abs(x) >= 10 else f"{x:.2g}"


def percent(x: float) -> str:
    return f"{100 * x:.0f} %"


def money(x: float) -> str:
    return f"${number(x)}"


def seconds(x: float) -> str:
    return f"{x * 1000:.0f} ms" if x < 0.95 else f"{x:.1f} s"


def month_of(load: Load, seen: Outcome) -> Mapping[str, float]:
    """The bill of 730 hours like those that a simulation saw."""
    hour = 3600 / seen.seconds
    return bill.month(
        Usage(
            nodes=seen.node_hours,
            delivered=load.viewers * load.media.gb_hour,
            balanced=seen.balanced * hour,
            between=seen.between * hour,
            requests=load.viewers * player_requests(load.mix, load.media) * 3600 if load.cdn else 0.0,
            shielded=seen.shielded * hour if load.cdn else 0.0,
            reads=seen.read_units * hour,
            writes=seen.write_units * hour,
            joins=len(seen.joins) / seen.seconds + (0 if load.cdn else load.viewers * load.mix.cached / 600),
            open=mean(seen.viewers) + (0 if load.cdn else load.viewers * load.mix.cached),
            cdn=load.cdn is not None,
        )
    )


# ---- what was measured, what it costs ----


def figures() -> str:
    found = {name: x for name, x in vars(measured).items() if isinstance(x, Figure)}
    rows = [(_said(x), x.unit, f"`P {x.how}`") for x in found.values()]
    return markdown(["figure", "of what", "command"], rows)


def _said(x: Figure) -> str:
    if x.value < 0.001:
        return f"{x.value * 1e6:.3g}e-6"
    return f"{x.value:.3g}"


def price_list() -> str:
    return markdown(["what", "assumed"], prices.LIST)


def one_machine() -> str:
    """What each machine carries by itself, at the fill of the plan, and what is full first."""
    media = Media()
    processes = plan.Load(1, 1, MIXED).edge_processes
    loads: list[tuple[Callable[[int], Spent], int]] = [
        (lambda n: of_edge(n, 1, Asked(), media), processes),
        (lambda n: of_edge(n, 1, Asked(), media, measured.FANOUT_SLOW.value), processes),
        (lambda n: of_edge(0, 0, _asked(n, media), media), processes),
        (lambda n: of_gateway(n, 1.0, 0, 0.0, 0.0, media), 0),
    ]
    rows = []
    for machine in machines.ALL:
        network = f"{machine.network:g} Gbit/s" + (" (a guess)" if machine.guess else "")
        carried = [_most(spent, machine, processes) for spent, processes in loads]
        rows.append((machine.name, network, money(machine.hour * prices.HOURS_PER_MONTH), *carried))
    heads = ["machine", "network", "a month", "FLV viewers", "… flush 200 ms", "HLS viewers", "packaged pushes"]
    return markdown(heads, rows)


def _asked(viewers: int, media: Media) -> Asked:
    rate = viewers / media.segment
    return Asked(rate, rate, 10.0, viewers * media.bitrate)


def _most(spent: Callable[[int], Spent], machine: Machine, processes: int) -> str:
    part = machine.split(processes)

    def full(n: int) -> Mapping[str, float]:
        return plan.usage(spent(n), part)

    low, high = 0, 1
    while max(full(high).values()) <= scenarios.FILL:
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if max(full(middle).values()) <= scenarios.FILL else (low, middle)
    first = full(high)
    return f"{number(low * part.parts)} ({max(first, key=lambda x: first[x])})"


# ---- scales ----


def nodes() -> str:
    """Nodes, what binds them, and how full they were."""
    rows = []
    for load in scenarios.scales():
        world = simulated(scenarios.steady(load))
        seen = world.outcome
        fleet = world.fleet
        rows.append(
            (
                f"{load.channels:,}",
                f"{load.viewers:,}",
                f"{round(mean(seen.gateways))} × {fleet.gateway.name}",
                fleet.gateways_bound,
                f"{round(mean(seen.edges))} × {fleet.edge.name}",
                fleet.edges_bound,
                f"{percent(percentile(seen.edge_cpu, 0.99))} / {percent(percentile(seen.edge_network, 0.99))}",
                number(mean(seen.pulls)),
                seconds(percentile(seen.joins, 0.99)),
            )
        )
    heads = [
        "channels", "viewers", "gateways", "full first", "edges", "full first", "edge CPU / network p99",
        "FLV pulls", "FLV join p99",
    ]  # fmt: skip
    return markdown(heads, rows)


def cost() -> str:
    rows = []
    for load in scenarios.scales():
        seen = simulated(scenarios.steady(load)).outcome
        due = month_of(load, seen)
        total = sum(due.values())
        shown = [money(due[x]) for x in ("nodes", "balancers", "between zones", "registry", "requests", "traffic")]
        share = due["traffic"] / total
        viewer_hours = load.viewers * prices.HOURS_PER_MONTH
        each = f"${1000 * total / viewer_hours:.2f}"
        rows.append((f"{load.channels:,}", f"{load.viewers:,}", *shown, money(total), percent(share), each))
    heads = [
        "channels", "viewers", "nodes", "balancers", "between zones", "DynamoDB", "CloudFront requests",
        "CloudFront traffic", "a month", "traffic's part", "1,000 viewer-hours",
    ]  # fmt: skip
    return markdown(heads, rows)


def protocols() -> str:
    """100 channels and 10,000 viewers of one protocol alone."""
    rows = []
    mixes = {"HTTP-FLV": ONLY_FLV, "HLS": ONLY_HLS, "LL-HLS": ONLY_LLHLS, "10 % FLV, 60 % HLS, 30 % LL-HLS": MIXED}
    for name, mix in mixes.items():
        load = Load(100, 10_000, mix)
        rows.append((name, *_row(load)))
    heads = ["10,000 viewers by", "edges", "nodes and balancers", "DynamoDB", "requests", "traffic", "a month"]
    return markdown(heads, rows)


def alone() -> str:
    """Without a CDN: players come to the edges through a network load balancer."""
    rows = []
    for name, mix in {"HTTP-FLV": ONLY_FLV, "HLS": ONLY_HLS}.items():
        for viewers in (1_000, 10_000, 100_000):
            load = Load(100, viewers, mix, cdn=None)
            rows.append((name, f"{viewers:,}", *_row(load)))
    heads = ["by", "viewers", "edges", "nodes and balancer", "DynamoDB", "requests", "traffic", "a month"]
    return markdown(heads, rows)


def _row(load: Load) -> tuple[str, ...]:
    world = simulated(scenarios.steady(load))
    seen = world.outcome
    due = month_of(load, seen)
    ours = due["nodes"] + due["balancers"] + due["between zones"]
    shown = (money(ours), *(money(due[x]) for x in ("registry", "requests", "traffic")), money(sum(due.values())))
    return f"{round(mean(seen.edges))} × {world.fleet.edge.name}", *shown


def knobs(base: Load) -> str:
    rows = []
    tried = [(name, scenarios.steady(load)) for name, load in scenarios.knobs(base).items()]
    tried.append(("Fargate alone, of 1 Gbit/s (a guess)", scenarios.steady(base, machines=scenarios.FARGATE)))
    for name, scenario in tried:
        world, load = simulated(scenario), scenario.load
        seen = world.outcome
        due = month_of(load, seen)
        ours = sum(due.values()) - due["traffic"] - due["requests"]
        rows.append(
            (
                name,
                f"{round(mean(seen.gateways))} × {world.fleet.gateway.name}",
                f"{round(mean(seen.edges))} × {world.fleet.edge.name}",
                number(mean(seen.pulls)),
                number(seen.shielded / seen.seconds),
                number(seen.units_per_second),
                money(ours),
                money(due["requests"]),
                money(due["traffic"]),
            )
        )
    heads = [
        "", "gateways", "edges", "FLV pulls", "requests/s at the edges", "DynamoDB units/s", "ours a month",
        "CloudFront requests", "CloudFront traffic",
    ]  # fmt: skip
    return markdown(heads, rows)


def registry() -> str:
    """Requests of the tables, by operation, at each scale."""
    rows = []
    for load in scenarios.scales():
        seen = simulated(scenarios.steady(load)).outcome
        others = (Operation.CLAIM, Operation.RELEASE, Operation.CHECK, Operation.HOLDING, Operation.NODE)
        rows.append(
            (
                f"{load.channels:,}",
                f"{load.viewers:,}",
                number(seen.per_minute(Operation.BEAT)),
                number(sum(seen.per_minute(x) for x in others)),
                number(seen.per_minute(Operation.FIND)),
                number(seen.items[Operation.FIND] / max(1, seen.requests[Operation.FIND])),
                number(seen.registry_per_stream_minute),
                number(seen.per_minute(Operation.CHANNEL)),
                number(seen.units_per_second),
            )
        )
    heads = [
        "channels", "viewers", "beats", "claims, checks, releases", "look-ups", "names in one", "a stream-minute",
        "reads of channels", "units/s of both tables",
    ]  # fmt: skip
    return markdown(heads, rows)


def viewers_do_not_matter() -> str:
    """The same 100 channels and the same 8 edges, by FLV and by LL-HLS, and ever more viewers."""
    rows = []
    for viewers in (100, 1_000, 10_000, 100_000):
        shown = []
        for mix in (ONLY_FLV, ONLY_LLHLS):
            load = Load(100, viewers, mix)
            scenario = Scenario("bound", load, gateways=4, edges=8, target=None)
            seen = simulated(scenario).outcome
            shown += [number(seen.registry_per_stream_minute), number(seen.per_minute(Operation.CHANNEL) / 100)]
        rows.append((f"{viewers:,}", *shown))
    heads = ["viewers", "FLV: registry", "FLV: channels", "LL-HLS: registry", "LL-HLS: channels"]
    return markdown(heads, rows)


# ---- what happens ----


def faults() -> str:
    return _happenings(scenarios.faults())


def crowds() -> str:
    return _happenings(scenarios.crowds())


def _happenings(them: Mapping[str, Scenario]) -> str:
    rows = []
    for name, scenario in them.items():
        seen = simulated(scenario).outcome
        rows.append(
            (
                name,
                f"{len(seen.joins):,}",
                f"{seconds(percentile(seen.joins, 0.5))} / {seconds(percentile(seen.joins, 0.99))}",
                f"{seen.late:,}",
                f"{seen.refused:,}",
                _spread(seen.silence),
                _spread(seen.republished),
                _spread(seen.recovered),
                percent(seen.starved / seen.viewed) if seen.viewed else "",
                f"{min(seen.edges)} → {max(seen.edges)}",
                number(seen.registry_per_minute),
            )
        )
    heads = [
        "", "joins", "pictures after p50 / p99", "late (> 2 s)", "tries in vain", "stream away p50 / max",
        "… since the encoder came back",
        "players without pictures p50 / max", "viewing starved", "edges", "registry requests a minute",
    ]  # fmt: skip
    return markdown(heads, rows)


def _spread(values: Sequence[float]) -> str:
    return f"{seconds(percentile(values, 0.5))} / {seconds(max(values))}" if values else "–"


# ---- what else a channel costs ----


def extras() -> str:
    """Dollars a month of one channel that is always live, beside what the tables above hold."""
    hours, media = prices.HOURS_PER_MONTH, Media()
    gb = media.gb_hour * hours
    task = machines.fargate(1, 2, 1.0)
    ladder = task.hour * measured.LADDER.value / 0.75
    mark = task.hour * measured.WATERMARK.value / 0.75
    rows = [
        ("ladder of three rungs (720p30), three quarters of a Fargate vCPU used", money(ladder * hours)),
        ("watermark (720p30), likewise", money(mark * hours)),
        ("MP4 recording in S3: a PUT a minute (`video_time` 60)", money(hours * 60 * prices.S3_PUT)),
        (f"… the {number(gb)} GB that it stores, for each month they are kept", money(gb * prices.S3_GB_MONTH)),
        ("on demand (`isOnDemand`): a segment each 10 s, the playlist with it", money(hours * 720 * prices.S3_PUT)),
        ("pictures, `image_time` 30", money(hours * 120 * prices.S3_PUT)),
        ("… `image_time` 1", money(hours * 3600 * prices.S3_PUT)),
        ("relay to one target: traffic to the internet, first tier", money(prices.tiered(gb, prices.INTERNET_GB))),
    ]  # fmt: skip
    return markdown(["of one channel", "a month"], rows)


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "figures": figures,
    "prices": price_list,
    "machine": one_machine,
    "nodes": nodes,
    "cost": cost,
    "protocols": protocols,
    "alone": alone,
    "knobs": lambda: knobs(scenarios.BASE),
    "knobs-wide": lambda: knobs(scenarios.WIDE),
    "registry": registry,
    "bound": viewers_do_not_matter,
    "faults": faults,
    "crowds": crowds,
    "extras": extras,
}
