"""Real clients play a ladder: each rendition has its own pictures, and all have the same segment boundaries."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urljoin

import pytest

from tests.support.clients import (
    checksums,
    gst_play_dash,
    gst_play_hls,
    pull,
    recorded,
    take_of,
    until,
    vlc,
)
from tests.support.gateway import http
from tests.support.hls_rules import parse
from tests.support.ladder import broadcasting
from tests.support.media import FRAMES_PER_SECOND, Film, excerpt
from tests.support.time_outs import at_most
from tests.support.tools import need

SECONDS = 75
SOURCE = Film("ladder-source", seconds=SECONDS, size="320x180", bframes=2, gop=45)
# Rows of all planes are multiples of four bytes, because GStreamer's checksums include padding bytes.
RUNGS = {
    "360p": Film("ladder-360p", seconds=SECONDS, size="128x72", gop=45),
    "480p": Film("ladder-480p", seconds=SECONDS, size="160x90", gop=45),
    "720p": Film("ladder-720p", seconds=SECONDS, size="192x108", gop=45),
}
ALL = {"video": SOURCE, **RUNGS}


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    need("ffmpeg", "ffprobe")
    for film in ALL.values():
        film.hashes()
    with broadcasting(SOURCE, dict(RUNGS)) as url:
        for path in ("index.m3u8", "master.m3u8", "manifest.mpd"):
            until(lambda path=path: http("GET", f"{url}/{path}").status == 200, path, 20)
        yield url


def digests(film: Film) -> list[str]:
    return [f.digest for f in film.hashes().video]


def test_ffmpeg_plays_every_rendition_with_its_own_pictures(base: str) -> None:
    paths = {
        **{f"{name}/index.m3u8": film for name, film in RUNGS.items()},
        **{f"{name}/video/index.m3u8": film for name, film in RUNGS.items()},
        "../c1@480p/live.m3u8": RUNGS["480p"],
        "../c1@480p/master.m3u8": RUNGS["480p"],
        "../c1@480p/live.flv": RUNGS["480p"],
    }
    with ExitStack() as stack:
        viewers = {p: stack.enter_context(pull(urljoin(f"{base}/", p), seconds=4)) for p in paths}
        for path, viewer in viewers.items():
            take = take_of(viewer)
            # The decoder may hold back the last pictures of a stream that continues.
            excerpt([f.digest for f in take.video], digests(paths[path]), least=3 * FRAMES_PER_SECOND)


@pytest.mark.parametrize("path", ["index.m3u8", "master.m3u8", "manifest.mpd"])
def test_ffmpeg_plays_all_variants_of_one_manifest_at_once(path: str, base: str) -> None:
    films = list(RUNGS.values()) if path == "index.m3u8" else list(ALL.values())
    command = [
        "ffmpeg",
        "-nostdin",
        "-v",
        "error",
        "-i",
        f"{base}/{path}",
        "-t",
        "3",
        "-map",
        "0:v",
        "-c:v",
        "rawvideo",
    ]
    command += ["-pix_fmt", "yuv420p", "-fps_mode", "passthrough", "-f", "framehash", "-hash", "md5", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=at_most(60), check=False)
    shown: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if not line.startswith("#"):
            fields = [f.strip() for f in line.split(",")]
            shown.setdefault(fields[0], []).append(fields[5])
    assert len(shown) == len(films), (sorted(shown), done.stderr[-600:])
    known = {digest: film.name for film in films for digest in digests(film)}
    assert sorted(known[frames[0]] for frames in shown.values()) == sorted(f.name for f in films)
    for frames in shown.values():
        film = next(f for f in films if f.name == known[frames[0]])
        excerpt(frames, digests(film), least=2 * FRAMES_PER_SECOND)


def packets(segment: Path) -> list[tuple[float, bool]]:
    """Returns presentation time and key flag of each picture, in decode order."""
    command = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "v",
        "-show_entries",
        "packet=pts_time,flags",
        "-of",
        "json",
    ]
    done = subprocess.run([*command, str(segment)], check=True, capture_output=True, timeout=at_most(30))
    return [(float(p["pts_time"]), "K" in p["flags"]) for p in json.loads(done.stdout)["packets"]]


def test_segments_of_one_name_have_the_same_pictures_in_every_rendition(base: str, tmp_path: Path) -> None:
    until(lambda: http("GET", f"{base}/720p/index.m3u8").text.count("#EXTINF") >= 3, "three segments are listed")
    lists = {name: parse(http("GET", f"{base}/{name}/index.m3u8").text) for name in RUNGS}
    names = [s.uri for s in lists["360p"].segments[-3:-1]]
    assert names
    for uri in names:
        found = {}
        for rung in RUNGS:
            path = tmp_path / f"{rung}-{uri}"
            path.write_bytes(http("GET", f"{base}/{rung}/{uri}").body)
            found[rung] = packets(path)
            assert found[rung][0][1], f"{rung}/{uri} does not begin with a key frame"
        assert found["360p"] == found["480p"] == found["720p"]


def test_fragments_of_one_number_have_the_same_boundaries_in_source_and_renditions(base: str, tmp_path: Path) -> None:
    folders = {"video": "video", **{name: f"{name}/video" for name in RUNGS}}
    until(lambda: http("GET", f"{base}/720p/video/index.m3u8").text.count("#EXTINF") >= 3, "three segments are listed")
    lists = {n: parse(http("GET", f"{base}/{f}/index.m3u8").text) for n, f in folders.items()}
    common = set.intersection(*({s.number for s in p.segments} for p in lists.values()))
    number = max(common) - 1
    spans = {}
    for name, playlist in lists.items():
        segment = next(s for s in playlist.segments if s.number == number)
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(
            b"".join(http("GET", f"{base}/{folders[name]}/{u}").body for u in (segment.map_uri, segment.uri))
        )
        times = sorted(t for t, _ in packets(path))
        spans[name] = (len(times), times[0], times[-1])
    assert len(set(spans.values())) == 1, spans


@pytest.mark.parametrize("path", ["index.m3u8", "master.m3u8", "manifest.mpd"])
def test_gstreamer_plays_a_ladder_without_losing_a_picture_between_renditions(path: str, base: str) -> None:
    need("gst-launch-1.0")
    films = list(RUNGS.values()) if path == "index.m3u8" else list(ALL.values())
    until(lambda: http("GET", f"{base}/360p/index.m3u8").text.count("#EXTINF") >= 4, "four segments are listed")
    play = gst_play_dash if path.endswith(".mpd") else gst_play_hls
    with play(f"{base}/{path}") as player:
        until(lambda: len(checksums(player.output)) > 100, f"GStreamer shows {path}: {player.errors[-400:]}", 30)
        seen = [f.digest for f in checksums(player.stop())]
    place = {digest: n for film in films for n, digest in enumerate(digests(film))}
    assert all(digest in place for digest in seen), "a picture that no rung has"
    numbers = [place[digest] for digest in seen]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_vlc_plays_a_ladder_in_order_with_any_rendition(base: str) -> None:
    need("cvlc", "runuser")
    with vlc(f"{base}/index.m3u8") as player:
        seen = [f.digest for f in recorded(player, seconds=8).video]
    place = {digest: (n, film.name) for film in RUNGS.values() for n, digest in enumerate(digests(film))}
    assert all(digest in place for digest in seen), "a picture that no rung has"
    shown = [place[digest] for digest in seen]
    for (before, old), (after, new) in itertools.pairwise(shown):
        # VLC's writer drops a few pictures where it opens another rendition, and none elsewhere.
        assert after == before + 1 if old == new else before < after <= before + FRAMES_PER_SECOND, shown


def test_a_multivariant_playlist_matches_the_output_of_ffprobe(base: str) -> None:
    text = http("GET", f"{base}/index.m3u8").text
    found = re.findall(r"CODECS=\"([^\"]*)\",RESOLUTION=(\d+)x(\d+),FRAME-RATE=([0-9.]+)[^\n]*\n(.*)", text)
    assert [f[4] for f in found] == [f"{name}/index.m3u8" for name in RUNGS]
    for codecs, width, height, rate, uri in found:
        command = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", f"{base}/{uri}"]
        done = subprocess.run(command, check=True, capture_output=True, timeout=at_most(30))
        streams = {s["codec_type"]: s for s in json.loads(done.stdout)["streams"]}
        assert (streams["video"]["width"], streams["video"]["height"]) == (int(width), int(height))
        assert streams["video"]["avg_frame_rate"] == "30/1" and rate == "30.000"
        level = int(codecs.partition(",")[0][-2:], 16)
        assert streams["video"]["level"] == level and codecs.endswith(",mp4a.40.2")
