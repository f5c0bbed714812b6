"""Films of every kind become HLS for other players: real files are converted, and ffprobe and pixels are checked."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
from contextlib import closing
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from gateway.formats.mkv.ebml import element
from gateway.formats.ts.reader import TsReader
from gateway.outputs.clips.joiner import Joiner
from gateway.workers.package_protocol import PackageRequest, PackageResult, VodEncoding
from gateway.workers.programs.vod.hls_package import package
from gateway.workers.programs.vod.media_file import MediaFile
from gateway.workers.vod_bounds import Bounds, UnusableFilm
from tests.support import films
from tests.support.media import VP8

COLOURS = "color=red:size=160x80:rate=25,pad=160:160:0:0:blue,drawbox=0:60:40:40:lime:fill"
NONE = Bounds()


def tone(*how: str, name: str = "tone.mp4") -> Path:
    """A film of three seconds with a tone of 1,000 Hz."""
    sound = ("-f", "lavfi", "-i", "sine=1000:sample_rate=48000")
    return films.film(name, "-f", "lavfi", "-i", films.PICTURE, *sound, "-t", "3", *films.H264, *how)


# After an error the packaging closes nothing: its worker ends.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
HOW = VodEncoding(crf=23, preset="superfast", max_bits=5_000_000, segment=10)


class Result:
    """The output of one film."""

    def __init__(self, source: Path, folder: Path, how: VodEncoding = HOW, bounds: Bounds = NONE) -> None:
        folder.mkdir()
        self.folder = folder
        self.progress: list[float] = []
        self.seconds: list[float] = []  # made so far

        def told(done: float, made: float) -> None:
            self.progress.append(done)
            self.seconds.append(made)

        self.made: PackageResult = package(PackageRequest(str(source), str(folder), "film", how, bounds), told)
        self.master = folder / "film.m3u8"
        self.playlist = (folder / "filmstream.m3u8").read_text()

    @property
    def durations(self) -> list[float]:
        return [float(d) for d in re.findall(r"#EXTINF:([0-9.]+),", self.playlist)]

    def attribute(self, name: str) -> str | None:
        found = re.search(rf'{name}=("[^"]*"|[^,\n]*)', self.master.read_text())
        return None if found is None else found[1].strip('"')


def make(source: Path, tmp_path: Path, how: VodEncoding = HOW, bounds: Bounds = NONE) -> Result:
    return Result(source, tmp_path / "made", how, bounds)


def test_a_film_becomes_the_files_of_the_original_system(tmp_path: Path) -> None:
    result = make(films.plain(), tmp_path)
    assert {path.name for path in result.folder.iterdir()} == {
        "film.m3u8", "filmstream.m3u8", "filmstream_00001.ts", "film.0000000.jpg", "thumbnail.0000000.jpg",
    }  # fmt: skip
    told = films.probe(result.master)
    assert told["video"]["codec_name"] == "h264" and told["audio"]["codec_name"] == "aac"
    assert int(told["video"]["nb_read_frames"]) == 75 and not result.made.warning
    assert result.attribute("RESOLUTION") == "320x180"
    assert result.attribute("FRAME-RATE") == "25.000"
    assert re.fullmatch(r"avc1\.64[0-9A-F]{4},mp4a\.40\.2", result.attribute("CODECS") or "")


def test_playlists_describe_a_finished_film(tmp_path: Path) -> None:
    result = make(films.plain(), tmp_path)
    for tag in ("#EXTM3U", "#EXT-X-PLAYLIST-TYPE:VOD", "#EXT-X-ENDLIST", "#EXT-X-MEDIA-SEQUENCE:1"):
        assert tag in result.playlist
    assert result.master.read_text().splitlines()[-1] == "filmstream.m3u8"
    size = sum(path.stat().st_size for path in result.folder.glob("*.ts"))
    assert abs(int(result.attribute("AVERAGE-BANDWIDTH") or 0) - size * 8 / sum(result.durations)) < 2
    assert int(result.attribute("BANDWIDTH") or 0) >= int(result.attribute("AVERAGE-BANDWIDTH") or 0)


def test_segments_last_ten_seconds_and_each_begins_with_a_key_picture(tmp_path: Path) -> None:
    result = make(films.long(), tmp_path)
    assert result.durations[:2] == [10.0, 10.0] and abs(result.durations[2] - 5) < 0.05
    assert "#EXT-X-TARGETDURATION:10\n" in result.playlist
    for number in (1, 2, 3):
        first = subprocess.run(
            ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "packet=flags", "-of", "csv=p=0",
             str(result.folder / f"filmstream_{number:05d}.ts")],
            check=True, capture_output=True, text=True,
        ).stdout.splitlines()[0]  # fmt: skip
        assert first.startswith("K")
    assert int(films.probe(result.master)["video"]["nb_read_frames"]) == 250


def test_consecutive_segments_have_no_gap(tmp_path: Path) -> None:
    result = make(films.long(), tmp_path)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(path.read_bytes() for path in sorted(result.folder.glob("*.ts"))))
    said = subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "warning", "-i", str(joined), "-f", "null", "-"], capture_output=True, text=True
    )
    assert said.returncode == 0 and said.stderr == ""
    for kind, step in (("v", 0.1001), ("a", 0.0215)):
        assert max(b - a for a, b in pairwise(films.times(joined, kind))) < step


def test_sound_is_copied_if_possible(tmp_path: Path) -> None:
    source = films.plain()
    result = make(source, tmp_path)

    def sounds(path: Path) -> list[str]:
        told = subprocess.run(
            ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-map", "0:a:0", "-c", "copy", "-bsf:a",
             "aac_adtstoasc", "-f", "framehash", "-hash", "md5", "-"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        return [line.split(",")[5].strip() for line in told.splitlines() if line and not line.startswith("#")]

    own, kept = sounds(source), sounds(result.master)
    assert len(kept) >= 140 and kept == own[len(own) - len(kept) :]
    assert len(own) - len(kept) <= 1  # the encoder's priming, which the film's edit list hides


def test_sound_in_latm_is_converted(tmp_path: Path) -> None:
    """Broadcasts carry AAC so; its frames are not those of ADTS."""
    source = films.copied("latm.ts", films.plain(), "-mpegts_flags", "latm")
    result = make(source, tmp_path)
    said = subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", str(result.master), "-map", "0:a", "-f", "null", "-"],
        capture_output=True, text=True,
    ).stderr  # fmt: skip
    assert said == ""
    assert abs(int(films.probe(result.master)["audio"]["nb_read_frames"]) * 1024 / 48000 - 3) < 0.1


@pytest.mark.parametrize("container", ["mkv", "mov", "ts", "flv", "avi"])
def test_every_picture_is_kept_for_any_container(container: str, tmp_path: Path) -> None:
    result = make(films.copied(f"plain.{container}", films.plain()), tmp_path)
    told = films.probe(result.master)
    assert int(told["video"]["nb_read_frames"]) == 75
    assert abs(sum(result.durations) - 3) < 0.1


@pytest.mark.parametrize("container", ["avi", "asf"])
def test_every_picture_is_kept_although_the_container_has_only_decode_times(container: str, tmp_path: Path) -> None:
    source = films.silent(
        f"reordered.{container}", films.PICTURE, *("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"),
        *("-bf", "3", "-b_strategy", "0", "-x264-params", "b-pyramid=normal:ref=4"),
    )  # fmt: skip
    result = make(source, tmp_path)
    assert int(films.probe(result.master)["video"]["nb_read_frames"]) == int(
        films.probe(source)["video"]["nb_read_frames"]
    )
    steps = {round(b - a, 2) for a, b in pairwise(films.times(result.master, "v"))}
    assert max(steps) <= 0.08


@pytest.mark.parametrize(
    ("name", "how"),
    [("live.mp4", ("-movflags", "+frag_keyframe+empty_moov")), ("live.mkv", ("-f", "matroska", "-live", "1"))],
)
def test_recordings_without_an_index_or_a_length_work(name: str, how: tuple[str, ...], tmp_path: Path) -> None:
    """The files are fragments without an index, and a file without its duration."""
    result = make(films.copied(name, films.long(), *how), tmp_path)
    assert int(films.probe(result.master)["video"]["nb_read_frames"]) == 250
    assert result.progress[-1] > 0.8


def test_the_cover_of_a_song_becomes_its_poster(tmp_path: Path) -> None:
    cover = films.film("cover.jpg", "-f", "lavfi", "-i", "color=red:size=64x64", "-frames:v", "1")
    song = films.film(
        "cover.m4a", "-f", "lavfi", "-i", films.SOUND, "-i", str(cover), "-t", "2", "-map", "0", "-map", "1",
        "-c:a", "aac", "-c:v", "copy", "-disposition:v", "attached_pic",
    )  # fmt: skip
    result = make(song, tmp_path)
    assert result.made.poster and "video" not in films.probe(result.master)
    assert films.pixel(result.folder / "film.0000000.jpg", 0.5, 0.5)[0] > 200


def test_webm_with_vp8_and_opus_becomes_h264_and_aac(tmp_path: Path) -> None:
    source = films.film("a.webm", "-i", str(films.plain()), *VP8, "-c:a", "libopus")
    told = films.probe(make(source, tmp_path).master)
    assert (told["video"]["codec_name"], told["audio"]["codec_name"]) == ("h264", "aac")
    assert int(told["video"]["nb_read_frames"]) == 75
    assert abs(int(told["audio"]["nb_read_frames"]) * 1024 / 48000 - 3) < 0.1


def test_a_film_without_sound_works(tmp_path: Path) -> None:
    result = make(films.silent("silent.mp4", films.PICTURE), tmp_path)
    assert "audio" not in films.probe(result.master)
    assert result.durations == [3.0]
    assert "mp4a" not in (result.attribute("CODECS") or "")


def test_a_file_with_only_sound_is_cut_into_segments(tmp_path: Path) -> None:
    source = films.film("song.m4a", "-f", "lavfi", "-i", films.SOUND, "-t", "25", "-c:a", "aac")
    result = make(source, tmp_path)
    assert "video" not in films.probe(result.master)
    assert [round(d) for d in result.durations] == [10, 10, 5]
    assert not result.made.poster and not list(result.folder.glob("*.jpg"))
    assert result.attribute("CODECS") == "mp4a.40.2" and result.attribute("RESOLUTION") is None


def turned(name: str, matrix: tuple[int, int, int, int]) -> Path:
    """A film, red above and blue below, green on the left, whose header has this rotation matrix."""
    source = films.silent("colours.mp4", COLOURS, *films.H264, seconds=1)
    a, b, c, d = (v << 16 for v in matrix)
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 44  # ISO/IEC 14496-12 §8.3.2, version 0: the matrix behind 40 bytes
    width, height = (160, 160)
    moved = ((width if a < 0 or c < 0 else 0) << 16, (height if b < 0 or d < 0 else 0) << 16)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, *moved, 1 << 30)
    return films.scratch_file(name, bytes(data))


@pytest.mark.parametrize(
    "matrix",
    [
        (1, 0, 0, 1),
        (0, 1, -1, 0),
        (-1, 0, 0, -1),
        (0, -1, 1, 0),
        (-1, 0, 0, 1),
        (1, 0, 0, -1),
        (0, 1, 1, 0),
        (0, -1, -1, 0),
    ],
)
def test_a_phone_video_is_rotated_upright(matrix: tuple[int, int, int, int], tmp_path: Path) -> None:
    """The matrices are four rotations, also mirrored, and players would show the same picture."""
    source = turned(f"turned{matrix}.mp4".replace(" ", ""), matrix)
    result = make(source, tmp_path)
    assert "side_data_list" not in films.probe(result.master)["video"]
    a, b, c, d = matrix
    for x, y in ((0.5, 0.1), (0.5, 0.9), (0.06, 0.5), (0.94, 0.5)):  # in the picture as it is coded
        u, v = x - 0.5, y - 0.5
        at = (a * u + c * v + 0.5, b * u + d * v + 0.5)  # where the matrix puts that
        want = films.pixel(films.silent("colours.mp4", COLOURS, *films.H264, seconds=1), x, y)
        for picture in (result.folder / "film.0000000.jpg", result.folder / "filmstream_00001.ts"):
            got = films.pixel(picture, *at)
            assert max(abs(p - q) for p, q in zip(got, want, strict=True)) < 60, (picture.name, x, y, got, want)


def test_a_vertical_phone_video_becomes_a_vertical_film(tmp_path: Path) -> None:
    source = films.silent("wide.mp4", films.PICTURE)
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 180 << 16, 0, 1 << 30)
    result = make(films.scratch_file("upright.mp4", bytes(data)), tmp_path)
    told = films.probe(result.master)["video"]
    assert (told["width"], told["height"]) == (180, 320)
    assert result.attribute("RESOLUTION") == "180x320"
    with Image.open(result.folder / "film.0000000.jpg") as poster:
        assert poster.size == (180, 320)


def test_poster_and_thumbnail_are_jpegs_and_the_thumbnail_is_smaller(tmp_path: Path) -> None:
    result = make(films.plain(), tmp_path)
    poster, thumbnail = result.folder / "film.0000000.jpg", result.folder / "thumbnail.0000000.jpg"
    assert poster.stat().st_size > thumbnail.stat().st_size
    for path in (poster, thumbnail):
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "JPEG" and picture.size == (320, 180)


@pytest.mark.parametrize(
    ("name", "picture", "coding"),
    [
        ("ten.mp4", films.PICTURE, ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le")),
        ("444.mp4", films.PICTURE, ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv444p")),
        ("rgb.mkv", films.PICTURE, ("-c:v", "ffv1", "-pix_fmt", "bgra")),
        ("full.mov", films.PICTURE, ("-c:v", "mjpeg", "-pix_fmt", "yuvj422p", "-q:v", "3")),
        (
            "odd.mkv",
            "testsrc2=size=321x181:rate=25",
            ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv444p"),
        ),
    ],
)
def test_every_pixel_format_becomes_eight_bit_4_2_0(
    name: str, picture: str, coding: tuple[str, ...], tmp_path: Path
) -> None:
    source = films.silent(name, picture, *coding)
    result = make(source, tmp_path)
    told = films.probe(result.master)["video"]
    assert told["pix_fmt"] == "yuv420p" and told["profile"] == "High"
    assert (told["width"], told["height"]) == (320, 180)
    assert int(told["nb_read_frames"]) == 75
    for x, y in ((0.1, 0.2), (0.5, 0.5), (0.9, 0.2)):  # the colours are the source's
        got, want = films.pixel(result.folder / "filmstream_00001.ts", x, y), films.pixel(source, x, y)
        assert max(abs(a - b) for a, b in zip(got, want, strict=True)) < 40, (x, y, got, want)


def test_hdr_is_converted_to_standard_colours(tmp_path: Path) -> None:
    """Diffuse white of PQ (58 % of its codes) is nearly white afterwards; without a change it would be grey."""
    white = "color=white:size=320x180:rate=25,format=yuv420p10le,lutyuv=y='64+0.58*876':u=512:v=512"
    coding = (
        "-c:v", "libx265", "-preset", "ultrafast", "-x265-params",
        "log-level=error:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc", "-pix_fmt", "yuv420p10le",
    )  # fmt: skip
    result = make(films.silent("pq.mp4", white, *coding, seconds=1), tmp_path)
    told = films.probe(result.master)["video"]
    assert (told["pix_fmt"], told["color_transfer"], told["color_primaries"]) == ("yuv420p", "bt709", "bt709")
    assert min(films.pixel(result.folder / "film.0000000.jpg", 0.5, 0.5)) > 215


def combing(path: Path) -> float:
    """Returns the average difference of neighbouring lines in pictures of vertical bars, caused by interlacing."""
    raw = subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-pix_fmt", "gray", "-f", "rawvideo", "-"],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    picture = raw[-320 * 180 * 10 :][: 320 * 180]  # one in the middle of the movement
    pairs = [(picture[n], picture[n + 320]) for n in range(320 * 40, 320 * 140)]
    return sum(abs(a - b) for a, b in pairs) / len(pairs)


def test_interlaced_pictures_are_deinterlaced(tmp_path: Path) -> None:
    source = films.silent(
        "interlaced.mp4",
        "nullsrc=size=320x180:rate=50,geq=lum='255*lt(mod(X+6*N,160),80)':cb=128:cr=128,tinterlace=interleave_top",
        "-c:v", "libx264", "-preset", "ultrafast", "-flags", "+ildct+ilme", "-x264opts", "tff=1", "-pix_fmt", "yuv420p",
        seconds=2,
    )  # fmt: skip
    result = make(source, tmp_path)
    assert combing(source) > 8
    assert combing(result.folder / "filmstream_00001.ts") < 2
    assert abs(int(films.probe(result.master)["video"]["nb_read_frames"]) - 50) <= 1


def test_the_pixel_aspect_ratio_is_kept_and_the_poster_has_square_pixels(tmp_path: Path) -> None:
    source = films.silent("sar.mp4", "testsrc2=size=360x288:rate=25,setsar=16/11")
    result = make(source, tmp_path)
    told = films.probe(result.master)["video"]
    assert Fraction(told["sample_aspect_ratio"].replace(":", "/")) == Fraction(16, 11)
    assert result.attribute("RESOLUTION") == "524x288"
    with Image.open(result.folder / "film.0000000.jpg") as poster:
        assert abs(poster.width / poster.height - 524 / 288) < 0.01


def test_a_variable_frame_rate_keeps_its_timestamps(tmp_path: Path) -> None:
    source = films.silent(
        "vfr.mp4", "testsrc2=size=320x180:rate=30,select='lt(n,60)+not(mod(n,7))'", "-fps_mode", "vfr", *films.H264,
        seconds=6,
    )  # fmt: skip
    result = make(source, tmp_path)
    own, got = films.times(source, "v"), films.times(result.folder / "filmstream_00001.ts", "v")
    assert len(got) == len(own)
    assert max(abs((a - own[0]) - (b - got[0])) for a, b in zip(own, got, strict=True)) < 0.002


def test_a_long_still_picture_is_repeated_in_every_segment(tmp_path: Path) -> None:
    """The film is a screen recording with one picture in 25 seconds."""
    source = films.silent(
        "slides.mkv", "testsrc2=size=320x180:rate=25:duration=25,select='eq(n,0)+eq(n,10)+eq(n,624)'",
        "-fps_mode", "vfr", *films.H264, seconds=25,
    )  # fmt: skip
    result = make(source, tmp_path)
    assert [round(d) for d in result.durations] == [10, 10, 5]


def test_sound_with_channels_in_an_order_of_its_own_is_converted(tmp_path: Path) -> None:
    source = films.own_order(tone("-ac", "6", "-c:a", "pcm_s16le", name="surround.mov"))
    with closing(MediaFile(source)) as film:
        assert film.audio.codec_context.layout.name == "5.1"
    audio = films.probe(make(source, tmp_path).master)["audio"]
    assert audio["channels"] == 2 and abs(int(audio["nb_read_frames"]) * 1024 / 48000 - 3) < 0.1


def test_sound_in_frames_shorter_than_the_resolution_of_its_times_is_whole(tmp_path: Path) -> None:
    """A frame of TrueHD has 40 samples, and Matroska has times in milliseconds: every sixth time repeats."""
    source = tone("-c:a", "truehd", "-strict", "-2", name="truehd.mkv")
    data = subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", str(make(source, tmp_path).master), "-map", "0:a", "-ac", "1",
         "-f", "s16le", "-"],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    samples = struct.unpack(f"<{len(data) // 2}h", data)[24_000:120_000]
    periods = sum(a < 0 <= b for a, b in pairwise(samples))
    assert abs(periods - 2000) <= 2


def test_the_default_sound_track_is_used(tmp_path: Path) -> None:
    source = films.film(
        "two.mkv", "-f", "lavfi", "-i", films.PICTURE, "-f", "lavfi", "-i", "sine=300", "-f", "lavfi", "-i",
        films.SOUND,
        "-t", "2", "-map", "0", "-map", "1", "-map", "2", *films.H264, "-c:a", "aac", "-ac:a:0", "1", "-ac:a:1", "2",
        "-disposition:a:0", "0", "-disposition:a:1", "default",
    )  # fmt: skip
    assert films.probe(make(source, tmp_path).master)["audio"]["channels"] == 2


def test_sound_stored_far_from_its_pictures_stays_in_sync(tmp_path: Path) -> None:
    source = films.plain(
        "apart.mp4", 12, "-max_interleave_delta", "0", "-chunk_duration", "100000000", "-frag_duration", "0"
    )
    result = make(source, tmp_path)
    first = result.folder / "filmstream_00001.ts"
    assert abs(films.times(first, "v")[-1] - films.times(first, "a")[-1]) < 0.1


@pytest.mark.parametrize(
    ("name", "pictures", "sound", "how"),
    [
        ("late-sound.mp4", (0, 14), (12, 14), ()),
        ("late-sound.mkv", (0, 14), (12, 14), ("-c:a", "libopus")),
        ("short-sound.mp4", (0, 14), (0, 2), ()),
        ("late-pictures.mp4", (12, 14), (0, 14), ()),
        ("short-pictures.mp4", (0, 2), (0, 14), ()),
    ],
)
def test_sound_and_pictures_last_from_the_begin_to_the_end(
    name: str, pictures: tuple[int, int], sound: tuple[int, int], how: tuple[str, ...], tmp_path: Path
) -> None:
    """Players halt where one of the tracks has no media."""
    result = make(films.uneven(name, pictures, sound, *how), tmp_path)
    assert abs(sum(result.durations) - 14) < 0.2 and not result.made.warning
    segments = sorted(result.folder.glob("*.ts"))
    for kind, step in (("v", 1.001), ("a", 0.045)):
        found = [films.times(segment, kind) for segment in segments]
        assert len(found) == 2 and all(found), kind
        moments = [moment for part in found for moment in part]
        assert max(b - a for a, b in pairwise(moments)) < step, kind
        assert moments[-1] - moments[0] > 14 - 1.1, kind


def test_a_pause_of_copied_sound_is_silent(tmp_path: Path) -> None:
    one, two = films.copied("one.ts", films.plain()), films.copied("two.ts", films.plain(), "-output_ts_offset", "6")
    mute = films.copied("mute.ts", films.plain(), "-an", "-output_ts_offset", "3")
    data = one.read_bytes() + mute.read_bytes() + two.read_bytes()
    result = make(films.scratch_file("pause.ts", data), tmp_path)
    moments = films.times(result.folder / "filmstream_00001.ts", "a")
    assert max(b - a for a, b in pairwise(moments)) < 0.045 and moments[-1] - moments[0] > 8.8


def test_the_bitrate_stays_below_the_limit(tmp_path: Path) -> None:
    source = films.silent(
        "noise.mkv", "color=gray:size=320x180:rate=25,noise=alls=100:allf=t", "-c:v", "ffv1", seconds=12
    )
    result = make(source, tmp_path, VodEncoding(18, "ultrafast", 1_000_000, 4))
    assert int(result.attribute("BANDWIDTH") or 0) < 1_400_000


def test_progress_grows_until_the_end(tmp_path: Path) -> None:
    result = make(films.long(), tmp_path)
    assert result.progress == sorted(result.progress)
    assert len(result.progress) > 50 and 0.9 < result.progress[-1] <= 0.99


def test_the_progress_of_a_raw_stream_is_measured_in_bytes(tmp_path: Path) -> None:
    source = films.film("raw.h264", "-i", str(films.long()), "-an", "-c", "copy")
    result = make(source, tmp_path)
    assert int(films.probe(result.master)["video"]["nb_read_frames"]) == 250
    assert result.progress[-1] > 0.8


# ---- invalid and incomplete films ----


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("text.mp4", b"This is text, and not a film.\n", "text"),
        ("empty.mp4", b"", "empty"),
        ("noise.mp4", bytes(range(256)) * 50, "not a readable media file"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "text"),
        ("concat.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n", "text"),
    ],
)
def test_a_file_that_is_not_a_film_gives_a_one_line_reason(name: str, data: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableFilm) as told:
        make(films.scratch_file(name, data), tmp_path)
    assert words in str(told.value) and "\n" not in str(told.value)


def test_a_film_with_longer_captions_is_complete(tmp_path: Path) -> None:
    texts = films.scratch_file("long.srt", b"1\n00:00:01,000 --> 00:00:09,000\nafter the end\n")
    source = films.film(
        "captioned.mkv",
        "-i",
        str(films.plain()),
        "-i",
        str(texts),
        "-map",
        "0",
        "-map",
        "1",
        "-c",
        "copy",
        "-c:s",
        "srt",
    )
    assert abs(sum(make(source, tmp_path).durations) - 3) < 0.2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bytes(range(128, 256)) * 8, "the file is not a readable media file"),
        ("Это не фильм.\n".encode() * 60, "it is text, not media"),
        (b"GIF89a" + bytes(60), "it is a picture, not a film: slates take it as PNG or JPEG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x08meta", "it is a picture, not a film"),
    ],
)
def test_unreadable_files_are_named(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableFilm, match=words):
        make(films.scratch_file(f"{len(words)}-{len(content)}.mp4", content), tmp_path)


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(UnusableFilm, match="it is no regular file"):
        make(tmp_path / "pipe.mp4", tmp_path)


def test_an_encrypted_film_is_named(tmp_path: Path) -> None:
    key = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "76" * 16, "-encryption_kid", "a7" * 16)
    with pytest.raises(UnusableFilm, match="the film is encrypted"):
        make(films.copied("encrypted.mp4", films.plain(), *key), tmp_path)


def test_a_raw_stream_is_no_mp4_with_a_huge_box(tmp_path: Path) -> None:
    """A start code looks like the mark of a box with a size of 64 bits."""
    data = films.film("raw.h264", "-i", str(films.plain()), "-an", "-c", "copy").read_bytes()
    result = make(films.scratch_file("huge.h264", b"\0\0\0\1\x06" + b"\xff" * 11 + data), tmp_path)
    assert int(films.probe(result.master)["video"]["nb_read_frames"]) == 75


def test_an_encrypted_film_in_matroska_is_named(tmp_path: Path) -> None:
    """No program here writes one: the track has a ContentEncKeyID (RFC 9559 §5.1.4.1.31)."""

    def of(name: str, *bodies: bytes) -> bytes:
        return element(bytes.fromhex(name), *bodies)

    encryption = of("5035", of("47E1", b"\5"), of("47E2", b"0123456789abcdef"))
    encodings = of("6D80", of("6240", of("5033", b"\1"), encryption))
    size = of("E0", of("B0", b"\1\x40"), of("BA", b"\xb4"))
    track = of("AE", of("D7", b"\1"), of("73C5", b"\1"), of("83", b"\1"), of("86", b"V_VP9"), size, encodings)
    cluster = of("1F43B675", of("E7", b"\0"), of("A3", b"\x81\0\0\x80" + bytes(40)))
    film = of("1A45DFA3", of("4282", b"webm")) + of("18538067", of("1654AE6B", track), cluster)
    with pytest.raises(UnusableFilm, match="the film is encrypted"):
        make(films.scratch_file("encrypted.webm", film), tmp_path)


def test_a_film_without_its_index_is_reported_as_incomplete(tmp_path: Path) -> None:
    whole = films.plain().read_bytes()
    with pytest.raises(UnusableFilm, match=r"incomplete.*index"):
        make(films.scratch_file("cut.mp4", whole[: len(whole) // 2]), tmp_path)


def begin_of(film: Path, container: str, part: float) -> Path:
    """The first part of a film, whose header still declares all of it."""
    how = ("-movflags", "+faststart") if container == "mp4" else ()
    data = films.copied(f"fast.{container}", film, *how).read_bytes()
    return films.scratch_file(f"{part}.{container}", data[: round(len(data) * part)])


@pytest.mark.parametrize("seconds", [1, 3])
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_an_incomplete_film_is_an_error_without_partial_output(container: str, seconds: int, tmp_path: Path) -> None:
    with pytest.raises(UnusableFilm, match=rf"incomplete: .* s of {seconds}\.0 s"):
        make(begin_of(films.plain(seconds=seconds), container, 0.6), tmp_path)


def test_segments_of_a_stream_that_began_earlier_are_a_whole_film(tmp_path: Path) -> None:
    """The times of fragments go on from the begin of the stream, and libav counts the duration from there."""
    how = ("-f", "hls", "-hls_segment_type", "fmp4", "-hls_time", "1", "-hls_list_size", "0")
    parts = films.film(
        "parts.m3u8", "-i", str(films.long()), "-c:v", "libx264", "-g", "10", "-c:a", "copy", *how
    ).parent
    saved = [parts / "init.mp4", *(parts / f"parts{n}.m4s" for n in range(12, 15))]
    film = films.scratch_file("saved.mp4", b"".join(part.read_bytes() for part in saved))
    result = make(film, tmp_path)
    assert not result.made.warning
    assert abs(sum(result.durations) - 3) < 0.4


def test_a_film_without_its_last_half_second_is_made_with_a_warning(tmp_path: Path) -> None:
    made = make(begin_of(films.long(), "mp4", 0.98), tmp_path).made
    assert re.fullmatch(r"(damaged packets: 1; )?the last 0\.\d s are missing", made.warning)


def test_pictures_that_have_the_times_of_others_are_counted_in_a_warning(tmp_path: Path) -> None:
    assert make(films.twice(), tmp_path).made.warning == films.LEFT_OUT


@pytest.mark.parametrize("codec", [("copy",), ("libopus", "-b:a", "96k")])
def test_sound_with_too_close_times_is_named(codec: tuple[str, ...], tmp_path: Path) -> None:
    source = films.film(
        "close.mkv", "-i", str(films.plain()), "-c:v", "copy", "-c:a", *codec, "-bsf:a", "setts=ts=TS/2"
    )
    made = make(source, tmp_path).made
    assert re.fullmatch(r"the sound lasts 1\.\d s, but its samples 3\.\d s: its times are too close", made.warning)


@pytest.mark.parametrize("codec", [b"A_XYZ", b"A_DTS"])
def test_sound_that_cannot_be_decoded_is_named(codec: bytes, tmp_path: Path) -> None:
    """The file names an unknown codec, or another one than that of its sound."""
    data = films.copied("plain.mkv", films.plain()).read_bytes()
    made = make(films.scratch_file(f"{codec.decode()}.mkv", data.replace(b"A_AAC", codec)), tmp_path).made
    assert made.warning == "its sound is left out: it cannot be decoded"


def test_tracks_that_are_left_out_are_counted_in_a_warning(tmp_path: Path) -> None:
    """Of the second sound, of pictures of another camera, and of subtitles that are pictures, as on a Blu-ray."""
    words = films.scratch_file("words.srt", b"1\n00:00:00,100 --> 00:00:00,900\nfirst\n")
    tracks = ("-map", "0", "-map", "0", "-map", "1", "-map", "1")
    data = films.film("tracks.mkv", "-i", str(films.plain()), "-i", str(words), *tracks, "-c", "copy", "-c:s", "srt")
    data = data.read_bytes().replace(b"S_TEXT/UTF8", b"S_HDMV/PGS\0", 1)
    made = make(films.scratch_file("tracks-pgs.mkv", data), tmp_path).made
    assert made.warning == "tracks are left out: 1 with pictures, 1 with sound, 1 with subtitles that are not text"
    assert len(made.captions) == 1


def test_a_film_with_pictures_of_an_unknown_codec_does_not_become_a_song(tmp_path: Path) -> None:
    data = films.copied("plain.mkv", films.plain()).read_bytes()
    with pytest.raises(UnusableFilm, match="no picture of the file can be decoded"):
        make(films.scratch_file("unknown.mkv", data.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/AVC")), tmp_path)


def test_damage_in_the_middle_removes_only_the_damaged_part(tmp_path: Path) -> None:
    source = films.copied("long.ts", films.long())
    data = bytearray(source.read_bytes())
    middle = len(data) // 2 // 188 * 188
    data[middle : middle + 188 * 40] = os.urandom(188 * 40)
    result = make(films.scratch_file("damaged.ts", bytes(data)), tmp_path)
    assert int(films.probe(result.master)["video"]["nb_read_frames"]) > 220
    assert abs(sum(result.durations) - 25) < 1
    assert re.fullmatch(r"damaged packets: \d+", result.made.warning)


def test_a_jump_in_time_causes_no_gap_and_sound_stays_in_sync(tmp_path: Path) -> None:
    """Two recordings follow in one transport stream, and the clock jumps by an hour."""
    one = films.copied("part1.ts", films.plain())
    two = films.copied("part2.ts", films.plain(), "-output_ts_offset", "3600")
    both = films.scratch_file("jump.ts", one.read_bytes() + two.read_bytes())
    result = make(both, tmp_path)
    assert abs(sum(result.durations) - 6) < 0.3
    first = result.folder / "filmstream_00001.ts"
    pictures, sounds = films.times(first, "v"), films.times(first, "a")
    assert max(b - a for a, b in pairwise(pictures)) < 0.2
    assert abs(pictures[-1] - sounds[-1]) < 0.2


def joined(folder: Path, *parts: Path) -> bytes:
    """The MP4 of a trim over two pushes, in which the sound of each has its own sample entry."""
    media = io.BytesIO()
    joiner = Joiner(media, 1e9, 1e9 + 60)
    for n, part in enumerate(parts):
        segment = Result(part, folder / f"{n}").folder / "filmstream_00001.ts"
        reader = TsReader()
        joiner.begin_piece(1e9 + 3 * n, False)
        joiner.add(reader.receive(segment.read_bytes()) + reader.finish(), reader.has_video)
    head = joiner.finish()
    assert head is not None
    return head.data + media.getvalue()


@pytest.mark.parametrize("container", ["ts", "mp4"])
@pytest.mark.parametrize(("name", "how"), [("rate", ("-ar", "44100")), ("surround", ("-ac", "6"))])
def test_sound_that_changes_keeps_the_first_rate_and_channels(
    name: str, how: tuple[str, ...], container: str, tmp_path: Path
) -> None:
    one = films.copied("tone.ts", tone("-c:a", "aac"))
    two = films.copied(f"{name}.ts", tone(*how, "-c:a", "aac", name=f"{name}.mp4"), "-output_ts_offset", "3")
    data = joined(tmp_path, one, two) if container == "mp4" else one.read_bytes() + two.read_bytes()
    result = make(films.scratch_file(f"{name}.{container}", data), tmp_path)
    heard = subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", str(result.master), "-f", "s16le", "-ac", "1", "-"],
        check=True, capture_output=True,
    )  # fmt: skip
    assert heard.stderr == b""
    samples = memoryview(heard.stdout).cast("h")
    assert abs(len(samples) / 48_000 - 6) < 0.2
    for second in (1, 4):  # a tone of 1,000 Hz passes zero 2,000 times a second
        part = samples[second * 48_000 : (second + 1) * 48_000]
        assert abs(sum((a < 0) != (b < 0) for a, b in pairwise(part)) - 2_000) < 20, second


def test_pictures_that_change_size_are_scaled_to_the_first_size(tmp_path: Path) -> None:
    one = films.copied("small.ts", films.plain())
    two = films.film("large.ts", "-i", str(films.plain()), "-vf", "scale=640:480", *films.H264, "-c:a", "copy",
                     "-output_ts_offset", "3")  # fmt: skip
    result = make(films.scratch_file("sizes.ts", one.read_bytes() + two.read_bytes()), tmp_path)
    told = films.probe(result.master)["video"]
    assert (told["width"], told["height"]) == (320, 180)
    assert int(told["nb_read_frames"]) > 140


FAR = ("-vf", "setpts=N*3590/TB", "-fps_mode", "passthrough", "-enc_time_base", "1/1000", *films.H264, "-bf", "0")


def far(name: str, pictures: int, *how: str) -> Path:
    """Creates a small file with pictures an hour apart, which lasts many hours."""
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=1", "-frames:v", str(pictures))
    return films.film(name, *picture, *FAR, "-g", str(pictures), "-f", "matroska", *how)


def test_a_film_with_a_too_long_declared_duration_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        UnusableFilm, match=r"it says that it lasts 398\.[0-9] h: at most 24\.0 h .*\(vod\.film_seconds\)"
    ):
        make(far("far.mkv", 401), tmp_path, bounds=Bounds(film_seconds=86_400))
    assert list((tmp_path / "made").iterdir()) == []


def test_a_film_without_a_declared_duration_ends_at_the_limit(tmp_path: Path) -> None:
    source = films.copied("far-live.mkv", far("far-short.mkv", 4), "-f", "matroska", "-live", "1")
    with pytest.raises(UnusableFilm, match=r"it lasts longer than 30 min \(vod\.film_seconds\)"):
        make(source, tmp_path, bounds=Bounds(film_seconds=1800))
    assert len(list((tmp_path / "made").glob("*.ts"))) <= 181


def test_the_duration_limit_also_applies_to_sound_only(tmp_path: Path) -> None:
    song = films.film("song.adts", "-f", "lavfi", "-i", films.SOUND, "-t", "8", "-c:a", "aac", "-f", "adts")
    with pytest.raises(UnusableFilm, match=r"vod\.film_seconds"):
        make(song, tmp_path, bounds=Bounds(film_seconds=5))


def test_the_output_size_is_limited_by_the_size_of_the_film(tmp_path: Path) -> None:
    source = far("far-short.mkv", 4)
    bounds = Bounds(output_ratio=10, output_bytes=100_000)
    limit = max(100_000, 10 * source.stat().st_size)
    with pytest.raises(UnusableFilm, match=rf"more than {limit} bytes would be made of it"):
        make(source, tmp_path, bounds=bounds)
    assert sum(path.stat().st_size for path in (tmp_path / "made").iterdir()) <= limit + 50_000  # the poster


def test_the_finished_duration_is_reported_while_working(tmp_path: Path) -> None:
    result = make(films.long(), tmp_path, bounds=Bounds(86_400, 30, 500_000_000, 60))
    assert result.seconds == sorted(result.seconds) and result.seconds[-1] > 22
