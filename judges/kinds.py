"""Kinds of streams that the judges see: what is in each, and how it is pushed."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from judges.processes import Processes

LENGTH_SECONDS = 100
# Eight players come one after the other, some of them twice.
BROWSER_SECONDS = 260
ENCODE_SECONDS = 300.0
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-sc_threshold", "0", "-b:v", "400k")
FRAMES = ("-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0", "-bf", "3", "-b:v", "400k")
AAC = ("-c:a", "aac", "-b:a", "96k", "-ac", "2")


@dataclass(frozen=True)
class Recipe:
    """What ffmpeg makes: one FLV file. size and rate: of a test picture, empty: none; filters: behind it."""

    size: str = "320x180"
    rate: str = "30"
    filters: str = ""
    video: tuple[str, ...] = (*X264, "-g", "60")
    audio: tuple[str, ...] = AAC
    sample_rate: int = 48000
    seconds: int = LENGTH_SECONDS

    def command(self, ffmpeg: str, path: Path) -> list[str]:
        """The ffmpeg command that makes the file."""
        command = [ffmpeg, "-nostdin", "-v", "error", "-y"]
        if self.size:
            picture = f"testsrc2=size={self.size}:rate={self.rate}{',' if self.filters else ''}{self.filters}"
            command += ["-f", "lavfi", "-i", picture]
        if self.audio:
            # Noise, so that no two coded frames of sound are alike.
            command += ["-f", "lavfi", "-i", f"anoisesrc=amplitude=0.2:sample_rate={self.sample_rate}:seed=7"]
        command += ["-t", str(self.seconds), "-pix_fmt", "yuv420p"]
        command += [*(self.video if self.size else ()), *self.audio]
        return [*command, "-f", "flv", str(path)]


@dataclass(frozen=True)
class Kind:
    """One kind of stream. recipes: played one after the other in one push.

    fields: of its channel. pushes: seconds of each push, 0: to the end of the judgement; a killed push is followed by
    the next one after `pause` seconds. exact: its frames can be compared with the source's. codec: h264, hevc, av1 or
    none. pixel_aspect: of pixels that are not square. long_gops: longer than the target, so that some segments cannot
    begin with a key frame. window: seconds of pushing until there are some segments. change: of the bodies, see
    `judges.unusual`; "": ffmpeg pushes.
    """

    name: str
    recipes: tuple[Recipe, ...]
    fields: dict[str, Any] = field(default_factory=dict)
    pushes: tuple[int, ...] = (0,)
    pause: float = 0.0
    codec: str = "h264"
    audio: bool = True
    exact: bool = True
    pixel_aspect: tuple[int, int] | None = None
    browser: bool = False
    long_gops: bool = False
    window: float = 10.0
    change: str = ""

    @property
    def video(self) -> bool:
        return self.codec != "none"

    @property
    def ends(self) -> bool:
        return 0 not in self.pushes


def _x265(parameters: str = "") -> tuple[str, ...]:
    # x265's own defaults: open GOPs, three to four B-frames.
    words = ":".join(filter(None, ("log-level=error:pools=1:frame-threads=1", parameters)))
    return ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", words, "-b:v", "400k", "-g", "60")


KINDS = (
    Kind("ordinary", (Recipe(seconds=BROWSER_SECONDS),), browser=True),
    Kind("fps-25", (Recipe(rate="25", video=(*X264, "-g", "50")),)),
    Kind("fps-29.97", (Recipe(rate="30000/1001"),)),
    Kind("fps-60", (Recipe(rate="60", video=(*X264, "-g", "120")),)),
    Kind("b-frames", (Recipe(video=(*FRAMES, "-g", "60")),)),
    Kind("open-gop", (Recipe(video=(*FRAMES, "-g", "30", "-x264-params", "open-gop=1"),
                             seconds=BROWSER_SECONDS),), browser=True),
    Kind("irregular-gop", (Recipe(
        video=(*X264, "-g", "900", "-force_key_frames", "expr:gt(t,if(isnan(prev_forced_t),-1,prev_forced_t+"
               "1+3*mod(floor(prev_forced_t*7),3)/2))"),
    ),), long_gops=True),
    Kind("long-gop", (Recipe(video=(*X264, "-g", "600")),), long_gops=True, window=42.0),
    Kind("hevc", (Recipe(video=_x265()),), codec="hevc"),
    Kind("hevc-closed", (Recipe(video=_x265("open-gop=0:bframes=0")),), codec="hevc"),
    Kind("av1", (Recipe(video=("-c:v", "libsvtav1", "-preset", "12", "-g", "60", "-svtav1-params",
                               "pred-struct=1:lp=1:rc=2", "-b:v", "400k")),), codec="av1"),
    Kind("mono-44100", (Recipe(audio=("-c:a", "aac", "-b:a", "64k", "-ac", "1"), sample_rate=44100),)),
    Kind("audio-only", (Recipe(size=""),), codec="none"),
    Kind("video-only", (Recipe(audio=()),), audio=False),
    Kind("portrait", (Recipe(size="180x320"),)),
    Kind("pixel-aspect", (Recipe(size="352x288", filters="setsar=16/11"),), pixel_aspect=(16, 11)),
    Kind("size-change", (Recipe(seconds=25), Recipe(size="480x270", seconds=LENGTH_SECONDS - 25))),
    Kind("ended", (Recipe(),), pushes=(20,)),
    Kind("resumed", (Recipe(),), pushes=(18, 0), pause=3.0, exact=False),
    Kind("ladder", (Recipe(size="640x360"),), fields={"isCodec": True, "ld": True}),
    Kind("captions", (Recipe(),), fields={"captions": [{"source": "text", "language": "en", "default": True}]}),
    # What encoders send against the specifications.
    *(Kind(name, (Recipe(),), change=name) for name in ("start-codes", "empty-units", "unmarked-keys", "adts")),
    *(Kind(name, (Recipe(),), change=name, exact=False) for name in ("own-sei", "sound-pauses", "sound-first")),
    Kind("kinesis", (Recipe(video=(*FRAMES, "-g", "60")),), fields={"isKvs": True, "kvsStream": "judged"}),
)  # fmt: skip


def source(kind: Kind, folder: Path, ffmpeg: str, processes: Processes) -> Path:
    """The kind's FLV file; made on first use and kept under the hash of its recipes. Raises OSError."""
    made = [_made(recipe, folder, ffmpeg, processes) for recipe in kind.recipes]
    if len(made) == 1:
        return made[0]
    path = folder / f"{kind.name}-{'-'.join(one.stem for one in made)}.flv"
    if not path.exists():
        path.write_bytes(spliced([one.read_bytes() for one in made]))
    return path


