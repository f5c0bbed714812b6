"""Test films, made once per run, and hashes that identify their frames in any output."""

import fcntl
import functools
import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.run_folder import run_folder
from tests.support.time_outs import at_most

FRAMES_PER_SECOND = 30
# With several threads, libvpx needs ten times the processor time for small pictures.
_VPX = ("-deadline", "realtime", "-cpu-used", "8", "-threads", "1")
VP8 = ("-c:v", "libvpx", *_VPX)
VP9 = ("-c:v", "libvpx-vp9", *_VPX)


@dataclass(frozen=True)
class Film:
    """A recipe for a film: its content and encoding. `path()` creates it on first use."""

    name: str
    seconds: int = 40
    video: str | None = "libx264"
    audio: str | None = "aac"
    bframes: int = 0
    gop: int = FRAMES_PER_SECOND
    size: str = "320x180"
    rate: int = FRAMES_PER_SECOND
    container: str = "flv"
    ffmpeg: str = "ffmpeg"

    def arguments(self) -> list[str]:
        """The ffmpeg arguments that make the film, without program and output."""
        command: list[str] = []
        if self.video:
            command += ["-f", "lavfi", "-i", f"testsrc2=size={self.size}:rate={self.rate}"]
        if self.audio:
            # Noise, so that all coded audio frames differ.
            command += ["-f", "lavfi", "-i", "anoisesrc=amplitude=0.2:sample_rate=48000:seed=7"]
        command += ["-t", str(self.seconds)]
        if self.video:
            command += ["-c:v", self.video, "-pix_fmt", "yuv420p", "-g", str(self.gop)]
        if self.video == "libx264":
            # The tools of the High profile, with the cheapest search.
            command += ["-preset", "ultrafast", "-coder", "cabac", "-x264-params", "8x8dct=1:weightp=1:deblock=0,0"]
            command += ["-keyint_min", str(self.gop), "-sc_threshold", "0"]
            command += ["-bf", str(self.bframes), "-b:v", "400k"]
        elif self.video == "libx265":
            command += ["-preset", "ultrafast", "-x265-params", "log-level=error:scenecut=0:bframes=0:open-gop=0"]
        elif self.video == "libvpx-vp9":
            command += VP9[2:]
        elif self.video == "libsvtav1":
            command += ["-preset", "12", "-svtav1-params", "pred-struct=1"]
        if self.audio:
            command += ["-c:a", self.audio, "-b:a", "96k", "-ac", "2"]
        if self.audio == "aac":
            command += ["-aac_coder", "fast"]
        return command

    def path(self) -> Path:
        """The film's file, created on first use."""
        return _make(self)

    def hashes(self) -> "Take":
        """The frames of the film, which every client must receive."""
        return _source(self)


@functools.cache
def _make(film: Film) -> Path:
    return made_once(film.container, [film.ffmpeg, *film.arguments(), "-f", film.container])


@functools.cache
def _source(film: Film) -> "Take":
    return parse_framehash(made_once("framehash", framehash_command(film.path(), ffmpeg=film.ffmpeg)[:-1]).read_text())


def quick_ffmpeg() -> str:
    """Returns the ffmpeg of imageio-ffmpeg. It loads no libraries: its start costs a fifth of that of a system's."""
    import imageio_ffmpeg  # type: ignore[import-untyped]

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def made_once(suffix: str, command: Sequence[str]) -> Path:
    """Returns the output file of an ffmpeg command, created once per run. command: without the output.

    An `ffmpeg` that no test names otherwise is `quick_ffmpeg`.
    """
    program = quick_ffmpeg() if command[0] == "ffmpeg" else command[0]
    path = run_folder() / f"{hashlib.sha256(repr(command).encode()).hexdigest()[:16]}.{suffix}"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            part = path.with_suffix(".part")
            subprocess.run(
                [program, *command[1:], "-nostdin", "-v", "error", "-y", str(part)], check=True, timeout=at_most(180)
            )
            part.rename(path)
    return path


PLAIN = Film("plain")
BFRAMES = Film("bframes", bframes=3)
AUDIO_ONLY = Film("audio-only", video=None)
VIDEO_ONLY = Film("video-only", audio=None)
# For pages that only have to show a moving picture: a browser needs half the CPU of 640 × 360 at 30 pictures a second.
SMALL = Film("small", rate=15, gop=15)
SMALL_BFRAMES = Film("small-bframes", rate=15, gop=15, bframes=2)


@dataclass(frozen=True)
class Frame:
    """One picture (hash of the decoded one) or audio packet (hash of the coded one), and its presentation time."""

    digest: str
    time: float


@dataclass(frozen=True)
class Take:
    """The frames that one client received, in order."""

    video: list[Frame] = field(default_factory=list)
    audio: list[Frame] = field(default_factory=list)


def analysis(source: str | Path) -> tuple[str, ...]:
    """Options with which ffmpeg and ffprobe read one second of a live transport stream, not five, before they begin."""
    return ("-analyzeduration", "1000000") if str(source).startswith("srt:") else ()


