"""Cache: what holders answered, kept in memory within a bound of bytes, the least recently asked forgotten first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, Protocol, TypeVar

_OVERHEAD: Final = 1_024  # what an entry costs beside its bytes: names are the viewers' to choose


class Kept(Protocol):
    """An entry. size: of its bytes. fresh_until: monotonic seconds for which it answers by itself; stale_until: for
    which it does where nobody else answers."""

    @property
    def size(self) -> int: ...

    @property
    def fresh_until(self) -> float: ...

    @property
    def stale_until(self) -> float: ...


K = TypeVar("K", bound=Kept)


class Cache(Generic[K]):
    """At most `most` bytes; an entry that is larger than an eighth of that is not kept. Times are passed in.

    Counters: `hits`, `misses`; `bytes` is what it holds now.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[Hashable, K] = OrderedDict()
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, now: float) -> K | None:
        """Hot. What is fresh."""
        entry = self._entries.get(key)
        if entry is None or entry.fresh_until <= now:
            self.misses += 1
            if entry is not None and entry.stale_until <= now:
                self.forget(key)
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return entry

    def stale(self, key: Hashable, now: float) -> K | None:
        """What may serve while nobody answers."""
        entry = self._entries.get(key)
        return entry if entry is not None and max(entry.stale_until, entry.fresh_until) > now else None

    def put(self, key: Hashable, entry: K) -> None:
        """In place of what is there."""
        self.forget(key)
        size = entry.size + _OVERHEAD
        if size > self._most // 8:
            return
        self._entries[key] = entry
        self.bytes += size
        while self.bytes > self._most:
            _, oldest = self._entries.popitem(last=False)
            self.bytes -= oldest.size + _OVERHEAD

    def forget(self, key: Hashable) -> None:
        """An absent one is fine."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size + _OVERHEAD
