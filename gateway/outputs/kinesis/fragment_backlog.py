"""The fragments that Kinesis has not stored yet, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.media.track import Kind


class KvsFragment:
    """One cluster, which may still be growing.

    header: EBML to Tracks of its stream; None while its tracks are not known yet.
    timecode, latest: time of its beginning and of its latest frame, ms since the epoch.
    pieces: its bytes. sends: how often sending was begun. faults: number of Kinesis errors that named it.
    """

    __slots__ = (
        "complete", "faults", "header", "kinds", "latest", "number", "pieces", "sends", "size", "timecode",
        "whole_sent",
    )  # fmt: skip

    def __init__(self, number: int, timecode: int, head: bytes) -> None:
        self.number = number
        self.timecode = timecode
        self.latest = timecode
        self.header: bytes | None = None
        self.kinds: set[Kind] = set()
        self.pieces = [head]
        self.size = len(head)
        self.complete = False
        self.sends = 0
        self.whole_sent = False
        self.faults = 0


@dataclass(slots=True)
class FragmentCounts:
    """Fragments counted by result, of one stream or of all."""

    persisted: int = 0
    replayed: int = 0
    dropped: int = 0
    unconfirmed: int = 0


class FragmentBacklog:
    """A Fragmenter writes it, connections read it, acknowledgements empty it; all on one loop.

    Beyond `max_bytes` bytes the oldest fragments are removed; the growing one always stays.
    `dropped` counts those that were never sent completely.
    `unconfirmed` counts those that were sent, but cannot be sent again now.
    all: counts for several backlogs together.
    """

    def __init__(self, max_bytes: int, all: FragmentCounts | None = None) -> None:
        self._max_bytes = max_bytes
        self._fragments: deque[KvsFragment] = deque()
        self._waiting: set[asyncio.Future[None]] = set()
        self.size = 0
        self.growth = 0  # bytes that were ever added; it grows when anything arrives
        self.closed = False
        self.counts = FragmentCounts()
        self._all = all if all is not None else FragmentCounts()

    def __len__(self) -> int:
        return len(self._fragments)

    def __iter__(self) -> Iterator[KvsFragment]:
        return iter(list(self._fragments))

    @property
    def half_full(self) -> bool:
        """Whether a writer that can wait should wait."""
        return self.size > self._max_bytes / 2

    @property
    def seconds(self) -> float:
        """Seconds from the first fragment's beginning to the last frame."""
        return (self._fragments[-1].latest - self._fragments[0].timecode) / 1000 if self._fragments else 0.0

    # ---- the fragmenter's side ----

    def add(self, fragment: KvsFragment) -> None:
        """Adds a new fragment, which then grows by `append`."""
        self._fragments.append(fragment)
        self.size += fragment.size
        self.growth += fragment.size
        self._bound()
        self.notify()

    def append(self, fragment: KvsFragment, piece: bytes) -> None:
        """Adds bytes to the fragment that was added last; does nothing if that was dropped meanwhile. Hot path."""
        if not self._fragments or self._fragments[-1] is not fragment:
            return
        fragment.pieces.append(piece)
        fragment.size += len(piece)
        self.size += len(piece)
        self.growth += len(piece)
        if self.size > self._max_bytes:
            self._bound()
        if self._waiting:
            self.notify()

    def close(self) -> None:
        """Ends the backlog: nothing follows."""
        self.closed = True
        self.notify()

    # ---- the connections' side ----

    @property
    def first(self) -> KvsFragment | None:
        return self._fragments[0] if self._fragments else None

    def after(self, number: int) -> KvsFragment | None:
        """Returns the first fragment whose number is above `number`."""
        return next((f for f in self._fragments if f.number > number), None)

    def acknowledge(self, timecode: int) -> int:
        """Removes the stored fragment with this time and all fragments before it, and returns their number.

        Returns 0 if it was not sent completely: a part from a broken connection may be stored, but that is not all of
        it.
        """
        meant = self.find(timecode)
        if meant is None or not meant.whole_sent:
            return 0
        count = 0
        while self._fragments and self._fragments[0].timecode <= timecode:
            self._remove()
            count += 1
        self.counts.persisted += count
        self._all.persisted += count
        self.notify()
        return count

    def find(self, timecode: int | None) -> KvsFragment | None:
        return next((f for f in self._fragments if f.timecode == timecode), None)

    def drop(self, fragment: KvsFragment) -> None:
        """Removes a fragment that would be refused again. If it still grows, the fragmenter's later bytes are
        discarded.
        """
        if fragment in self._fragments:
            self._fragments.remove(fragment)
            self.size -= fragment.size
            self._dropped()

    def replayed(self) -> None:
        """Counts a fragment that is sent again."""
        self.counts.replayed += 1
        self._all.replayed += 1

    async def changed(self) -> None:
        """Returns after the next change of the backlog."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def notify(self) -> None:
        """Wakes every call of `changed`."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _bound(self) -> None:
        while self.size > self._max_bytes and len(self._fragments) > 1:
            if self._fragments[0].whole_sent:
                self.counts.unconfirmed += 1
                self._all.unconfirmed += 1
            else:
                self._dropped()
            self._remove()

    def _dropped(self) -> None:
        self.counts.dropped += 1
        self._all.dropped += 1

    def _remove(self) -> None:
        self.size -= self._fragments.popleft().size
