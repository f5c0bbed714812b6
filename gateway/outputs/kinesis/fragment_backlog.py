"""The fragments that Kinesis has not stored yet, bounded in bytes."""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.media.track import Kind


@dataclass(slots=True, eq=False)
class KvsFragment:
    """One fragment: a Matroska cluster, which may still be growing.

    timecode, latest: time of its start and of its latest frame, ms since 1970. pieces: its bytes.
    header: the Matroska elements EBML to Tracks; None while its tracks are unknown.
    sends: how many times sending was started. faults: number of Kinesis errors about this fragment.
    """

    number: int
    timecode: int
    pieces: list[bytes]
    header: bytes | None = None
    kinds: set[Kind] = field(default_factory=set)
    complete: bool = False
    sends: int = 0
    fully_sent: bool = False
    faults: int = 0
    latest: int = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.latest = self.timecode
        self.size = sum(map(len, self.pieces))


@dataclass(slots=True)
class FragmentCounts:
    """Numbers of fragments by result, for one stream or for all."""

    persisted: int = 0
    replayed: int = 0
    dropped: int = 0
    unconfirmed: int = 0


class FragmentBacklog:
    """Fragments between a Fragmenter, which adds them, and connections, which send and remove them; on one loop.

    Above `max_bytes` bytes the oldest fragments are removed, but never the growing one.
    `dropped` counts removed fragments that were never sent completely.
    `unconfirmed` counts removed fragments that were sent, but not acknowledged. They cannot be sent again.
    total: counts for several backlogs together.
    """

    def __init__(self, max_bytes: int, total: FragmentCounts | None = None) -> None:
        self._max_bytes = max_bytes
        self._fragments: deque[KvsFragment] = deque()
        self._waiters: set[asyncio.Future[None]] = set()
        self.size = 0
        self.bytes_added = 0  # bytes added since the beginning; it never decreases
        self.closed = False
        self.counts = FragmentCounts()
        self._total = total if total is not None else FragmentCounts()

    def __len__(self) -> int:
        return len(self._fragments)

    def __iter__(self) -> Iterator[KvsFragment]:
        return iter(list(self._fragments))

    @property
    def half_full(self) -> bool:
        """Whether the backlog has more than half of its bytes. A source that can wait should wait then."""
        return self.size > self._max_bytes / 2

    @property
    def seconds(self) -> float:
        """The seconds from the first fragment's start to the last frame."""
        return (self._fragments[-1].latest - self._fragments[0].timecode) / 1000 if self._fragments else 0.0

    # ---- for the fragmenter ----

    def add(self, fragment: KvsFragment) -> None:
        """Adds a new fragment; `append` then adds its frames."""
        self._fragments.append(fragment)
        self.size += fragment.size
        self.bytes_added += fragment.size
        self._enforce_limit()
        self.notify()

    def append(self, fragment: KvsFragment, piece: bytes) -> None:
        """Adds bytes to the last fragment. Does nothing if it was dropped. Hot path."""
        if not self._fragments or self._fragments[-1] is not fragment:
            return
        fragment.pieces.append(piece)
        fragment.size += len(piece)
        self.size += len(piece)
        self.bytes_added += len(piece)
        if self.size > self._max_bytes:
            self._enforce_limit()
        if self._waiters:
            self.notify()

    def close(self) -> None:
        """Ends the backlog: no fragment follows."""
        self.closed = True
        self.notify()

    # ---- for connections ----

    @property
    def first(self) -> KvsFragment | None:
        return self._fragments[0] if self._fragments else None

    def after(self, number: int) -> KvsFragment | None:
        """Returns the first fragment whose number is above `number`."""
        return next((f for f in self._fragments if f.number > number), None)

    def acknowledge(self, timecode: int) -> int:
        """Removes the stored fragment with this time and all earlier fragments, and returns their number.

        Returns 0 if it was not sent completely, because only a part from a broken connection may be stored.
        """
        found = self.find(timecode)
        if found is None or not found.fully_sent:
            return 0
        count = 0
        while self._fragments and self._fragments[0].timecode <= timecode:
            self._remove_first()
            count += 1
        self.counts.persisted += count
        self._total.persisted += count
        self.notify()
        return count

    def find(self, timecode: int | None) -> KvsFragment | None:
        return next((f for f in self._fragments if f.timecode == timecode), None)

    def drop(self, fragment: KvsFragment) -> None:
        """Removes a fragment that Kinesis would reject again.

        If it is still growing, the fragmenter's later bytes are discarded.
        """
        if fragment in self._fragments:
            self._fragments.remove(fragment)
            self.size -= fragment.size
            self._count_dropped()

    def count_replayed(self) -> None:
        """Counts a fragment that is sent again."""
        self.counts.replayed += 1
        self._total.replayed += 1

    async def wait_for_change(self) -> None:
        """Waits for the next change of the backlog."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(future)
        try:
            await future
        finally:
            self._waiters.discard(future)

    def notify(self) -> None:
        """Wakes every call of `wait_for_change`."""
        waiters, self._waiters = self._waiters, set()
        for future in waiters:
            if not future.done():
                future.set_result(None)

    def _enforce_limit(self) -> None:
        while self.size > self._max_bytes and len(self._fragments) > 1:
            if self._fragments[0].fully_sent:
                self.counts.unconfirmed += 1
                self._total.unconfirmed += 1
            else:
                self._count_dropped()
            self._remove_first()

    def _count_dropped(self) -> None:
        self.counts.dropped += 1
        self._total.dropped += 1

    def _remove_first(self) -> None:
        self.size -= self._fragments.popleft().size
