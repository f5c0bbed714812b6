"""Which channel a viewer chooses: few channels have most viewers (Zipf's law)."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate


class Popularity:
    """Channel k of n (from 0) is chosen in proportion to 1 / (k + 1) ** exponent."""

    def __init__(self, channels: int, exponent: float = 1.0) -> None:
        weights = [1 / (k + 1) ** exponent for k in range(channels)]
        total = sum(weights)
        self.shares = [w / total for w in weights]
        self._sums = list(accumulate(self.shares))
        self._last = channels - 1

    def choose(self, chance: random.Random) -> int:
        return min(bisect_right(self._sums, chance.random()), self._last)


@lru_cache(32)
def audience(channels: int, exponent: float, viewers: int) -> tuple[int, ...]:
    """Whole viewers of each channel, `viewers` in all, by largest remainder."""
    exact = [share * viewers for share in Popularity(channels, exponent).shares]
    whole = [int(x) for x in exact]
    order = sorted(range(len(exact)), key=lambda k: (whole[k] - exact[k], k))
    for k in order[: viewers - sum(whole)]:
        whole[k] += 1
    return tuple(whole)


@lru_cache(32)
def audiences(channels: int, exponent: float, first: int, second: int) -> Mapping[tuple[int, int], int]:
    """How many channels have so many of `first` viewers and so many of `second`."""
    return Counter(zip(audience(channels, exponent, first), audience(channels, exponent, second), strict=True))
