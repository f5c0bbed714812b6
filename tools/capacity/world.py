"""The world: a scenario, run from its beginning to its end by an agenda, deterministic for each seed."""

from __future__ import annotations

import math
import random

from tools.capacity import plan
from tools.capacity.agenda import Agenda
from tools.capacity.balance import Balancer, Spread
from tools.capacity.fleet import Edge, Gateway
from tools.capacity.outcome import Outcome
from tools.capacity.players import Players
from tools.capacity.popularity import Popularity, audience
from tools.capacity.pushes import Pushes
from tools.capacity.reader import Reader
from tools.capacity.registry import Operation, Registry
from tools.capacity.scaling import Target, Tracker
from tools.capacity.scenario import Crowd, Death, Deploy, Event, Outage, Scenario
from tools.capacity.watch import Watch
from tools.capacity.web import Web

SAMPLE = 5.0  # seconds between two looks at the nodes


class World:
    """One run of a scenario. fleet: what was planned for it."""

    def __init__(self, scenario: Scenario, seed: int = 1) -> None:
        self._scenario = scenario
        load, policy, around = scenario.load, scenario.policy, scenario.around
        self.fleet = plan.fleet(load, scenario.gateway, scenario.edge, scenario.fill)
        self.outcome = Outcome(seconds=scenario.seconds)
        self._chance = random.Random(seed)  # noqa: S311
        self._agenda = Agenda()
        self._registry = Registry()
        self._popularity = Popularity(load.channels, load.exponent)
        self._web = Web(load, policy, self._registry, around.registry_latency)
        self._watch = Watch(load, self.outcome, SAMPLE)
        self._pushes = Pushes(self._agenda, self._registry, policy, around, self._chance, self.outcome)
        self._players = Players(
            self._agenda,
            self._registry,
            policy,
            around,
            self._chance,
            self.outcome,
            self._pushes,
            Balancer(scenario.spread),
            load.media,
            scenario.stay,
        )
        self._next_id = 0
        self._gateway = scenario.gateway.split()
        self._edge = scenario.edge.split(load.edge_processes)
        self._starting = 0  # machines
        self._measuring = False
        self._begin()

    def run(self) -> Outcome:
        """What the measured seconds saw."""
        scenario, agenda, seen, registry = self._scenario, self._agenda, self.outcome, self._registry
        agenda.run(scenario.warm)
        self._measuring = True
        registry.forget_counts()
        seen.joins.clear()
        seen.refused = seen.opened = 0
        agenda.run(scenario.warm + scenario.seconds)
        seen.requests, seen.items = registry.requests, registry.items
        seen.read_units, seen.write_units = registry.read_units, registry.write_units
        return seen

    # ---- the beginning ----

    def _begin(self) -> None:
        scenario, agenda, load = self._scenario, self._agenda, self._scenario.load
        for _ in range(scenario.gateways or self.fleet.gateways // self._gateway.parts):
            self._add_gateways()
        for _ in range(scenario.edges or self.fleet.edges // self._edge.parts):
            self._add_edges()
        gateways = self._gateways()
        for channel in range(load.channels):
            self._pushes.at_once(channel, gateways[channel % len(gateways)])
            lasts = self._chance.expovariate(1 / scenario.session)
            agenda.after(lasts, lambda c=channel: self._over(c))  # type: ignore[misc]
        self._web.share(self._edges())
        if not scenario.cold:
            self._seat()
            agenda.every(1.0, self._arrive)
        agenda.every(SAMPLE, self._sample)
        if scenario.target is not None:
            self._scale(scenario.target)
        for event in scenario.events:
            agenda.at(scenario.warm + event.at, lambda event=event: self._happen(event))  # type: ignore[misc]

    def _seat(self) -> None:
        """The viewers who have been there since before."""
        load, edges, spread = self._scenario.load, self._edges(), self._scenario.spread
        balancer = Balancer(spread if spread is Spread.HASH else Spread.ROUND)  # all the same to who fills empty seats
        watching = audience(load.channels, load.exponent, round(load.viewers * load.mix.flv))
        seats = [channel for channel, viewers in enumerate(watching) for _ in range(viewers)]
        self._chance.shuffle(seats)
        for channel in seats:
            edge = balancer.choose(edges, channel)
            assert edge is not None, "there are edges"
            self._players.at_once(channel, edge)

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _add_gateways(self) -> None:
        """A machine's, one for each process; likewise below."""
        for _ in range(self._gateway.parts):
            self._pushes.add(Gateway(self._id(), self._gateway))

    def _add_edges(self) -> None:
        for _ in range(self._edge.parts):
            self._add_edge()

    def _add_edge(self) -> None:
        scenario = self._scenario
        reader = Reader(self._agenda, self._registry, scenario.policy, scenario.around.registry_latency)
        edge = Edge(self._id(), self._edge, reader=reader, media=scenario.load.media, fanout=scenario.load.fanout)
        self._players.add(edge)

        def beat() -> bool:
            if edge.alive:
                self._registry.count(Operation.BEAT)
            return edge.alive

        self._agenda.every(scenario.policy.beat_every, beat, self._chance.uniform(0, scenario.policy.beat_every))

    def _gateways(self) -> list[Gateway]:
        return [gateway for gateway in self._pushes.gateways.values() if gateway.alive]

    def _edges(self) -> list[Edge]:
        return [edge for edge in self._players.edges.values() if edge.alive]

    # ---- who comes and goes ----

    def _arrive(self) -> None:
        """The viewers of the next second, each at a moment of their own."""
        load = self._scenario.load
        for _ in range(poisson(load.viewers * load.mix.flv / self._scenario.stay, self._chance)):
            self._come(self._agenda.now + self._chance.random(), self._choose())

    def _come(self, when: float, channel: int) -> None:
        self._agenda.at(when, lambda: self._players.join(channel, when))

    def _choose(self) -> int:
        """A channel that is on air, by popularity; after some tries any."""
        for _ in range(20):
            channel = self._popularity.choose(self._chance)
            if self._pushes.holder(channel) is not None:
                break
        return channel

    def _over(self, channel: int) -> None:
        """An encoder stops; another push of the channel follows, and its viewers choose something else."""
        scenario, chance = self._scenario, self._chance
        self._pushes.end(channel)
        for _ in range(self._players.channel_over(channel)):
            self._come(self._agenda.now + chance.uniform(*scenario.around.player_again), self._choose())

        def again() -> None:
            self._pushes.begin(channel)
            self._agenda.after(chance.expovariate(1 / scenario.session), lambda: self._over(channel))

        self._agenda.after(chance.expovariate(1 / scenario.pause), again)

    # ---- what happens ----

    def _happen(self, event: Event) -> None:
        agenda, chance = self._agenda, self._chance
        match event:
            case Crowd():
                for _ in range(event.viewers):
                    channel = self._choose() if event.channel is None else event.channel
                    self._come(agenda.now + chance.uniform(0, event.over), channel)
            case Death(what="gateway"):
                for gateway in self._gateways()[: self._gateway.parts]:
                    self._pushes.die(gateway, event.silent)
            case Death():
                for edge in self._edges()[: self._edge.parts]:
                    self._players.die(edge, event.silent)
                self._web.share(self._edges())
            case Deploy(what="gateway"):
                self._replace_gateways(self._gateways())
            case Deploy():
                self._replace_edges(self._edges())
            case Outage():
                self._registry.away = True
                agenda.after(event.seconds, lambda: setattr(self._registry, "away", False))

    def _replace_gateways(self, old: list[Gateway]) -> None:
        def there() -> None:
            self._add_gateways()
            parts = self._gateway.parts
            for gateway in old[:parts]:
                if gateway.alive:
                    self._pushes.leave(gateway)
            self._replace_gateways(old[parts:])

        if old:
            self._agenda.after(self._lag(), there)

    def _replace_edges(self, old: list[Edge]) -> None:
        def there() -> None:
            self._add_edges()
            parts = self._edge.parts
            for edge in old[:parts]:
                if edge.alive:
                    self._players.leave(edge)
            self._web.share(self._edges())
            self._replace_edges(old[parts:])

        if old:
            self._agenda.after(self._lag(), there)

    def _lag(self) -> float:
        """Until a new machine is sent players."""
        around = self._scenario.around
        return self._chance.uniform(*around.start) + around.healthy

    # ---- more and fewer edges ----

    def _scale(self, target: Target) -> None:
        tracker = Tracker(target, self._scenario.around)
        minute: list[float] = []

        def look() -> None:
            full = [target.of(edge) for edge in self._edges()]
            minute.append(sum(full) / max(1, len(full)))

        def point() -> None:
            metric = sum(minute) / max(1, len(minute))
            minute.clear()
            here, parts = [edge for edge in self._edges() if edge.receiving], self._edge.parts
            there_are = round(len(here) / parts) + self._starting
            wanted = tracker.wanted(self._agenda.now, metric, there_are)
            for _ in range(wanted - there_are):
                self._starting += 1
                self._agenda.after(self._lag(), self._started)
            for edge in sorted(here, key=lambda e: e.viewers)[: max(0, len(here) - wanted * parts)]:
                self._players.leave(edge)
            self._web.share(self._edges())

        self._agenda.every(SAMPLE, look)
        self._agenda.every(self._scenario.around.metric_every, point)

    def _started(self) -> None:
        self._starting -= 1
        self._add_edges()
        self._web.share(self._edges())

    def _sample(self) -> None:
        edges = self._edges()
        self._web.count(edges, SAMPLE)
        if self._measuring:
            self._watch.look(self._gateways(), edges, self._starting * self._edge.parts)


def poisson(mean: float, chance: random.Random) -> int:
    """A Poisson-distributed count; normal where the mean is large."""
    if mean > 500:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count
