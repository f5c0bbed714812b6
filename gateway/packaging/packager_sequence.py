"""Creates the packagers of a stream, one after another.

A new packager is necessary when an output is switched off and on, or restarts after a failure.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar
from weakref import WeakKeyDictionary, ref

from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.metrics import Metrics
from gateway.live.stream import Stream
from gateway.packaging.alignment import Alignment, Alignments
from gateway.packaging.cmaf.packager import CmafPackager, SequenceNumbers
from gateway.packaging.packager import Packager, SegmentPlan
from gateway.packaging.ts.packager import CLOCKS_APART, TsPackager, sequence_start

N = TypeVar("N")
P = TypeVar("P", bound=Packager)


@dataclass(eq=False, slots=True)
class PackagerFactory(Generic[P, N]):
    """Creates the packagers of one output. It keeps no media of a packager that has stopped.

    A later packager of a stream continues the numbers of the previous one. So media sequence and discontinuity sequence
    never decrease while the stream exists. Players that poll during a restart require this (RFC 8216bis §6.2.2).

    output: name of the output.
    create: creates a packager.
    first_numbers: returns the numbers for a stream's first packager.
    part, cue_tags: see `SegmentPlan`.
    aligns_source: whether the packager of a source is aligned with those of its renditions.
    """

    output: str
    create: Callable[[str, SegmentPlan, float, N, Metrics | None, Alignment | None], P]
    first_numbers: Callable[[Stream], N]
    metrics: Metrics | None
    part: float = 0.0
    aligns_source: bool = True
    cue_tags: bool = False
    _next: WeakKeyDictionary[Stream, Callable[[], N]] = field(default_factory=WeakKeyDictionary, init=False)
    _alignments: Alignments = field(default_factory=Alignments, init=False)

    def __call__(self, stream: Stream) -> P:
        """Creates the next packager of a stream, with the settings of its channel."""
        channel = stream.channel
        return self.make(stream, channel.hls_time, channel.hls_list_size, time.time())

    def make(self, stream: Stream, seconds: float, size: int, now: float) -> P:
        aligned = stream.spec.is_aligned and (self.aligns_source or not stream.is_source)
        alignment = self._alignments.of(stream) if aligned else None
        next_numbers = self._next.get(stream)
        numbers = next_numbers() if next_numbers is not None else self.first_numbers(stream)
        continues = next_numbers is None and self.output in stream.spec.continues
        plan = SegmentPlan(
            seconds,
            size,
            self.part,
            stream.spec.budget,
            captions=stream.captions,
            continues=continues,
            cue_tags=self.cue_tags,
        )
        packager = self.create(stream.name, plan, now, numbers, self.metrics, alignment)
        self._set_last(stream, packager)
        return packager

    def _set_last(self, stream: Stream, packager: P) -> None:
        """Notes that `packager` is now the last one of `stream`."""

        def numbers() -> N:
            return packager.numbers  # type: ignore[no-any-return]  # for the next packager

        self._next[stream] = numbers
        weak, name = ref(stream), stream.name  # a strong reference from value to key would keep both in memory

        def numbered() -> None:
            stream = weak()
            if stream is not None:
                stream.playback.next_numbers.set(self.output, packager.next_numbers)

        def stopped() -> None:
            stream = weak()
            if stream is not None and self._next.get(stream) is numbers:
                last = numbers()
                self._next[stream] = lambda: last
            self.packager_stopped(name, packager)

        packager.on_stopped, packager.on_numbered = stopped, numbered

    def packager_stopped(self, name: str, packager: P) -> None:
        """Called when a packager of the stream `name` has stopped."""


class TsPackagerFactory(PackagerFactory[TsPackager, tuple[int, int, int]]):
    """Creates the packagers of the output `hls`.

    The source's playlist is not part of the ladder, so it needs no alignment.
    """

    def __init__(self, metrics: Metrics | None = None, *, cue_tags: bool = False) -> None:
        super().__init__("hls", TsPackager, self._first, metrics, aligns_source=False, cue_tags=cue_tags)
        # The next epoch of channels that were live, by stream.
        self._epochs: BoundedDict[str, int] = BoundedDict(_MAX_NAMES)

    def make(self, stream: Stream, seconds: float, size: int, now: float) -> TsPackager:
        packager = super().make(stream, seconds, size, now)
        if stream.is_source and stream.channel.rewind_reach:
            packager.begin_history(stream.channel.rewind_reach)
        return packager

    def packager_stopped(self, name: str, packager: TsPackager) -> None:
        if packager.history is not None:
            self._epochs[name] = packager.numbers[1]

    def _first(self, stream: Stream) -> tuple[int, int, int]:
        """Returns the first segment number, epoch and file name number of a new packager sequence.

        If another node packaged the stream before, these numbers follow those that it has told. If it has told none,
        they are above all that it may have used, with its own clock.
        """
        spec, number, epoch, name = stream.spec, 0, 0, 0
        if len(told := spec.continues.get(self.output, ())) == 3:
            number, epoch, name = told
        elif spec.first_number:
            number = sequence_start(spec.started) + CLOCKS_APART
            epoch = number // _EPOCH_SECONDS
        if stream.is_source and stream.channel.rewind_reach:
            # A rewind playlist also lists earlier pieces, with lower epochs. So epochs begin with the clock.
            epoch = max(epoch, sequence_start(spec.started) // _EPOCH_SECONDS, self._epochs.get(stream.name, 0))
        return number, epoch, name


class CmafPackagerFactory(PackagerFactory[CmafPackager, SequenceNumbers]):
    """Creates the packagers of the output `cmaf`."""

    def __init__(self, part: float, metrics: Metrics | None = None, *, cue_tags: bool = False) -> None:
        super().__init__("cmaf", CmafPackager, _first_of_cmaf, metrics, part=part, cue_tags=cue_tags)


# hls.js runs a loop up to the Discontinuity Sequence Number: with seconds since 2020 it hangs for half a minute. So on
# another node, the number of a continued stream counts periods of ten minutes. Discontinuities are rare, so this number
# still grows faster than their count.
_EPOCH_SECONDS: Final = 600
_MAX_NAMES: Final = 4_096  # streams whose last epoch is remembered


def _first_of_cmaf(stream: Stream) -> SequenceNumbers:
    first, started = stream.spec.first_number, int(stream.spec.started)
    if len(told := stream.spec.continues.get("cmaf", ())) == 4:
        video, audio, epoch, prefix = told
        return SequenceNumbers((video, 1), (audio, 1), epoch, max(prefix, started))
    return SequenceNumbers((first + 1, 1), (first + 1, 1), first, started)
