"""Creates the packagers of a stream: one after another when an output is switched off and on, or restarts after a
failure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, TypeVar
from weakref import WeakKeyDictionary, ref

from gateway.lib.metrics import Metrics
from gateway.packaging.alignment import Alignments
from gateway.packaging.cmaf.packager import CmafPackager, SequenceNumbers
from gateway.packaging.packager import Packager
from gateway.packaging.segment_plan import SegmentPlan
from gateway.packaging.ts.packager import TsPackager
from gateway.packaging.ts.sequence_start import CLOCKS_APART, sequence_start

if TYPE_CHECKING:
    from gateway.live.stream import Stream

N = TypeVar("N")


class _PackagerSequence(Generic[N]):
    """Knows the first numbers of the next packager of each stream. Keeps no media of a packager that has stopped."""

    def __init__(self, first: Callable[[Stream], N]) -> None:
        self._first = first
        self._next: WeakKeyDictionary[Stream, Callable[[], N]] = WeakKeyDictionary()

    def of(self, stream: Stream) -> N:
        numbers = self._next.get(stream)
        return numbers() if numbers is not None else self._first(stream)

    def follow(self, stream: Stream, packager: Packager, numbers: Callable[[], N]) -> None:
        """Notes that `packager` is now the last one of `stream`.

        numbers: returns the numbers with which the next packager begins; can be called at any time.
        """
        self._next[stream] = numbers
        weak = ref(stream)  # a strong reference from value to key would keep both for ever

        def stopped() -> None:
            stream = weak()
            if stream is not None and self._next.get(stream) is numbers:
                last = numbers()
                self._next[stream] = lambda: last

        packager.on_stopped = stopped


class TsPackagerFactory:
    """Makes the packager of a stream's `hls` output.

    Media sequence and discontinuity sequence never go back while the stream lives. Players that keep polling during a
    restart require that (RFC 8216bis §6.2.2).
    """

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = metrics
        self._line = _PackagerSequence(_first_of_ts)
        self._alignments = Alignments()

    def make(self, stream: Stream, seconds: float, size: int, now: float) -> TsPackager:
        # The source's own playlist is not part of the ladder, so it needs no alignment.
        alignment = None if stream.is_source else self._alignments.of(stream)
        packager = TsPackager(
            stream.name, SegmentPlan(seconds, size), now, self._metrics, self._line.of(stream), alignment
        )
        self._line.follow(stream, packager, lambda: packager.next_numbers)
        return packager


# hls.js loops once per count of the Discontinuity Sequence Number: with seconds since 2020 it hangs for half a minute.
# So a stream that continues on another node counts in steps of ten minutes. Discontinuities are rare enough that this
# still grows faster than they add up.
_EPOCH_SECONDS: Final = 600


def _first_of_ts(stream: Stream) -> tuple[int, int, int]:
    """Returns the first segment number, epoch and file name number of a new packager sequence.

    If another node packaged the stream before, by its own clock, the numbers begin above all that it may have used.
    """
    if not stream.first_number:
        return 0, 0, 0
    first = sequence_start(stream.started) + CLOCKS_APART
    return first, first // _EPOCH_SECONDS, 0


def _first(stream: Stream) -> SequenceNumbers:
    first = stream.first_number
    return SequenceNumbers((first + 1, 1), (first + 1, 1), first, int(stream.started))


class CmafPackagerFactory:
    """Makes the packager of a stream's `cmaf` output. A later packager of the stream continues the numbers of the one
    before.
    """

    def __init__(self, part: float, metrics: Metrics | None = None) -> None:
        self._part = part
        self._metrics = metrics
        self._line = _PackagerSequence(_first)
        self._alignments = Alignments()

    def make(self, stream: Stream, seconds: float, size: int, now: float) -> CmafPackager:
        packager = CmafPackager(
            stream.name,
            SegmentPlan(seconds, size, self._part),
            now,
            self._line.of(stream),
            self._metrics,
            self._alignments.of(stream),
        )
        self._line.follow(stream, packager, lambda: packager.numbers)
        return packager
