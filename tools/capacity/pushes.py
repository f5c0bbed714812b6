"""Pushes of the simulation: encoders, the gateways that claim their streams, and what happens when one dies."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tools.capacity.agenda import Agenda
from tools.capacity.fleet import Gateway
from tools.capacity.outcome import Outcome
from tools.capacity.policy import Policy, Surroundings
from tools.capacity.registry import Operation, Registry


@dataclass(eq=False, slots=True)
class Push:
    """One channel's encoder. began: when it came first. lost: when its gateway died; again: when it first reconnected
    after that."""

    channel: int
    began: float
    gateway: Gateway | None = None
    lost: float | None = None
    again: float | None = None


class Pushes:
    """Encoders of all channels, the balancer in front of the gateways, and claims as the gateway makes them."""

    def __init__(
        self,
        agenda: Agenda,
        registry: Registry,
        policy: Policy,
        around: Surroundings,
        chance: random.Random,
        outcome: Outcome,
    ) -> None:
        self.gateways: dict[int, Gateway] = {}
        self.channels: dict[int, Push] = {}
        self._agenda = agenda
        self._registry = registry
        self._policy = policy
        self._around = around
        self._chance = chance
        self._outcome = outcome

    # ---- holders ----

    def gateway(self, id: int) -> Gateway:
        return self.gateways[id]

    def holder(self, channel: int) -> Gateway | None:
        push = self.channels.get(channel)
        return None if push is None else push.gateway

    def began(self, channel: int) -> float:
        """Since when there are pictures of a channel to be had, or would be but for what happened to nodes."""
        push = self.channels.get(channel)
        return self._agenda.now if push is None else push.began

    # ---- nodes ----

    def add(self, gateway: Gateway) -> None:
        """A gateway joins: it beats and verifies what it claimed."""
        self.gateways[gateway.id] = gateway
        policy, count = self._policy, self._registry.count

        def beat() -> bool:
            if gateway.alive:
                count(Operation.BEAT)
            return gateway.alive

        def check() -> bool:
            if gateway.alive:
                for _ in range(0, len(gateway.held), policy.batch):
                    count(Operation.CHECK, 1, 0)
                count(Operation.CHECK, 0, len(gateway.held))
            return gateway.alive

        self._agenda.every(policy.beat_every, beat, self._chance.uniform(0, policy.beat_every))
        self._agenda.every(policy.check_every, check, self._chance.uniform(0, policy.check_every))

    def die(self, gateway: Gateway, silent: bool) -> None:
        """Without a word: refused at once where the process died, nothing at all where the machine did."""
        now = self._agenda.now
        gateway.alive, gateway.silent = False, silent
        held, gateway.held = gateway.held, {}
        for replica in list(gateway.links):
            # A link's watch looks every `silent` seconds whether anything came since it looked last.
            notices = self._chance.uniform(self._policy.silent, 2 * self._policy.silent) if silent else 0.0
            replica.live = False
            replica.broken = now
            self._agenda.after(notices, lambda replica=replica: replica.cut(now))  # type: ignore[misc]
        found = self._between(self._around.failed_pushes if silent else self._around.stopped)
        self._agenda.after(found, lambda: setattr(gateway, "receiving", False))
        for channel in held:
            push = self.channels[channel]
            push.gateway, push.lost, push.again = None, now, None
            notices = self._between(self._around.encoder_notices) if silent else 0.0
            self._agenda.after(notices + self._between(self._around.encoder_again), lambda p=push: self._push(p))  # type: ignore[misc]

    def leave(self, gateway: Gateway) -> None:
        """In good order: encoders are told, rows say that their holder has left."""
        now = self._agenda.now
        gateway.alive = gateway.receiving = False
        held, gateway.held = gateway.held, {}
        for channel, claim in held.items():
            self._registry.release(channel, claim)
            push = self.channels[channel]
            push.gateway, push.lost, push.again = None, now, None
            self._agenda.after(self._between(self._around.encoder_again), lambda p=push: self._push(p))  # type: ignore[misc]
        for replica in list(gateway.links):
            replica.cut(now)

    # ---- streams ----

    def begin(self, channel: int) -> None:
        """An encoder connects."""
        self._push(self.channels.setdefault(channel, Push(channel, self._agenda.now)))

    def at_once(self, channel: int, gateway: Gateway) -> None:
        """It has been there since before the simulation began."""
        self.channels[channel] = Push(channel, self._agenda.now, gateway)
        gateway.held[channel] = self._registry.claim(channel, gateway.id).claim

    def end(self, channel: int) -> None:
        """An encoder has finished."""
        push = self.channels.pop(channel, None)
        if push is None or push.gateway is None:
            return
        claim = push.gateway.held.pop(channel)
        self._registry.release(channel, claim)
        for replica in [r for r in push.gateway.links if r.channel == channel]:
            replica.end()

    def _push(self, push: Push) -> None:
        if self.channels.get(push.channel) is not push or push.gateway is not None:
            return
        front = [g for g in self.gateways.values() if g.receiving]
        if not front:
            self._later(push)
            return
        gateway = self._chance.choice(front)
        if not gateway.alive:
            self._later(push, self._between(self._around.encoder_notices) if gateway.silent else 0.0)
            return
        if push.lost is not None and push.again is None:
            push.again = self._agenda.now
        self._registry.count(Operation.CHANNEL)
        self._registry.count(Operation.HOLDING)
        self._agenda.after(self._around.registry_latency, lambda: self._claim(push, gateway))

    def _claim(self, push: Push, gateway: Gateway) -> None:
        """As Claims: whoever is in the way and refuses connections is succeeded at once, whoever says nothing when its
        beat stood still for long enough on this gateway's clock."""
        if self.channels.get(push.channel) is not push or not gateway.alive:
            self._later(push)
            return
        standing = self._registry.standing(push.channel)
        over = 0
        if standing is not None:
            there = self.gateways[standing.node]
            if there.alive and push.channel in there.held:
                self._later(push)
                return
            if not there.alive and there.silent:
                self._agenda.after(self._policy.connect, lambda: self._doubt(push, gateway, there))
                return
            over = standing.claim
        self._taken(push, gateway, over)

    def _doubt(self, push: Push, gateway: Gateway, there: Gateway) -> None:
        self._registry.count(Operation.NODE)
        since = gateway.doubts.setdefault(there.id, self._agenda.now)
        standing = self._registry.standing(push.channel)
        dead = self._agenda.now - since >= self._policy.dead_after
        if not gateway.alive or not dead or standing is None or standing.node != there.id:
            self._later(push)
            return
        self._taken(push, gateway, standing.claim)

    def _taken(self, push: Push, gateway: Gateway, over: int) -> None:
        held = self._registry.claim(push.channel, gateway.id, over)
        if held.node != gateway.id:
            self._later(push)
            return
        push.gateway = gateway
        gateway.held[push.channel] = held.claim
        if push.lost is not None and push.again is not None:
            now = self._agenda.now + self._around.registry_latency
            self._outcome.republished.append(now - push.again)
            self._outcome.silence.append(now - push.lost)
        push.lost = push.again = None

    def _later(self, push: Push, notices: float = 0.0) -> None:
        self._agenda.after(notices + self._between(self._around.encoder_again), lambda: self._push(push))

    def _between(self, bounds: tuple[float, float]) -> float:
        return self._chance.uniform(*bounds)