def _made(recipe: Recipe, folder: Path, ffmpeg: str, processes: Processes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(json.dumps(recipe.command("", Path())).encode()).hexdigest()[:16]
    path = folder / f"{digest}.flv"
    if not path.exists():
        unfinished = path.with_suffix(".part")
        try:
            done = processes.run(recipe.command(ffmpeg, unfinished), ENCODE_SECONDS)
        except subprocess.TimeoutExpired:
            raise OSError(f"ffmpeg needs more than {ENCODE_SECONDS:.0f} s") from None
        if done.returncode:
            raise OSError(f"ffmpeg: {done.stderr.strip()[-300:]}")
        unfinished.rename(path)
    return path


def spliced(files: list[bytes]) -> bytes:
    """One FLV of several: the tags of each, in time behind those before, without the script data of later ones."""
    out, shift = bytearray(files[0][:13]), 0
    for index, data in enumerate(files):
        at, latest = 13, 0
        while at + 15 <= len(data):
            size = int.from_bytes(data[at + 1 : at + 4], "big")
            time = int.from_bytes(data[at + 4 : at + 7], "big") | data[at + 7] << 24
            latest = max(latest, time)
            if index == 0 or data[at] != 18:
                moved = struct.pack(">I", time + shift)
                out += data[at : at + 4] + moved[1:] + moved[:1] + data[at + 8 : at + 15 + size]
            at += 15 + size
        shift += latest + 33
    return bytes(out)
