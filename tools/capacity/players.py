"""Players of the simulation: FLV and RTMP viewers who come, wait for pictures, stay, lose their edge and come again."""

from __future__ import annotations

import random
from collections import defaultdict

from tools.capacity.agenda import Agenda
from tools.capacity.balance import Balancer
from tools.capacity.demand import Media
from tools.capacity.fleet import Audience, Edge
from tools.capacity.outcome import Outcome
from tools.capacity.policy import Policy, Surroundings
from tools.capacity.pushes import Pushes
from tools.capacity.registry import Operation, Registry
from tools.capacity.replica import Replica


class Players:
    """All viewers of long connections. stay: seconds that one stays, on the average."""

    def __init__(
        self,
        agenda: Agenda,
        registry: Registry,
        policy: Policy,
        around: Surroundings,
        chance: random.Random,
        outcome: Outcome,
        pushes: Pushes,
        balancer: Balancer,
        media: Media,
        stay: float,
    ) -> None:
        self.edges: dict[int, Edge] = {}
        self.here = 0
        self._read: dict[int, float] = {}  # when each channel's holder read the table last
        self._agenda = agenda
        self._policy = policy
        self._around = around
        self._chance = chance
        self._outcome = outcome
        self._pushes = pushes
        self._registry = registry
        self._balancer = balancer
        self._media = media
        self._stay = stay
        self._front: list[Edge] = []
        # Who leaves in which second: departures need no entry of the agenda each.
        self._leaving: defaultdict[int, list[tuple[Edge, Audience]]] = defaultdict(list)
        agenda.every(1.0, self._depart)

    # ---- edges ----

    def add(self, edge: Edge) -> None:
        self.edges[edge.id] = edge
        self.look()

    def look(self) -> None:
        """The balancer looks again whom it may send players to."""
        self._front = [e for e in self.edges.values() if e.receiving]

    def die(self, edge: Edge, silent: bool) -> None:
        """Without a word."""
        edge.alive, edge.silent = False, silent
        for replica in list(edge.replicas.values()):
            replica.end()
        gone = edge.send_away()

        def unhealthy() -> None:
            edge.receiving = False
            self.look()

        found = self._chance.uniform(*(self._around.failed_players if silent else self._around.stopped))
        self._agenda.after(found, unhealthy)
        self._come_again(gone, silent)

    def leave(self, edge: Edge) -> None:
        """In good order, after the balancer has stopped sending."""
        edge.alive = edge.receiving = False
        self.look()
        for replica in list(edge.replicas.values()):
            replica.end()
        self._come_again(edge.send_away(), False)
        del self.edges[edge.id]

    def _come_again(self, gone: list[Audience], silent: bool) -> None:
        now = self._agenda.now
        for audience in gone:
            self.here -= audience.viewers
            for _ in range(audience.viewers):
                notices = self._chance.uniform(*self._around.player_notices) if silent else 0.0
                pause = notices + self._chance.uniform(*self._around.player_again)
                self._agenda.after(pause, lambda c=audience.channel: self.join(c, now))  # type: ignore[misc]

    # ---- viewers ----

    def at_once(self, channel: int, edge: Edge) -> None:
        """One that has been there since before the simulation began."""
        self._settle(channel, edge)
        replica = edge.replicas.get(channel)
        if replica is None:
            holder = self._pushes.holder(channel)
            assert holder is not None, "streams are placed before viewers"
            self._replica(channel, edge).at_once(holder)

    def join(self, channel: int, since: float) -> None:
        """One asks for pictures. since: when they began to want them."""
        edge = self._balancer.choose(self._front, channel)
        if edge is None or not edge.alive:
            self._outcome.refused += 1
            notices = self._around.player_notices if edge is not None and edge.silent else (0.0, 0.0)
            pause = self._chance.uniform(*notices) + self._chance.uniform(*self._around.player_again)
            self._agenda.after(pause, lambda: self.join(channel, since))
            return
        self._settle(channel, edge)
        self._judge(channel, edge)
        replica = edge.replicas.get(channel)
        if replica is not None and replica.live:
            self._serve(edge, channel, since)
            return
        if replica is None:
            replica = self._replica(channel, edge)
            replica.begin()
        replica.waiting.append(since)

    def _judge(self, channel: int, edge: Edge) -> None:
        """Who may play stands with the channel, of which an edge asks the holder again when it is old; and that the
        table."""
        now, keep = self._agenda.now, self._policy.channel_keep
        if now - edge.channels.get(channel, -1e9) >= keep:
            edge.channels[channel] = now
            if now - self._read.get(channel, -1e9) >= keep:
                self._read[channel] = now
                self._registry.count(Operation.CHANNEL)

    def _settle(self, channel: int, edge: Edge) -> None:
        audience = edge.audience(channel)
        audience.viewers += 1
        edge.viewers += 1
        self.here += 1
        leaves = self._agenda.now + self._chance.expovariate(1 / self._stay)
        self._leaving[int(leaves) + 1].append((edge, audience))

    def _depart(self) -> None:
        for edge, audience in self._leaving.pop(int(self._agenda.now), ()):
            if audience.void or not audience.viewers:
                continue
            audience.viewers -= 1
            edge.viewers -= 1
            self.here -= 1
            if not audience.viewers and (replica := edge.replicas.get(audience.channel)) is not None:
                replica.left_alone()

    def channel_over(self, channel: int) -> int:
        """A stream has ended, and its viewers with it; returns how many."""
        over = 0
        for edge in self.edges.values():
            audience = edge.audiences.pop(channel, None)
            if audience is not None:
                over += audience.viewers
                edge.viewers -= audience.viewers
                audience.void = True
            if (replica := edge.replicas.get(channel)) is not None:
                replica.end()
        self.here -= over
        return over

    # ---- pictures ----

    def _replica(self, channel: int, edge: Edge) -> Replica:
        made = Replica(
            channel, edge, self._pushes, self._agenda, self._policy, self._around.hop, lambda r: self._opened(r)
        )
        edge.replicas[channel] = made
        return made

    def _opened(self, replica: Replica) -> None:
        self._outcome.opened += 1
        edge, channel, now = replica.edge, replica.channel, self._agenda.now
        waiting, replica.waiting = replica.waiting, []
        for since in waiting:
            self._serve(edge, channel, max(since, self._pushes.began(channel)))
        if replica.broken is not None:
            audience = edge.audiences.get(channel)
            stayed = audience.viewers - len(waiting) if audience is not None else 0
            self._outcome.recovered.extend([now - replica.broken] * max(0, stayed))
            replica.broken = None

    def _serve(self, edge: Edge, channel: int, since: float) -> None:
        age = (self._agenda.now + 0.37 * channel) % self._media.gop
        self._outcome.joins.append(edge.serve(self._agenda.now, age) - since)
