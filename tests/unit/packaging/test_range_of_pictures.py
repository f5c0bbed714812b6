"""HDR in the playlists and manifests of the packagers."""

import random
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest

from gateway.formats.dash import mpd
from gateway.formats.hls import media_playlist
from gateway.media.colors import Colors, VideoSignal
from gateway.media.track import AccessUnit, MediaTrack, Tracks
from gateway.packaging import ladder_manifests
from gateway.packaging.alignment import Alignment
from gateway.packaging.cmaf.packager import CmafPackager, SequenceNumbers
from gateway.packaging.ladder_manifests import CmafRendition, TsRendition
from gateway.packaging.packager import SegmentPlan
from gateway.packaging.ts.packager import TsPackager
from tests.support.builders import AVCC, VIDEO
from tests.support.segmented import WALL, Timetable, cmaf, feed, ts
from tests.unit.media.test_picture_colors import HEVC

HLG = replace(VIDEO, colors=Colors(VideoSignal(False, 9, 18, 9)))
# The SPS ends inside its VUI, so it says no rate.
UNTIMED = replace(HLG, config=AVCC[:6] + b"\0\x12" + AVCC[8:26] + AVCC[34:])
PROPERTY = re.compile(r'<SupplementalProperty schemeIdUri="urn:mpeg:mpegB:cicp:(\w+)" value="(\d+)"/>')


def fed(track: MediaTrack) -> CmafPackager:
    packager = cmaf()
    feed(packager, Timetable(video=track), end=False)
    return packager


@pytest.mark.parametrize(("track", "range"), [(HEVC, "PQ"), (HLG, "HLG")])
def test_a_variant_says_which_hdr_it_has(track: MediaTrack, range: str) -> None:
    assert f",VIDEO-RANGE={range}" in fed(track).manifests.master()
    transport = ts()
    feed(transport, Timetable(video=track), end=False)
    index = ladder_manifests.ts_index([TsRendition("one", transport)])
    assert f",VIDEO-RANGE={range}" in media_playlist.with_suffix(index).decode()


def rates(packager: CmafPackager | TsPackager) -> list[str]:
    """The rates of the variants in HDR; "": it has none."""
    if isinstance(packager, CmafPackager):
        text = packager.manifests.master()
    else:
        text = ladder_manifests.ts_index([TsRendition("one", packager)])
    variants = [line for line in text.splitlines() if "VIDEO-RANGE=HLG" in line]
    return ["".join(re.findall(r"FRAME-RATE=([\d.]+)", line)) for line in variants]


@pytest.mark.parametrize("make", [cmaf, ts])
@pytest.mark.parametrize("track", [HLG, UNTIMED])
def test_hdr_without_regular_times_has_a_frame_rate(
    make: Callable[[], CmafPackager | TsPackager], track: MediaTrack
) -> None:
    jitter = random.Random(1)
    packager = make()
    feed(packager, Timetable(video=track, rounding=lambda at: round(at + jitter.randint(-3, 3))), end=False)
    assert [round(float(rate)) for rate in rates(packager)] == [30]


def test_hdr_without_regular_times_has_the_announced_frame_rate() -> None:
    table = Timetable(video=UNTIMED, steps=(33, 34, 40, 42))
    packager = cmaf()
    packager.take_tracks(Tracks(UNTIMED, table.audio, 0, {"framerate": 29.97}))
    for unit in table.units():
        packager.take(unit)
    assert rates(packager) == ["29.970"]


@pytest.mark.parametrize("make", [cmaf, ts])
def test_hdr_has_a_frame_rate_at_each_time_of_an_epoch(make: Callable[[], CmafPackager | TsPackager]) -> None:
    packager, seen = make(), set()

    def note(unit: AccessUnit) -> None:
        if packager.ready:
            seen.update(rates(packager))

    feed(
        packager,
        Timetable(fps=Fraction(25), video=UNTIMED),
        Timetable(fps=Fraction(25), video=UNTIMED, start=20),
        each=note,
    )
    assert seen == {"25.000"}


@pytest.mark.parametrize("make", [cmaf, ts])
def test_hdr_keeps_its_frame_rate_when_frames_are_dropped(make: Callable[[], CmafPackager | TsPackager]) -> None:
    packager, seen = make(), set()

    def note(unit: AccessUnit) -> None:
        if packager.ready:
            seen.update(rates(packager))

    feed(packager, Timetable(video=UNTIMED, steps=(40,) * 50 + (40, 40, 40, 80) * 99), each=note)
    assert seen == {"25.000"}


def test_sdr_without_regular_times_has_no_frame_rate() -> None:
    packager = cmaf()
    feed(packager, Timetable(steps=(33, 34, 40, 42)), end=False)
    assert "FRAME-RATE" not in packager.manifests.master()


def test_playlists_and_manifests_of_sdr_stay_as_they_are() -> None:
    manifests = fed(VIDEO).manifests
    assert "VIDEO-RANGE" not in manifests.master()
    assert "Property" not in manifests.manifest()


@pytest.mark.parametrize(("track", "transfer"), [(HEVC, "16"), (HLG, "18")])
def test_dash_has_the_colors_of_hdr(track: MediaTrack, transfer: str) -> None:
    text = mpd.finish(fed(track).manifests.manifest(), "", WALL).decode()
    assert PROPERTY.findall(text) == [
        ("MatrixCoefficients", "9"), ("TransferCharacteristics", transfer)
    ]  # fmt: skip


def test_renditions_in_sdr_are_apart_from_their_source_in_hdr() -> None:
    shared, table = Alignment(), Timetable(video=HLG)
    source, rendition = (
        CmafPackager(name, SegmentPlan(2.0, 5, 0.5), WALL, SequenceNumbers(prefix=int(WALL)), alignment=shared)
        for name in ("c1", "c1@360p")
    )
    tracks = {source: HLG, rendition: VIDEO}
    for packager, track in tracks.items():
        packager.take_tracks(Tracks(track, table.audio, 0))
    for unit in table.units():
        for packager, track in tracks.items():
            packager.take(replace(unit, track=track) if unit.track is HLG else replace(unit))
    renditions = [CmafRendition("360p", rendition)]
    master = ladder_manifests.master(source, renditions)
    assert re.findall("VIDEO-RANGE=(\\w+)", master) == ["HLG", "SDR"]
    text = mpd.finish(ladder_manifests.manifest(source, renditions), "", WALL).decode()
    sets = [part for part in text.split("<AdaptationSet ")[1:] if 'contentType="video"' in part]
    assert [len(PROPERTY.findall(part)) for part in sets] == [2, 0]
