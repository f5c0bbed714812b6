"""The printed playlists and manifests, byte for byte.

`python -m tests.unit.packaging.test_hls_golden` writes the files again for a review.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.formats.dash import mpd
from gateway.formats.hls import media_playlist
from gateway.formats.hls.multivariant_playlist import AudioRendition, Variant, multivariant
from gateway.media.track import Tracks
from gateway.packaging import ladder_manifests
from gateway.packaging.alignment import Alignment
from gateway.packaging.cmaf.packager import CmafPackager, SequenceNumbers
from gateway.packaging.ladder_manifests import CmafRendition, TsRendition
from gateway.packaging.packager import SegmentPlan
from gateway.packaging.ts.packager import TsPackager
from tests.support.hls_rules import check, parse
from tests.support.segmented import WALL, Timetable, cmaf, feed, ts, viewed

GOLDEN = Path(__file__).parents[2] / "golden" / "hls"


def snapshots() -> dict[str, str]:
    """The manifests of one regular stream and of one whose publisher came back, in the middle of a segment."""
    live, ended = Timetable(seconds=24.7, size=1000), Timetable(seconds=5, size=1000)
    one, two = ts(), cmaf()
    feed(one, live, end=False)
    feed(two, live, each=viewed(two), end=False)
    back_ts, back = ts(size=10), cmaf()
    feed(back_ts, live, Timetable(seconds=7.6, start=26, size=1000), end=False)
    feed(back, live, Timetable(seconds=7.6, start=26, size=1000), each=viewed(back), end=False)
    over = cmaf()
    feed(over, ended)
    video, audio = two.manifests.tracks
    return {
        "live.m3u8": _text(one.playlist()),
        "live-discontinuity.m3u8": _text(back_ts.playlist()),
        "master.m3u8": _text(two.manifests.master()),
        "video.m3u8": _text(two.manifests.playlist(video)),
        "video-delta.m3u8": _text(two.manifests.playlist(video, skip=True)),
        "video-signed.m3u8": _text(two.manifests.playlist(video), "?sign=1-ab"),
        "audio.m3u8": _text(two.manifests.playlist(audio)),
        "video-discontinuity.m3u8": _text(back.manifests.playlist(back.manifests.tracks[0])),
        "video-ended.m3u8": _text(over.manifests.playlist(over.manifests.tracks[0])),
        "manifest.mpd": mpd.finish(two.manifests.manifest(), "", WALL).decode(),
        "manifest-signed.mpd": mpd.finish(two.manifests.manifest(), '?sign=1-ab&q="$', WALL).decode(),
        "manifest-discontinuity.mpd": mpd.finish(back.manifests.manifest(), "", WALL).decode(),
        "manifest-ended.mpd": mpd.finish(over.manifests.manifest(), "", WALL).decode(),
        **_ladder(live),
        "ladder.m3u8": _text(
            multivariant(
                [
                    Variant("360p/index.m3u8", 900_000, 800_000, ("avc1.64001E", "mp4a.40.2"), (640, 360), 30.0, "a"),
                    Variant(
                        "720p/index.m3u8", 2_900_000, 2_500_000, ("avc1.64001F", "mp4a.40.2"), (1280, 720), 30.0, "a"
                    ),
                ],
                [AudioRendition("a", "audio", "audio/index.m3u8", 2)],
            )
        ),
    }


def _ladder(table: Timetable) -> dict[str, str]:
    """The same stream with two renditions, of which the second begins two segments later."""
    shared, ts_shared = Alignment(), Alignment()
    cmafs = [
        CmafPackager(name, SegmentPlan(2.0, 5, 0.5), WALL, SequenceNumbers(prefix=int(WALL)), alignment=shared)
        for name in ("c1", "c1@360p", "c1@720p")
    ]
    transports = [TsPackager(name, SegmentPlan(2.0, 5), WALL, alignment=ts_shared) for name in ("c1@360p", "c1@720p")]
    early, late = [*cmafs[:2], transports[0]], [cmafs[2], transports[1]]
    for packager in (*early, *late):
        packager.take_tracks(Tracks(table.video, table.audio, 0))
    for unit in table.units():
        for packager in (*early, *(late if unit.wall >= WALL + 4 else ())):
            packager.take(unit)
        viewed(cmafs[0])(unit)
    steps = [CmafRendition(name, p, most) for name, p, most in (("360p", cmafs[1], 664_000), ("720p", cmafs[2], 0))]
    plain = [
        TsRendition(name, p, most) for name, p, most in (("360p", transports[0], 664_000), ("720p", transports[1], 0))
    ]
    rung, lane = cmafs[1], cmafs[1].manifests.tracks[0]
    return {
        "ladder-index.m3u8": _text(ladder_manifests.ts_index(plain), "?sign=1-ab"),
        "ladder-index-cmaf.m3u8": _text(ladder_manifests.cmaf_index(steps)),
        "ladder-master.m3u8": _text(ladder_manifests.master(cmafs[0], steps)),
        "ladder-rung.m3u8": _text(transports[1].playlist()),
        "ladder-rung-cmaf.m3u8": _text(
            rung.manifests.playlist(lane, report=ladder_manifests.index_reports(lane, steps, "../"))
        ),
        "ladder.mpd": mpd.finish(ladder_manifests.manifest(cmafs[0], steps), "", WALL).decode(),
    }


def _text(template: str, suffix: str = "") -> str:
    return media_playlist.with_suffix(template, suffix).decode()


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    return snapshots()


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda p: p.name)
def test_a_manifest_is_printed_as_reviewed(path: Path, printed: dict[str, str]) -> None:
    assert printed[path.name] == path.read_text()


def test_every_golden_media_playlist_keeps_the_rules(printed: dict[str, str]) -> None:
    assert {p.name for p in GOLDEN.iterdir()} == set(printed)
    for name, text in printed.items():
        if name.endswith(".m3u8") and "#EXT-X-STREAM-INF" not in text:
            check(parse(text))


def test_durations_keep_their_order_when_printed() -> None:
    target = media_playlist.part_target(0.4876190476)
    assert target == 0.48762 and float(media_playlist.seconds(0.4876190476)) <= target
    assert media_playlist.part_target(0.5) == 0.5


if __name__ == "__main__":
    for name, text in snapshots().items():
        (GOLDEN / name).write_text(text)
