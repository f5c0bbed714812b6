"""Packagers that follow each other on one stream: switched off and on, or started again after a failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakKeyDictionary, ref

from gateway.lib.metrics import Metrics
from gateway.packagers.alignment import Alignments
from gateway.packagers.cmaf import CmafPackager, Numbers
from gateway.packagers.run import Packager
from gateway.packagers.ts import TsPackager

if TYPE_CHECKING:
    from gateway.hub.stream import Stream

N = TypeVar("N")


class _Line(Generic[N]):
    """Knows with which numbers the next packager of a stream begins; keeps no media of one that has stopped."""

    def __init__(self, first: Callable[[Stream], N]) -> None:
        self._first = first
        self._next: WeakKeyDictionary[Stream, Callable[[], N]] = WeakKeyDictionary()

    def of(self, stream: Stream) -> N:
        numbers = self._next.get(stream)
        return numbers() if numbers is not None else self._first(stream)

    def follow(self, stream: Stream, packager: Packager, numbers: Callable[[], N]) -> None:
        """`packager` is the last one of `stream` now; numbers: what the next one begins with, at any time."""
        self._next[stream] = numbers
        weak = ref(stream)  # a value that held its key would keep both for ever

        def stopped() -> None:
            stream = weak()
            if stream is not None and self._next.get(stream) is numbers:
                last = numbers()
                self._next[stream] = lambda: last

        packager.on_stopped = stopped


class TsPackagers:
    """Makes the packager of a stream's `hls`; media and discontinuity sequence never go back while the stream lives.

    That is what players that poll through a restart hold a playlist to (RFC 8216bis §6.2.2).
    """

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = metrics
        self._line: _Line[tuple[int, int]] = _Line(lambda stream: (stream.first_number, stream.first_number))
        self._alignments = Alignments()

    def make(self, stream: Stream, seconds: float, size: int, now: float) -> TsPackager:
        # A source's own playlist is no part of its ladder.
        alignment = None if stream.is_source else self._alignments.of(stream)
        packager = TsPackager(stream.name, seconds, size, now, self._metrics, self._line.of(stream), alignment)
        self._line.follow(stream, packager, lambda: packager.next_numbers)
        return packager


def _first(stream: Stream) -> Numbers:
    first = stream.first_number
    return Numbers((first + 1, 1), (first + 1, 1), first)


class CmafPackagers:
    """Makes the packager of a stream's `cmaf`; one that follows another goes on with its numbers."""

    def __init__(self, part: float, metrics: Metrics | None = None) -> None:
        self._part = part
        self._metrics = metrics
        self._line = _Line(_first)
        self._alignments = Alignments()

    def make(self, stream: Stream, seconds: float, size: int, now: float) -> CmafPackager:
        numbers = self._line.of(stream)
        packager = CmafPackager(
            stream.name, seconds, size, self._part, stream.started, now, numbers, self._metrics,
            self._alignments.of(stream), stream.is_source,
        )  # fmt: skip
        self._line.follow(stream, packager, lambda: packager.numbers)
        return packager
