"""Backlog: the fragments that Kinesis has not stored yet, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.media.track import Kind


class Fragment:
    """One cluster, perhaps still growing.

    header: EBML to Tracks of the stream it belongs to; None while it is not known which tracks it will hold.
    timecode, latest: milliseconds since the epoch of its beginning and of its latest frame. pieces: its bytes.
    sends: how often it was begun to be sent; faults: errors that Kinesis named it in.
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
class Counts:
    """Fragments by what became of them; of one stream, or of all."""

    persisted: int = 0
    dropped: int = 0
    unconfirmed: int = 0
    replayed: int = 0


class Backlog:
    """Written by a Fragmenter, read by connections, emptied by acknowledgements; all on one loop.

    Beyond `most` bytes the oldest fragments are forgotten: `dropped` counts those that were never sent whole,
    `unconfirmed` those that were sent and could not be sent again now. The fragment that grows always stays.
    all: counts for several backlogs together.
    """

    def __init__(self, most: int, all: Counts | None = None) -> None:
        self._most = most
        self._fragments: deque[Fragment] = deque()
        self._waiting: set[asyncio.Future[None]] = set()
        self.size = 0
        self.growth = 0  # bytes that were ever added: tells whether anything came
        self.closed = False
        self.counts = Counts()
        self._all = all if all is not None else Counts()

    def __len__(self) -> int:
        return len(self._fragments)

    def __iter__(self) -> Iterator[Fragment]:
        return iter(list(self._fragments))

    @property
    def half_full(self) -> bool:
        """Who can wait should."""
        return self.size > self._most / 2

    @property
    def seconds(self) -> float:
        """From the first fragment's beginning to the last frame."""
        return (self._fragments[-1].latest - self._fragments[0].timecode) / 1000 if self._fragments else 0.0

    # ---- the fragmenter's side ----

    def add(self, fragment: Fragment) -> None:
        """A new fragment, which from now on grows by `append`."""
        self._fragments.append(fragment)
        self.size += fragment.size
        self.growth += fragment.size
        self._bound()
        self.notify()

    def append(self, fragment: Fragment, piece: bytes) -> None:
        """Hot: bytes of the fragment that was added last; nothing where that was dropped meanwhile."""
        if not self._fragments or self._fragments[-1] is not fragment:
            return
        fragment.pieces.append(piece)
        fragment.size += len(piece)
        self.size += len(piece)
        self.growth += len(piece)
        if self.size > self._most:
            self._bound()
        if self._waiting:
            self.notify()

    def close(self) -> None:
        """Nothing follows."""
        self.closed = True
        self.notify()

    # ---- the connections' side ----

    @property
    def first(self) -> Fragment | None:
        return self._fragments[0] if self._fragments else None

    def after(self, number: int) -> Fragment | None:
        """The first fragment whose number is above `number`."""
        return next((f for f in self._fragments if f.number > number), None)

    def acknowledge(self, timecode: int) -> int:
        """The fragment of this time is stored, and so are those before it, which were sent before it: how many go.

        None where it was not sent whole: what a broken connection left of it may be stored, but that is not all.
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

    def find(self, timecode: int | None) -> Fragment | None:
        return next((f for f in self._fragments if f.timecode == timecode), None)

    def drop(self, fragment: Fragment) -> None:
        """It would be refused again. A fragment that still grows stays in the fragmenter's hands and goes nowhere."""
        if fragment in self._fragments:
            self._fragments.remove(fragment)
            self.size -= fragment.size
            self._dropped()

    def replayed(self) -> None:
        """A fragment is sent once more."""
        self.counts.replayed += 1
        self._all.replayed += 1

    async def changed(self) -> None:
        """Returns after the next change of anything here."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def notify(self) -> None:
        """Wakes whoever waits in `changed`."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _bound(self) -> None:
        while self.size > self._most and len(self._fragments) > 1:
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
