"""The packagers of one ladder agree on boundaries, numbers and epochs."""

from __future__ import annotations

from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.clock import VIDEO_CLOCK
from gateway.packaging.alignment import Alignment, Alignments, Boundary, CutCandidate
from gateway.packaging.segmenter import Segmenter
from gateway.packaging.timing import VideoTiming
from tests.support.builders import channel, spec


class Member:
    """A packager that asks as the test says."""

    def __init__(self, alignment: Alignment, *, source: bool = False) -> None:
        self.over = False
        self.caught_up = 0
        self._alignment = alignment
        self._open = False
        self.number = 1
        if source:
            alignment.source = self

    def catch_up(self) -> None:
        self.caught_up += 1

    def at(
        self, seconds: float, *, own: bool = True, fresh: bool = False, segmenter: Segmenter | None = None
    ) -> Boundary | None:
        """Reaches a key frame at `seconds`."""
        time = round(seconds * VIDEO_CLOCK)
        moment = CutCandidate(time, time, 1e9 + seconds, fresh, self._open, self.number + self._open)
        found = self._alignment.decide_boundary(self, moment, own, segmenter)
        if found is not None:
            self.number, self._open = found.number, True
        return found

    def breaks_off(self) -> bool:
        """Ends its epoch within a segment; returns whether that segment is discarded."""
        abandons = self._alignment.withdraw(self, self.number)
        self._open = False
        self.number += not abandons
        return abandons


def numbers(*found: Boundary | None) -> list[int | None]:
    return [f.number if f is not None else None for f in found]


def test_the_first_packager_sets_a_boundary_and_all_others_follow() -> None:
    alignment = Alignment()
    one, two = Member(alignment), Member(alignment)
    assert numbers(one.at(0), one.at(2)) == [1, 2]
    assert one.at(3, own=False) is None
    assert numbers(two.at(0), two.at(2, own=False), two.at(3)) == [1, 2, None]
    assert numbers(two.at(4), one.at(4, own=False)) == [3, 3]


def test_times_that_differ_by_rounding_and_drift_mean_one_picture() -> None:
    alignment = Alignment()
    one, two = Member(alignment), Member(alignment)
    assert numbers(one.at(0), one.at(2.0)) == numbers(two.at(0.001), two.at(1.993)) == [1, 2]
    assert numbers(two.at(3.98), one.at(4.0)) == [3, 4]  # two pictures


def test_the_source_catches_up_before_a_rendition_is_aligned() -> None:
    alignment = Alignment()
    source, rung = Member(alignment, source=True), Member(alignment)
    source.at(0, fresh=True)
    assert numbers(rung.at(0, fresh=True)) == [1]
    assert source.caught_up == 1
    source.at(2)
    assert source.caught_up == 1  # nobody else is asked for it


def test_a_late_packager_waits_for_the_next_segment_of_the_others() -> None:
    alignment = Alignment()
    source, late = Member(alignment, source=True), Member(alignment)
    source.at(0, fresh=True)
    source.at(1, own=False)
    assert late.at(1, fresh=True) is None
    source.at(2)
    found = late.at(2, fresh=True)
    assert found is not None and (found.number, found.origin.number, found.origin.time) == (2, 0, 0)


def test_a_returning_publisher_opens_an_epoch_for_all_packagers() -> None:
    alignment = Alignment()
    source, rung = Member(alignment, source=True), Member(alignment)
    for at in (0.0, 2.0):
        source.at(at, fresh=not at)
        rung.at(at, fresh=not at)
    back = source.at(3.5, fresh=True)
    assert back is not None and (back.number, back.origin.number) == (3, 1)
    assert rung.at(3.5, own=False) is back


def test_renditions_ahead_of_a_watermark_learn_of_a_new_epoch_with_their_next_segment() -> None:
    alignment = Alignment()
    source, rung = Member(alignment, source=True), Member(alignment)
    source.at(0, fresh=True)
    rung.at(0, fresh=True)
    assert numbers(rung.at(2), rung.at(4)) == [2, 3]
    found = source.at(2, fresh=True)  # it is shown otherwise from here on
    assert found is not None and (found.number, found.origin.number) == (2, 1)
    later, last = rung.at(6), source.at(4)
    assert last is not None and (last.number, last.origin.number) == (3, 0)
    assert later is not None and later.origin.number == 1


