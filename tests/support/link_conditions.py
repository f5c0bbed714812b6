"""What a thin link does to datagrams: loss in bursts, reordering, duplicates, delay, jitter and a rate, by a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass
class Conditions:
    """What the link does to datagrams. Shares in percent, times in milliseconds, rate in kbit/s (0: no limit).

    burst: mean number of datagrams that are lost together. kill: each of these seconds, the link is down …
    down: … for so long. only: host of the clients whose link is down then; empty: of all.
    """

    loss: float = 0.0
    burst: float = 1.0
    reorder: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    rate: float = 0.0
    queue: float = 500.0
    kill: float = 0.0
    down: float = 0.0
    only: str = ""
    seed: int = 1


@dataclass
class Way:
    """One direction of a link. The times are arguments, so that the link may be real or simulated."""

    conditions: Conditions
    random: random.Random
    free_at: float = 0.0  # when the last datagram has left, by the rate
    is_losing: bool = False
    received: int = 0
    lost: int = 0

    def arrivals(self, size: int, now: float, began: float, client: str) -> list[float]:
        """Returns when copies of a datagram arrive; nothing if it is lost."""
        c, random = self.conditions, self.random
        self.received += 1
        if c.kill and (now - began) % c.kill > c.kill - c.down and c.only in ("", client):
            self.lost += 1
            return []
        # A Gilbert model. Bursts are never shorter than those of independent losses.
        share = c.loss / 100
        ends = min(1 / c.burst, 1 - share)
        begins = share * ends / (1 - share) if share < 1 else 1.0
        self.is_losing = random.random() >= ends if self.is_losing else random.random() < begins
        if self.is_losing:
            self.lost += 1
            return []
        at = now
        if c.rate:
            self.free_at = max(now, self.free_at) + size * 8 / (c.rate * 1000)
            if (self.free_at - now) * 1000 > c.queue:
                self.free_at -= size * 8 / (c.rate * 1000)
                self.lost += 1
                return []
            at = self.free_at
        at += (c.delay + c.jitter * random.random()) / 1000
        if random.random() < c.reorder / 100:
            at += 0.02 + 0.02 * random.random()
        return [at, at + 0.005] if random.random() < c.duplicate / 100 else [at]
