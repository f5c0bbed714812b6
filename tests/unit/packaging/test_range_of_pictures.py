"""HDR in the playlists and manifests of the packagers."""

import re
from dataclasses import replace

import pytest

from gateway.formats.dash import mpd
from gateway.formats.hls import media_playlist
from gateway.media.colors import Colors, VideoSignal
from gateway.media.track import MediaTrack, Tracks
from gateway.packaging import ladder_manifests
from gateway.packaging.alignment import Alignment
from gateway.packaging.cmaf.packager import CmafPackager, SequenceNumbers
from gateway.packaging.ladder_manifests import CmafRendition, TsRendition
from gateway.packaging.packager import SegmentPlan
from tests.support.builders import VIDEO
from tests.support.segmented import WALL, Timetable, cmaf, feed, ts
from tests.unit.media.test_picture_colors import HEVC

HLG = replace(VIDEO, colors=Colors(VideoSignal(False, 9, 18, 9)))
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