def test_a_restarted_packager_does_not_use_a_number_twice() -> None:
    alignment = Alignment()
    old = Member(alignment, source=True)
    assert numbers(old.at(0), old.at(2)) == [1, 2]
    old.over = True
    new = Member(alignment, source=True)
    new.number = 3
    assert numbers(new.at(2, fresh=True), new.at(4)) == [3, 4]  # from the cached GOP


def test_a_segment_begun_by_some_packagers_is_discarded_when_the_worker_dies() -> None:
    for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0)):
        alignment = Alignment()
        members = [Member(alignment) for _ in range(3)]
        for m in members:
            m.at(0, fresh=True)
        members[0].at(2)
        members[2].at(2)
        abandoned = {n: members[n].breaks_off() for n in order}
        assert abandoned == {0: True, 1: False, 2: True}
        again = [members[n].at(6, fresh=True) for n in order]
        assert numbers(*again) == [2, 2, 2]
        assert {b.origin.number for b in again if b is not None} == {1}


def test_renditions_without_a_source_begin_a_new_epoch_at_its_first_key_frame() -> None:
    alignment = Alignment()
    members = [Member(alignment) for _ in range(2)]
    for seconds in (0, 2):
        for m in members:
            m.at(seconds, fresh=not seconds)
    segmenter = Segmenter(VIDEO_CLOCK, 2)
    assert [m.breaks_off() for m in members] == [False] * 2
    begun = [m.at(3, fresh=True, segmenter=segmenter) for m in members]
    assert numbers(*begun) == [3, 3]
    assert {b.origin.number for b in begun if b is not None} == {1}
    assert Member(alignment).at(3.5, fresh=True, segmenter=segmenter) is None, "a late one waits for a boundary"


def test_a_segment_begun_by_all_packagers_is_kept_when_the_worker_dies() -> None:
    alignment = Alignment()
    members = [Member(alignment) for _ in range(3)]
    gone = Member(alignment)
    gone.at(0, fresh=True)
    gone.over = True
    for at in (0, 2):
        for m in members:
            m.at(at, fresh=not at)
    assert [m.breaks_off() for m in members] == [False] * 3
    assert numbers(*[m.at(4, fresh=True) for m in members]) == [3, 3, 3]


def test_all_packagers_share_a_target_duration_that_is_long_enough() -> None:
    alignment = Alignment()
    assert alignment.fix_target(2) == 2
    assert alignment.fix_target(1) == 2
    assert alignment.fix_target(5) == 5
    assert alignment.fix_target(2) == 2


def test_a_rendition_uses_the_time_grid_of_its_source() -> None:
    fps = 30
    exact = [n * VIDEO_CLOCK // fps for n in range(300)]
    sent = [round(n * 1000 / fps) for n in range(300)]
    source = VideoTiming(1000, fps)
    assert [source.stamp(ms, 0)[0] for ms in sent] == exact
    for first in (1, 2, 100, 101):
        rung = VideoTiming(1000, None, source)
        assert [rung.stamp(ms, 0)[0] for ms in sent[first:]] == exact[first:]
    off = VideoTiming(1000, fps, source)
    assert off.stamp(sent[7] + 12, 0)[0] == (sent[7] + 12) * 90  # between two frames: not this grid


def stream(name: str) -> Stream:
    return Stream(spec(name, 1e9), channel("c1"))


def test_a_channels_streams_share_an_alignment_until_the_source_ends() -> None:
    alignments = Alignments()
    source, low, high = stream("c1"), stream("c1@360p"), stream("c1@720p")
    shared = alignments.of(source)
    assert alignments.of(low) is alignments.of(high) is alignments.of(source) is shared
    assert alignments.of(stream("c2")) is not shared
    source.end(EndReason.KICKED)
    assert alignments.of(stream("c1")) is not shared


def test_renditions_without_a_source_share_an_alignment_until_the_last_ends() -> None:
    alignments = Alignments()
    low, high = stream("c1@360p"), stream("c1@720p")
    shared = alignments.of(low)
    low.end(EndReason.OUTPUT_OFF)
    assert alignments.of(high) is not shared  # the only one there was
    shared = alignments.of(high)
    low = stream("c1@360p")
    assert alignments.of(low) is shared
    low.end(EndReason.OUTPUT_OFF)
    assert alignments.of(stream("c1")) is shared
