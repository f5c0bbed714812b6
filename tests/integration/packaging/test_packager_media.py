"""Real media through the packagers, written to disk like a client fetches it; ffmpeg reads the source's frames."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from gateway.formats.dash import mpd
from gateway.formats.hls import media_playlist
from gateway.formats.mp4 import reader
from gateway.live.sink import EndReason
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, Tracks
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.packager import Packager
from tests.support import media as films
from tests.support import mp4
from tests.support.at_night import at_night
from tests.support.flv_reader import FlvFileDemuxer
from tests.support.media import Film
from tests.support.segmented import WALL, cmaf, ts
from tests.support.time_outs import at_most
from tests.support.tools import need

PLAIN, BFRAMES = Film("packaged", seconds=15), Film("packaged-b", seconds=15, bframes=3)
AUDIO_ONLY, VIDEO_ONLY = Film("packaged-a", seconds=15, video=None), Film("packaged-v", seconds=15, audio=None)
FILMS = {"with B-frames": BFRAMES, "audio only": AUDIO_ONLY}
EASIER = {"plain": PLAIN, "video only": VIDEO_ONLY}


def units(film: Film) -> tuple[Tracks, list[AccessUnit]]:
    demux = FlvFileDemuxer()
    found = [e for e in demux.receive(film.path().read_bytes()) if isinstance(e, AccessUnit)]
    for unit in found:
        unit.wall = WALL + unit.dts / 1000
    return Tracks(demux.media.video_track, demux.media.audio_track, 0), found


def package(packager: Packager, film: Film) -> None:
    tracks, found = units(film)
    packager.take_tracks(tracks)
    for unit in found:
        packager.take(unit)
    packager.on_end(EndReason.PUBLISHER_GONE)


def read(path: Path) -> films.Take:
    command = films.framehash_command(path, before=("-copyts", "-allowed_extensions", "ALL"))
    if path.suffix != ".m3u8":
        command = films.framehash_command(path, before=("-copyts",))
    done = subprocess.run(command, capture_output=True, timeout=at_most(120), check=False)
    assert done.returncode == 0, done.stderr.decode()
    return films.parse_framehash(done.stdout.decode())


def write_cmaf(packager: CmafPackager, folder: Path) -> None:
    """Writes everything but the manifests, as paths below `/<id>/`."""
    for lane in packager.manifests.tracks:
        place = folder / lane.kind
        place.mkdir()
        (place / "index.m3u8").write_bytes(media_playlist.with_suffix(packager.manifests.playlist(lane)))
        for uri, init in lane.inits.items():
            (place / uri).write_bytes(init)
        for segment in lane.window:
            (place / segment.uri).write_bytes(segment.body())


@pytest.mark.parametrize("film", [*FILMS.values(), *at_night(*EASIER.values())], ids=[*FILMS, *EASIER])
def test_transport_stream_segments_have_all_frames_of_the_source_in_order(film: Film, tmp_path: Path) -> None:
    need("ffmpeg")
    packager = ts(size=100)
    package(packager, film)
    (tmp_path / "live.m3u8").write_bytes(media_playlist.with_suffix(packager.playlist()))
    for segment in packager.window:
        (tmp_path / segment.uri).write_bytes(segment.body())
    take = read(tmp_path / "live.m3u8")
    films.judge(take, film, least=14, slack=0.025)
    assert packager.broken == packager.forced_cuts == 0


@pytest.mark.parametrize("film", [*FILMS.values(), *at_night(*EASIER.values())], ids=[*FILMS, *EASIER])
def test_cmaf_segments_have_all_frames_of_the_source_in_order(film: Film, tmp_path: Path) -> None:
    need("ffmpeg")
    packager = cmaf(size=100)
    package(packager, film)
    (tmp_path / "master.m3u8").write_bytes(media_playlist.with_suffix(packager.manifests.master()))
    write_cmaf(packager, tmp_path)
    films.judge(read(tmp_path / "master.m3u8"), film, least=14, slack=0.025)
    assert packager.broken == packager.forced_cuts == 0


@pytest.mark.parametrize("film", [BFRAMES, *at_night(PLAIN)], ids=["with B-frames", "plain"])
def test_the_segments_of_the_mpd_have_all_frames_of_the_source(film: Film, tmp_path: Path) -> None:
    need("ffmpeg")
    packager = cmaf(size=100)
    package(packager, film)
    write_cmaf(packager, tmp_path)
    video, audio = [], []
    for kind, offset, files in fetched(mpd.finish(packager.manifests.manifest()).decode(), tmp_path):
        joined = tmp_path / f"{kind}.mp4"
        joined.write_bytes(b"".join([f.read_bytes() for f in files]))
        take = read(joined)
        for into, found in ((video, take.video), (audio, take.audio)):
            into += [films.Frame(f.digest, f.time - offset) for f in found]
    films.judge(films.Take(video, audio), film, least=14, slack=0.025)


def fetched(text: str, folder: Path) -> list[tuple[str, float, list[Path]]]:
    """Returns `presentationTimeOffset` in seconds, initialization and `SegmentTimeline` segments by representation."""
    ns = "{urn:mpeg:dash:schema:mpd:2011}"
    out = []
    for a in ET.fromstring(text).iter(ns + "AdaptationSet"):
        t, rep = a.find(ns + "SegmentTemplate"), a.find(ns + "Representation")
        assert t is not None and rep is not None
        timeline = t.find(ns + "SegmentTimeline")
        assert timeline is not None
        count = sum(int(s.get("r", "0")) + 1 for s in timeline)
        first = int(t.get("startNumber", "1"))
        name = t.get("media", "").replace("$RepresentationID$", rep.get("id", ""))
        files = [folder / t.get("initialization", "").replace("$RepresentationID$", rep.get("id", ""))]
        files += [folder / name.replace("$Number$", str(first + n)) for n in range(count)]
        out.append((rep.get("id", ""), int(t.get("presentationTimeOffset", "0")) / int(t.get("timescale", "1")), files))
    return out


@pytest.mark.parametrize("film", [BFRAMES, *at_night(PLAIN)], ids=["with B-frames", "plain"])
def test_the_fragments_have_every_coded_frame_once_without_gaps_in_decode_time(film: Film) -> None:
    need("ffmpeg")
    packager = cmaf(size=100)
    package(packager, film)
    _, source = units(film)
    for lane in packager.manifests.tracks:
        samples = b"".join([mp4.mdat(s.body()) for s in lane.window])
        wanted = [u.payload for u in source if u.track.kind.value == lane.kind]
        whole = b"".join(wanted)
        # Audio before the first picture is left out.
        assert samples == whole[len(whole) - len(samples) :] and len(samples) > 0.99 * len(whole)
        end = None
        for segment in lane.window:
            for f in reader.parse_fragments(segment.body()):
                assert end is None or f.base_decode_time == end
                end = f.base_decode_time + sum(s.duration for s in f.samples)


CODERS = {
    "hevc": (Codec.H265, "libx265", ("-preset", "ultrafast", "-x265-params", "log-level=error:keyint=60:scenecut=0")),
    "av1": (Codec.AV1, "libsvtav1", ("-preset", "12", "-g", "60")),
}


def fragmented(name: str, folder: Path) -> tuple[Path, MediaTrack, list[AccessUnit]]:
    """Returns four seconds in a codec that this ffmpeg cannot write to FLV, as units of a publisher."""
    codec, encoder, options = CODERS[name]
    path = folder / "source.mp4"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-t", "4"]
    command += ["-c:v", encoder, *options, *(["-tag:v", "hvc1"] if name == "hevc" else []), "-pix_fmt", "yuv420p"]
    command += ["-movflags", "frag_keyframe+empty_moov+default_base_moof", str(path)]
    subprocess.run(command, check=True, timeout=at_most(120), capture_output=True)
    data = path.read_bytes()
    about = mp4.parse_init(data)[0]
    track = MediaTrack(Kind.VIDEO, codec, 1000, about.config)
    found = []
    for f in reader.parse_fragments(data):
        at = f.base_decode_time
        for s in f.samples:
            dts = round(at * 1000 / about.timescale)
            cts = round((at + s.cts) * 1000 / about.timescale) - dts
            found.append(AccessUnit(track, dts + 200, cts, s.key, WALL + at / about.timescale, s.payload))
            at += s.duration
    return path, track, found


@pytest.mark.parametrize(("name", "form"), [("hevc", "ts"), ("hevc", "cmaf"), ("av1", "cmaf")])
def test_segments_of_other_codecs_have_every_picture(name: str, form: str, tmp_path: Path) -> None:
    need("ffmpeg")
    path, track, found = fragmented(name, tmp_path)
    packager = ts(size=100) if form == "ts" else cmaf(size=100)
    packager.take_tracks(Tracks(track, None, 0))
    for unit in found:
        packager.take(unit)
    packager.on_end(EndReason.PUBLISHER_GONE)
    if isinstance(packager, CmafPackager):
        write_cmaf(packager, tmp_path)
        playlist = tmp_path / "video" / "index.m3u8"
        assert re.search(r'CODECS="(hvc1\.1\.[0-9A-F.L]+|av01\.0\.[0-9.M]+)"', packager.manifests.master())
    else:
        for segment in packager.window:
            (tmp_path / segment.uri).write_bytes(segment.body())
        playlist = tmp_path / "live.m3u8"
        playlist.write_bytes(media_playlist.with_suffix(packager.playlist()))
    got, want = read(playlist).video, read(path).video
    assert [f.digest for f in got] == [f.digest for f in want] and len(got) == 120
    off = [g.time - w.time for g, w in zip(got, want, strict=True)]
    assert max(off) - min(off) < 0.002
