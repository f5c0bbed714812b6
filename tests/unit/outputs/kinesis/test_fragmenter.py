"""Where fragments are cut, how sound and pictures are divided at a cut, and which streams are refused."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, Tracks
from gateway.outputs.kinesis import fragmenter as module
from gateway.outputs.kinesis.fragment_backlog import FragmentBacklog, KvsFragment
from gateway.outputs.kinesis.fragmenter import Fragmenter, KinesisClock
from gateway.ports.errors import OutputUnsupported
from tests.support.builders import AUDIO, VIDEO
from tests.support.elementary import elementary
from tests.support.kvs_rules import Broken, Judge, Whole
from tests.support.kvs_rules import Fragment as Judged

EPOCH = 1_700_000_000_000


def idr(dts: int, cts: int = 0, size: int = 20) -> AccessUnit:
    return picture(dts, cts, size, nal=b"\x65", key=True)


def picture(dts: int, cts: int = 0, size: int = 20, *, nal: bytes = b"\x41", key: bool = False) -> AccessUnit:
    payload = size.to_bytes(4, "big") + nal + dts.to_bytes(4, "big").rjust(size - 1, b"v")
    return AccessUnit(VIDEO, dts, cts, key, (EPOCH + dts) / 1000, payload)


def sound(dts: int, wall: int | None = None) -> AccessUnit:
    return AccessUnit(
        AUDIO, dts, 0, True, (EPOCH + (dts if wall is None else wall)) / 1000, b"a" + dts.to_bytes(4, "big")
    )


@dataclass
class Cut:
    """A fragmenter and its fragments."""

    backlog: FragmentBacklog
    fragmenter: Fragmenter

    def feed(self, *units: AccessUnit) -> Cut:
        for unit in units:
            self.fragmenter.add(unit)
        return self

    def finish(self) -> Cut:
        self.fragmenter.finish()
        self.backlog.close()
        return self

    @property
    def fragments(self) -> list[KvsFragment]:
        return list(self.backlog)

    @property
    def begins(self) -> list[int]:
        return [f.timecode - EPOCH for f in self.backlog]

    def judged(self) -> list[Judged]:
        """The fragments as the service reads them, one connection for each run of one header. Raises Broken."""
        found: list[Judged] = []
        runs: list[list[KvsFragment]] = []
        for fragment in self.backlog:
            if not runs or runs[-1][-1].header != fragment.header:
                runs.append([])
            runs[-1].append(fragment)
        for run in runs:
            assert run[0].header is not None
            data = run[0].header + b"".join(piece for f in run for piece in f.pieces)
            judge = Judge()
            found += [e.fragment for e in (*judge.receive(data, 0.0), *judge.finish()) if isinstance(e, Whole)]
        return found


def cut(video: MediaTrack | None = VIDEO, audio: MediaTrack | None = AUDIO, most: int = 1 << 30) -> Cut:
    backlog = FragmentBacklog(most)
    fragmenter = Fragmenter(backlog)
    fragmenter.start(Tracks(video, audio))
    return Cut(backlog, fragmenter)


def gop(start: int, length: int = 2000, step: int = 40, cts: int = 0) -> list[AccessUnit]:
    return [idr(start, cts), *(picture(t, cts) for t in range(start + step, start + length, step))]


def voices(start: int, end: int, step: int = 20) -> list[AccessUnit]:
    return [sound(t) for t in range(start, end, step)]


def mixed(*units: list[AccessUnit], behind: int = 0) -> list[AccessUnit]:
    """In the order of decode times; sound comes `behind` milliseconds later than it is due (earlier: negative)."""
    everything = [u for group in units for u in group]
    return sorted(everything, key=lambda u: u.dts + (behind if u.track.kind is Kind.AUDIO else 0))


def test_a_fragment_is_a_group_of_pictures() -> None:
    made = cut(audio=None).feed(*gop(0), *gop(2000), *gop(4000)).finish()
    assert made.begins == [0, 2000, 4000]
    assert [len(f.frames) for f in made.judged()] == [50, 50, 50]


def test_short_groups_of_pictures_are_joined_until_they_last_a_second() -> None:
    made = cut(audio=None).feed(*(u for n in range(10) for u in gop(n * 400, 400))).finish()
    assert made.begins == [0, 1200, 2400, 3600]  # nobody knew that nothing would follow
    made.judged()


def test_a_short_last_group_is_joined_to_the_last_fragment() -> None:
    made = cut().feed(*mixed(gop(0), gop(2000, 200), voices(0, 2200))).finish()
    assert made.begins in ([0], [0, 2000])
    assert sum(len(f.frames) for f in made.judged()) == 50 + 5 + 110


@pytest.mark.parametrize("behind", [-2500, -300, -40, 0, 40, 310])
@pytest.mark.parametrize("cts", [0, 80])
def test_no_sound_is_lost_or_put_before_its_fragment(behind: int, cts: int) -> None:
    made = cut().feed(*mixed(gop(0, cts=cts), gop(2000, cts=cts), gop(4000, cts=cts), voices(0, 6000), behind=behind))
    found = made.finish().judged()
    heard = [f.time - EPOCH for fragment in found for f in fragment.frames if f.track == 2]
    # What sounds long before the first picture is not part of any fragment.
    first = heard[0]
    assert first <= (0 if behind > -400 else 2100)
    assert heard == list(range(first, 6000, 20))
    for fragment in found[1:]:
        assert min(f.time for f in fragment.frames) == fragment.time


def test_sound_that_comes_too_late_goes_into_the_next_fragment() -> None:
    made = cut().feed(*mixed(gop(0), gop(2000), voices(0, 4000), behind=900)).finish()
    found = made.judged()
    assert sum(len([f for f in fragment.frames if f.track == 2]) for fragment in found) == 200


def test_an_idr_waits_for_the_sound_to_reach_it() -> None:
    made = cut().feed(*mixed(gop(0), voices(0, 2000))).feed(idr(2000, 100))
    assert len(made.fragments) == 1
    made.feed(sound(2080))
    assert len(made.fragments) == 1
    made.feed(sound(2100))
    assert made.begins == [0, 2100]


def test_an_idr_waits_no_longer_than_400_milliseconds() -> None:
    made = cut().feed(*mixed(gop(0), voices(0, 1900))).feed(idr(2000), *(picture(t) for t in range(2040, 2400, 40)))
    assert len(made.fragments) == 1
    made.feed(picture(2400))
    assert made.begins == [0, 2000]


def test_before_the_first_idr_only_the_last_sound_is_kept() -> None:
    made = (
        cut()
        .feed(picture(0), sound(0), sound(700), picture(900), sound(980))
        .feed(*mixed(gop(1000), voices(1000, 3000)))
    )
    assert made.finish().begins == [700]
    assert made.fragmenter.skipped == 3


def test_an_intra_picture_that_is_not_an_idr_starts_no_fragment() -> None:
    made = cut(audio=None).feed(*gop(0), picture(2000, key=True), *(picture(t) for t in range(2040, 4000, 40)))
    assert made.finish().begins == [0]


def test_twenty_seconds_without_an_idr_fail_and_keep_earlier_frames() -> None:
    made = cut().feed(*mixed(gop(0, 19_960), voices(0, 19_960)))
    with pytest.raises(OutputUnsupported, match=r"no key frame .* 20 s"):
        made.feed(picture(20_000))
    assert [len(f.frames) for f in made.judged()] == [499 + 998]


def test_a_stream_that_never_has_an_idr_fails_too() -> None:
    made = cut(audio=None)
    with pytest.raises(OutputUnsupported):
        made.feed(*(picture(t) for t in range(0, 21_000, 40)))


def test_fifty_megabytes_without_an_idr_fail_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100_000)
    made = cut(audio=None)
    with pytest.raises(OutputUnsupported, match="MB"):
        made.feed(idr(0, size=50_000), picture(40, size=40_000), picture(80, size=20_000))
    (fragment,) = made.fragments
    assert fragment.complete
    assert fragment.size <= 100_000


def test_leading_pictures_of_an_idr_belong_to_its_fragment() -> None:
    hevc = _hevc()
    made = cut(video=hevc, audio=None)

    def unit(dts: int, shown: int, kind: int, key: bool) -> AccessUnit:
        return AccessUnit(hevc, dts, shown - dts, key, (EPOCH + dts) / 1000, b"\0\0\0\3" + bytes((kind << 1, 1, 7)))

    for start in (0, 2000):
        made.feed(unit(start, start + 120, 19, True))
        made.feed(*(unit(t, t, 6, False) for t in (start + 40, start + 80)))
        made.feed(*(unit(t, t + 40, 1, False) for t in range(start + 120, start + 2000, 40)))
    found = made.finish().judged()
    assert len(found) == 2
    assert all(len(f.frames) == 50 for f in found)


def _hevc() -> MediaTrack:
    return replace(elementary("h265").track, timescale=1000)


def test_sound_alone_is_cut_by_time() -> None:
    made = cut(video=None).feed(*voices(0, 7000)).finish()
    assert made.begins == [0, 2000, 4000, 6000]
    made.judged()


def test_a_fragment_names_only_the_tracks_that_it_has() -> None:
    made = cut().feed(*mixed(gop(0), gop(2000), gop(4000), voices(0, 2000), voices(4000, 6000))).finish()
    kinds = [f.kinds for f in made.fragments]
    assert kinds == [{Kind.VIDEO, Kind.AUDIO}, {Kind.VIDEO}, {Kind.VIDEO, Kind.AUDIO}]
    made.judged()


def test_sound_continues_while_pictures_are_missing() -> None:
    made = cut().feed(*mixed(gop(0), voices(0, 40_000), gop(33_300), gop(35_300))).finish()
    found = made.judged()
    heard = [f.time - EPOCH for fragment in found for f in fragment.frames if f.track == 2]
    assert heard == list(range(0, 40_000, 20))
    assert sum(1 for fragment in found for f in fragment.frames if f.track == 1) == 150


def test_another_epoch_begins_after_the_end_of_the_earlier_one() -> None:
    made = cut(audio=None).feed(*gop(0))
    made.fragmenter.start(Tracks(VIDEO, None, 1))
    made.feed(*(replace(u, wall=(EPOCH - 5000) / 1000) for u in gop(0))).finish()
    assert made.begins[1] > 1960, "a clock that was set back does not turn time back"
    made.judged()


def test_sound_that_kinesis_does_not_take_is_left_out() -> None:
    made = cut(audio=MediaTrack(Kind.AUDIO, Codec.OPUS, 1000, b"")).feed(*gop(0)).finish()
    assert made.fragmenter.left_out == "opus"
    assert made.fragments[0].kinds == {Kind.VIDEO}


@pytest.mark.parametrize(
    "tracks",
    [
        Tracks(MediaTrack(Kind.VIDEO, Codec.AV1, 1000, b""), AUDIO),
        Tracks(MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"x"), AUDIO),
        Tracks(None, MediaTrack(Kind.AUDIO, Codec.MP3, 1000, b"")),
    ],
)
def test_a_stream_that_kinesis_does_not_take_is_refused(tracks: Tracks) -> None:
    with pytest.raises(OutputUnsupported):
        Fragmenter(FragmentBacklog(1000)).start(tracks)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 30))
def test_random_input_never_breaks_a_rule_of_the_service(seed: int) -> None:
    """Random lengths of groups, gaps, jitter, skew, stretches without sound or picture, leaps of the clock."""
    chance = random.Random(seed)
    units: list[AccessUnit] = []
    at, skew, wall = 0, chance.randint(-600, 600), 0
    cts = chance.choice((0, 0, 66, 133))
    sounding = True
    for _ in range(chance.randint(2, 12)):
        length = chance.choice((120, 400, 1000, 2000, 5000, 15_000))
        step = chance.choice((17, 33, 40, 200))
        sounding = sounding if chance.random() < 0.8 else not sounding
        pictures = gop(at, length, step, cts) if chance.random() < 0.9 else []
        heard = voices(at, at + length, 21) if sounding else []
        for unit in mixed(pictures, heard, behind=skew):
            jitter = chance.randint(0, 120)
            units.append(replace(unit, wall=unit.wall + (wall + jitter) / 1000))
        at += length + (chance.randint(0, 9000) if chance.random() < 0.1 else 0)
        wall += chance.choice((0, 0, 0, 0, 5000, -5000))
    made = cut()
    with contextlib.suppress(OutputUnsupported):
        made.feed(*units)
    made.finish()
    try:
        found = made.judged()
    except Broken as broken:
        raise AssertionError(f"seed {seed}: {broken.id} {broken.code} {broken}") from None
    stored = [f.payload for fragment in found for f in fragment.frames]
    for kind, number in ((VIDEO, 1), (AUDIO, 2)):
        of_kind = [f.payload for fragment in found for f in fragment.frames if f.track == number]
        sent = [u.payload for u in units if u.track is kind]
        stored_ones = set(of_kind)
        assert len(stored_ones) == len(of_kind)
        assert of_kind == [p for p in sent if p in stored_ones], "in the order in which they came"
    assert len(stored) + made.fragmenter.skipped <= len(units)


# ---- the clock ----


def clock_times(pairs: list[tuple[int, float]], every: int = 1000) -> list[int]:
    clock, times = KinesisClock(), []
    for ms, wall in pairs:
        times.append(clock.time(ms, wall, 0))
        if ms % every == 0 and (leap := clock.adjust(ms)):
            times[-1] += leap
    return times


def test_the_clock_advances_with_the_time_of_the_media() -> None:
    assert clock_times([(0, 1000.0), (40, 1000.3), (80, 1000.31)]) == [1_000_000, 1_000_040, 1_000_080]


def test_network_delays_do_not_change_the_clock() -> None:
    pairs = [(ms, 1000 + ms / 1000 + (5 if ms % 4000 else 0)) for ms in range(0, 60_000, 500)]
    assert clock_times(pairs) == [1_000_000 + ms for ms, _ in pairs]


def test_a_clock_that_was_set_forward_is_followed_after_a_while() -> None:
    pairs = [(ms, 1000 + ms / 1000 + (3600 if ms >= 20_000 else 0)) for ms in range(0, 60_000, 500)]
    times = clock_times(pairs)
    assert times == sorted(times)
    assert times[-1] == 1_000_000 + 59_500 + 3_600_000


def test_a_clock_that_was_set_back_does_not_move_times_back() -> None:
    pairs = [(ms, 1000 + ms / 1000 - (3600 if ms >= 20_000 else 0)) for ms in range(0, 60_000, 500)]
    assert clock_times(pairs) == [1_000_000 + ms for ms, _ in pairs]


# ---- the backlog ----


def test_the_backlog_drops_its_oldest_fragments_and_counts_sent_ones_separately() -> None:
    made = cut(audio=None, most=3500)
    made.feed(*gop(0), *gop(2000))
    made.fragments[0].fully_sent = True
    made.feed(*gop(4000), *gop(6000), *gop(8000))
    backlog: Any = made.backlog
    assert backlog.size <= 3500
    assert backlog.counts.unconfirmed == 1
    assert 1 <= backlog.counts.dropped <= 3


def test_a_partly_sent_fragment_does_not_count_as_stored() -> None:
    made = cut(audio=None).feed(*gop(0), *gop(2000))
    first = made.fragments[0]
    assert made.backlog.acknowledge(first.timecode) == 0
    first.fully_sent = True
    assert made.backlog.acknowledge(first.timecode) == 1
    assert made.backlog.acknowledge(first.timecode) == 0


def test_an_acknowledgement_covers_all_earlier_fragments() -> None:
    made = cut(audio=None).feed(*gop(0), *gop(2000), *gop(4000)).finish()
    for fragment in made.fragments:
        fragment.fully_sent = True
    assert made.backlog.acknowledge(made.fragments[1].timecode) == 2
    assert len(made.backlog) == 1


def test_a_dropped_fragment_accepts_no_more_frames() -> None:
    made = cut(audio=None).feed(*gop(0), idr(2000))
    growing = made.fragments[-1]
    made.backlog.drop(growing)
    size = made.backlog.size
    made.feed(picture(2040), *gop(4000)).finish()
    assert made.begins == [0, 4000]
    assert made.backlog.size == sum(f.size for f in made.fragments)
    assert size < made.backlog.size
