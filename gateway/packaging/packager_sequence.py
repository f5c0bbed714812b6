"""Creates the packagers of a stream: one after another when an output is switched off and on, or restarts after a
failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, TypeVar
from weakref import WeakKeyDictionary, ref

from gateway.lib.metrics import Metrics
from gateway.packaging.alignment import Alignment, Alignments
from gateway.packaging.cmaf.packager import CmafPackager, SequenceNumbers
from gateway.packaging.packager import Packager
from gateway.packaging.segment_plan import SegmentPlan
from gateway.packaging.ts.packager import TsPackager
from gateway.packaging.ts.sequence_start import CLOCKS_APART, sequence_start

if TYPE_CHECKING:
    from gateway.live.stream import Stream

N = TypeVar("N")
P = TypeVar("P", bound=Packager)


class PackagerFactory(Generic[P, N]):
    """Makes the packagers of one output. Keeps no media of a packager that has stopped.

    A later packager of a stream continues the numbers of the one before. So media sequence and discontinuity sequence
    never go back while the stream lives. Players that keep polling during a restart require that (RFC 8216bis §6.2.2).
    """

    def __init__(
        self,
        kind: Callable[[str, SegmentPlan, float, N, Metrics | None, Alignment | None], P],
        first: Callable[[Stream], N],
        metrics: Metrics | None,
        *,
        part: float = 0.0,
        aligns_source: bool = True,
    ) -> None:
        """kind: makes a packager. first: returns the numbers of a stream's first one. part: see `SegmentPlan`."""
        self._kind = kind
        self._first = first
        self._metrics = metrics
        self._part = part
        self._aligns_source = aligns_source
        self._next: WeakKeyDictionary[Stream, Callable[[], N]] = WeakKeyDictionary()
        self._alignments = Alignments()

    def __call__(self, stream: Stream) -> P:
        """Makes the next packager of a stream as its channel wants it, now."""
        channel = stream.channel
        return self.make(stream, channel.hls_time, channel.hls_list_size, time.time())

    def make(self, stream: Stream, seconds: float, size: int, now: float) -> P:
        alignment = self._alignments.of(stream) if self._aligns_source or not stream.is_source else None
        following = self._next.get(stream)
        numbers = following() if following is not None else self._first(stream)
        plan = SegmentPlan(seconds, size, self._part)
        packager = self._kind(stream.name, plan, now, numbers, self._metrics, alignment)
        self._follow(stream, packager)
        return packager

    def _follow(self, stream: Stream, packager: P) -> None:
        """Notes that `packager` is now the last one of `stream`."""

        def numbers() -> N:
            return packager.numbers  # type: ignore[no-any-return]  # those with which the next one begins

        self._next[stream] = numbers
        weak = ref(stream)  # a strong reference from value to key would keep both for ever

        def stopped() -> None:
            stream = weak()
            if stream is not None and self._next.get(stream) is numbers:
                last = numbers()
                self._next[stream] = lambda: last

        packager.on_stopped = stopped


class TsPackagerFactory(PackagerFactory[TsPackager, tuple[int, int, int]]):
    """Makes the packager of a stream's `hls` output.

    The source's own playlist is not part of the ladder, so it needs no alignment.
    """

    def __init__(self, metrics: Metrics | None = None) -> None:
        super().__init__(TsPackager, _first_of_ts, metrics, aligns_source=False)


class CmafPackagerFactory(PackagerFactory[CmafPackager, SequenceNumbers]):
    """Makes the packager of a stream's `cmaf` output."""

    def __init__(self, part: float, metrics: Metrics | None = None) -> None:
        super().__init__(CmafPackager, _first_of_cmaf, metrics, part=part)


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


def _first_of_cmaf(stream: Stream) -> SequenceNumbers:
    first = stream.first_number
    return SequenceNumbers((first + 1, 1), (first + 1, 1), first, int(stream.started))
