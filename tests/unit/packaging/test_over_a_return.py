"""What stays true of one playlist when its publisher returns, and which rules of HLS its head keeps."""

import pytest

from gateway.packaging.ts.packager import TsPackager
from tests.support.packets import assert_counters, packets
from tests.support.segmented import Timetable, cmaf, feed, ts

INDEPENDENT = "#EXT-X-INDEPENDENT-SEGMENTS\n"


def media(packager: TsPackager) -> bytes:
    return b"".join(segment.body() for segment in packager.window)


def versions(data: bytes) -> list[int]:
    """The versions of the program's table."""
    return [packet.payload[6] >> 1 & 31 for packet in packets(data) if packet.pid == 0x1000]


def test_counters_continue_over_the_return_of_a_publisher() -> None:
    packager = ts(size=20)
    feed(packager, Timetable(seconds=6), Timetable(seconds=6, start=8))
    data = media(packager)
    assert_counters(packets(data))
    assert set(versions(data)) == {0}


def test_counters_continue_if_only_the_later_segments_are_requested_first() -> None:
    packager = ts(size=20)
    feed(packager, Timetable(seconds=6), Timetable(seconds=6, start=8))
    segments = list(packager.window)
    last = segments[-1].body()
    assert_counters(packets(b"".join([*(s.body() for s in segments[:-1]), last])))


def test_other_tracks_have_the_next_version_of_the_table() -> None:
    packager = ts(size=20)
    feed(packager, Timetable(seconds=6), Timetable(seconds=6, start=8, audio=None), Timetable(seconds=6, start=16))
    assert sorted(set(versions(media(packager)))) == [0, 1, 2]


def test_segments_are_independent_while_each_begins_with_a_key_frame() -> None:
    for packager in (ts(), cmaf()):
        feed(packager, Timetable(seconds=9), end=False)
        assert INDEPENDENT in head(packager)


@pytest.mark.parametrize("gop", [(60, 600), (30, 500)])
def test_segments_are_not_independent_after_one_without_a_key_frame(gop: tuple[int, ...]) -> None:
    for packager in (ts(), cmaf()):
        feed(packager, Timetable(seconds=24, gop=gop), end=False)
        assert packager.forced_cuts
        assert INDEPENDENT not in head(packager)


def test_dash_players_look_for_another_period_soon_also_with_long_gops() -> None:
    packager = cmaf()
    feed(packager, Timetable(seconds=24, gop=(240,)), end=False)
    manifest = packager.manifests.manifest()
    assert 'maxSegmentDuration="PT8.' in manifest
    assert 'minimumUpdatePeriod="PT2.500S"' in manifest


def head(packager: object) -> str:
    if isinstance(packager, TsPackager):
        return packager.playlist()
    return packager.manifests.playlist(packager.manifests.tracks[0])  # type: ignore[attr-defined,no-any-return]
