"""A memory cache for the answers of holders, bounded in bytes. It drops the least recently used entry first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, Protocol, TypeVar

_OVERHEAD: Final = 1_024  # bytes an entry costs beside its body; viewers can make up any number of names


class CacheEntry(Protocol):
    """An entry of the cache.

    size: bytes of the body.
    fresh_until: monotonic seconds until which the entry may answer a request.
    stale_until: monotonic seconds until which it may answer if no node does.
    """

    @property
    def size(self) -> int: ...

    @property
    def fresh_until(self) -> float: ...

    @property
    def stale_until(self) -> float: ...


K = TypeVar("K", bound=CacheEntry)


class Cache(Generic[K]):
    """A cache of at most `max_bytes` bytes. It does not keep an entry that is larger than an eighth of that.

    Times are parameters, in monotonic seconds. Counters: `hits`, `misses`. `bytes` is the size of all entries now.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, K] = OrderedDict()
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, now: float) -> K | None:
        """Returns the entry if it is fresh. Hot path."""
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
        """Returns the entry if it may still be used when no node answers."""
        entry = self._entries.get(key)
        return entry if entry is not None and max(entry.stale_until, entry.fresh_until) > now else None

    def put(self, key: Hashable, entry: K) -> None:
        """Stores the entry, in place of an older one with this key."""
        self.forget(key)
        size = entry.size + _OVERHEAD
        if size > self._max_bytes // 8:
            return
        self._entries[key] = entry
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self.bytes -= oldest.size + _OVERHEAD

    def forget(self, key: Hashable) -> None:
        """Removes the entry, if there is one."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size + _OVERHEAD