def framehash_command(
    source: str | Path, *, ffmpeg: str = "ffmpeg", seconds: float | None = None, before: Sequence[str] = ()
) -> list[str]:
    """The ffmpeg command that hashes `source`: decoded pictures, and audio packets without ADTS headers.

    Pictures keep their own size when a player changes the rendition.
    """
    return [
        *(ffmpeg, "-nostdin", "-v", "error", *analysis(source), *before, "-i", str(source)),
        *(("-t", str(seconds)) if seconds else ()),
        *("-map", "0:v:0?", "-map", "0:a:0?", "-c:v", "rawvideo", "-pix_fmt", "yuv420p", "-fps_mode", "passthrough"),
        "-noautoscale",
        *("-c:a", "copy", "-bsf:a", "aac_adtstoasc", "-f", "framehash", "-hash", "md5", "-"),
    ]


def parse_framehash(text: str) -> Take:
    """Parses the output of ffmpeg's framehash muxer, by kind of stream."""
    kinds: dict[str, str] = {}
    base: dict[str, float] = {}
    take = Take()
    for line in text.splitlines():
        if line.startswith("#tb "):
            index, fraction = line.removeprefix("#tb ").split(": ")
            numerator, denominator = fraction.split("/")
            base[index] = int(numerator) / int(denominator)
        elif line.startswith("#media_type "):
            index, kind = line.removeprefix("#media_type ").split(": ")
            kinds[index] = kind
        elif line and not line.startswith("#"):
            parts = [part.strip() for part in line.split(",")]
            if len(parts) < 6 or parts[0] not in base:
                continue
            frame = Frame(parts[5], int(parts[2]) * base[parts[0]])
            (take.video if kinds.get(parts[0]) == "video" else take.audio).append(frame)
    return take


def excerpt(take: list[str], source: list[str], *, least: int) -> int:
    """Asserts that `take` is a continuous part of `source` with at least `least` frames. Returns its start."""
    assert len(take) >= least, f"only {len(take)} frames arrived, {least} were wanted"
    assert take[0] in source, "the first frame that arrived is none of the source's"
    start = source.index(take[0])
    expected = source[start : start + len(take)]
    if take == expected:
        return start
    at = next((i for i, (got, want) in enumerate(zip(take, expected, strict=False)) if got != want), len(expected))
    was = f"source frame {source.index(take[at])}" if take[at] in source else "none of the source's"
    raise AssertionError(f"frame {at} of {len(take)} is not source frame {start + at} but {was}")


def without_gap(take: list[Frame], source: list[Frame], step: int) -> list[Frame]:
    """Returns `source` without the frames that `take` misses where its stream moved to another node.

    step: the stream continues at a multiple of this number of frames, its key frames. At most one second may be
    missing.
    """
    digests = [frame.digest for frame in source]
    start = digests.index(take[0].digest)
    at = next((i for i, (got, want) in enumerate(zip(take, digests[start:], strict=False)) if got.digest != want), None)
    if at is None or take[at].digest not in digests:
        return source
    on = digests.index(take[at].digest)
    gap = source[on].time - source[start + at].time
    return source[: start + at] + source[on:] if 0 < gap <= 1 and on % step == 0 else source


def judge(
    take: Take, film: Film, *, least: float = 2.0, slack: float = 0.045, cut: bool = False, moved: bool = False
) -> None:
    """Asserts that a client received the film: every frame, in order, on time, with sound and picture in sync.

    least: required seconds of each kind. slack: allowed error of a time in seconds; TS and CMAF derive audio times from
    sample counts and resynchronise above 40 ms. cut: the take ends between B-frames; pictures after a missing one are
    not judged. moved: the stream moved once to another node. That node starts with its last key frame, so frames before
    may be missing.
    """
    source = film.hashes()
    if cut and film.bframes:
        take = Take(take.video[: -film.bframes - 1], take.audio)
    offsets = []
    for kind, got, want, per_second in (
        ("video", take.video, source.video, FRAMES_PER_SECOND),
        ("audio", take.audio, source.audio, 48000 / 1024),
    ):
        if not want:
            assert not got, f"{len(got)} {kind} frames came of a film that has none"
            continue
        if moved:
            want = without_gap(got, want, film.gop if kind == "video" else 1)
        at = excerpt([f.digest for f in got], [f.digest for f in want], least=int(least * per_second))
        drift = [g.time - w.time for g, w in zip(got, want[at:], strict=False)]
        assert max(drift) - min(drift) <= 2 * slack, f"{kind} runs {min(drift):.3f} to {max(drift):.3f} s off"
        offsets.append(sum(drift) / len(drift))
    if len(offsets) == 2:
        assert abs(offsets[0] - offsets[1]) <= slack, f"picture and sound are {offsets[0] - offsets[1]:+.3f} s apart"
