"""Real elementary streams for tests of writers. ffmpeg creates them, and PyAV extracts the packets."""

from __future__ import annotations

import functools
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from gateway.media.track import Codec, Kind, MediaTrack
from tests.support.media import VP8, VP9, made_once, quick_ffmpeg
from tests.support.time_outs import at_most
from tests.support.tools import need

_PICTURE = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=30", "-t", "2", "-pix_fmt", "yuv420p"]
_TONE = ["-f", "lavfi", "-i", "sine=frequency=440:beep_factor=4:sample_rate=48000", "-t", "2"]
_X264 = [*_PICTURE, "-c:v", "libx264", "-preset", "veryfast", "-g", "15", "-sc_threshold", "0", "-threads", "1"]

# name → (codec, container, ffmpeg arguments)
RECIPES: dict[str, tuple[Codec, str, list[str]]] = {
    "h264": (Codec.H264, "mp4", [*_X264, "-bf", "0"]),
    "h264-b": (Codec.H264, "mp4", [*_X264, "-bf", "3"]),
    "h264-aud": (Codec.H264, "mp4", [*_X264, "-bf", "0", "-x264-params", "aud=1:slices=3"]),
    "h264-5fps": (Codec.H264, "mp4", [*_X264, "-bf", "0", "-r", "5"]),
    "h265": (Codec.H265, "mp4", [*_PICTURE, "-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1", "-g", "15",
                                 "-x265-params", "log-level=error:pools=1:bframes=3"]),
    "av1": (Codec.AV1, "mp4", [*_PICTURE, "-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-g", "15",
                               "-threads", "1"]),
    # Hidden frames: temporal units of up to five OBUs.
    "av1-hidden": (Codec.AV1, "mp4", [*_PICTURE, "-c:v", "libaom-av1", "-cpu-used", "8", "-lag-in-frames", "25",
                                      "-g", "60", "-threads", "1"]),
    "vp9": (Codec.VP9, "mp4", [*_PICTURE, *VP9, "-g", "15"]),
    "vp8": (Codec.VP8, "webm", [*_PICTURE, *VP8, "-g", "15"]),
    "aac": (Codec.AAC, "mp4", [*_TONE, "-c:a", "aac", "-ac", "2"]),
    "aac-mono": (Codec.AAC, "mp4", [*_TONE, "-c:a", "aac", "-ac", "1", "-ar", "44100"]),
    "opus": (Codec.OPUS, "mp4", [*_TONE, "-c:a", "libopus", "-ac", "2"]),
    "mp3": (Codec.MP3, "mp4", [*_TONE, "-c:a", "libmp3lame", "-ac", "2"]),
    "mp3-low": (Codec.MP3, "mp3", [*_TONE, "-c:a", "libmp3lame", "-ac", "1", "-ar", "22050", "-write_xing", "0",
                                   "-id3v2_version", "0"]),
    "flac": (Codec.FLAC, "mp4", [*_TONE, "-c:a", "flac", "-strict", "-2"]),
    "ac3": (Codec.AC3, "mp4", [*_TONE, "-c:a", "ac3", "-ac", "2"]),
    "eac3": (Codec.EAC3, "mp4", [*_TONE, "-c:a", "eac3", "-ac", "2"]),
}  # fmt: skip


@dataclass(frozen=True)
class Take:
    """One packet. Its decode time and composition offset are in ticks of the track."""

    dts: int
    cts: int
    key: bool
    payload: bytes


@dataclass(frozen=True)
class Elementary:
    """A track and its packets; decode times start at 0."""

    path: Path
    track: MediaTrack
    takes: list[Take]


@functools.cache
def elementary(name: str) -> Elementary:
    """The stream of this recipe, created once."""
    need("ffmpeg", "ffprobe")
    codec, container, arguments = RECIPES[name]
    path = made_once(container, ["ffmpeg", *arguments, "-f", container])
    with av.open(str(path)) as film:
        stream = film.streams[0]
        kind = Kind.VIDEO if stream.type == "video" else Kind.AUDIO
        packets = [(p.dts, p.pts, p) for p in film.demux(stream) if p.dts is not None and p.pts is not None and p.size]
        base = stream.time_base
        assert base is not None
        assert base.numerator == 1
        config = bytes(stream.codec_context.extradata or b"") if codec is not Codec.MP3 else b""
        first = packets[0][0]
        takes = [Take(dts - first, pts - dts, p.is_keyframe, bytes(p)) for dts, pts, p in packets]
    return Elementary(path, MediaTrack(kind, codec, base.denominator, config), takes)


@dataclass(frozen=True)
class Played:
    """The frames that a reader finds in a file, in presentation order: (seconds since the first, MD5)."""

    pictures: list[tuple[float, str]]
    sounds: list[tuple[float, str]]
    first_picture: float
    first_sound: float


def played(path: Path, *, packets: bool = False) -> Played:
    """Decodes `path` with ffmpeg, which must not warn, and hashes each frame. packets: copies without decoding."""
    codecs = ["-c", "copy"] if packets else []
    done = subprocess.run(
        [quick_ffmpeg(), "-nostdin", "-v", "warning", "-i", str(path), *codecs, "-fps_mode", "passthrough", "-copyts",
         "-f", "framemd5", "-"],
        capture_output=True, timeout=at_most(60), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr.strip(), done.stderr.decode()
    scales: dict[str, Fraction] = {}
    kinds: dict[str, str] = {}
    found: dict[str, list[tuple[Fraction, str]]] = {"video": [], "audio": []}
    for line in done.stdout.decode().splitlines():
        if line.startswith("#tb "):
            index, scale = line.removeprefix("#tb ").split(": ")
            scales[index] = Fraction(scale)
        elif line.startswith("#media_type "):
            index, kind = line.removeprefix("#media_type ").split(": ")
            kinds[index] = kind
        elif not line.startswith("#"):
            fields = [f.strip() for f in line.split(",")]
            found[kinds[fields[0]]].append((int(fields[2]) * scales[fields[0]], fields[5]))

    def rebased(frames: list[tuple[Fraction, str]]) -> tuple[list[tuple[float, str]], float]:
        first = frames[0][0] if frames else Fraction(0)
        return [(float(time - first), digest) for time, digest in frames], float(first)

    pictures, first_picture = rebased(sorted(found["video"]))
    sounds, first_sound = rebased(sorted(found["audio"]))
    return Played(pictures, sounds, first_picture, first_sound)


def assert_same(got: list[tuple[float, str]], wanted: list[tuple[float, str]], *, within: float) -> None:
    """Asserts the same frames in the same order, with relative times that differ by at most `within` seconds."""
    assert [digest for _, digest in got] == [digest for _, digest in wanted]
    worst = max(abs(a - b) for (a, _), (b, _) in zip(got, wanted, strict=True))
    assert worst <= within, f"{worst} s off"
