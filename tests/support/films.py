"""Unusual films as users upload them, made by ffmpeg once per run, and ffprobe's description of results."""

import atexit
import fcntl
import functools
import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.support.media import quick_ffmpeg
from tests.support.run_folder import run_folder
from tests.support.time_outs import at_most
from tests.support.tools import need

_folder = Path(tempfile.mkdtemp(prefix="millrace-odd-films-"))
atexit.register(shutil.rmtree, _folder, ignore_errors=True)

PICTURE = "testsrc2=size=320x180:rate=25"
SOUND = "anoisesrc=amplitude=0.2:sample_rate=48000:seed=7"
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


@functools.cache
def film(name: str, *arguments: str) -> Path:
    """Creates `name` with `ffmpeg <arguments>` once per run; skips the test without ffmpeg."""
    need("ffmpeg", "ffprobe")
    folder = run_folder() / f"film-{hashlib.sha256(repr((name, arguments)).encode()).hexdigest()[:16]}"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            part = Path(tempfile.mkdtemp(dir=folder.parent))
            command = [quick_ffmpeg(), "-nostdin", "-v", "error", "-y", *arguments, str(part / name)]
            subprocess.run(command, check=True, timeout=at_most(180))
            part.rename(folder)
    return folder / name


def long() -> Path:
    """A film of 25 seconds: 250 small pictures, and AAC sound."""
    picture = "testsrc2=size=160x90:rate=10"
    return film("long.mp4", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", SOUND, "-t", "25", *H264, "-c:a", "aac")


def plain(name: str = "plain.mp4", seconds: float = 3, *more: str) -> Path:
    """A film with pictures and AAC sound."""
    return film(
        name, "-f", "lavfi", "-i", PICTURE, "-f", "lavfi", "-i", SOUND, "-t", str(seconds), *H264, "-c:a", "aac", *more
    )


def uneven(name: str, pictures: tuple[int, int], sound: tuple[int, int], *how: str) -> Path:
    """A small film whose tracks do not last equally long.

    pictures, sound: seconds of their begin and end. how: the coding of the sound.
    """
    small = f"testsrc2=size=160x90:rate=10:duration={pictures[1] - pictures[0]}"
    tone = f"sine=440:sample_rate=48000:duration={sound[1] - sound[0]}"
    return film(
        name, "-itsoffset", str(pictures[0]), "-f", "lavfi", "-i", small, "-itsoffset", str(sound[0]), "-f", "lavfi",
        "-i", tone, *H264, *(how or ("-c:a", "aac")),
    )  # fmt: skip


def silent(name: str, picture: str, *how: str, seconds: float = 3) -> Path:
    """A film with pictures only, from a libavfilter source."""
    return film(name, "-f", "lavfi", "-i", picture, "-t", str(seconds), *(how or H264))


def copied(name: str, source: Path, *how: str) -> Path:
    """The streams of another film in another container."""
    return film(name, "-i", str(source), "-c", "copy", *how)


def own_order(surround: Path) -> Path:
    """A QuickTime film of 5.1 that lists its channels as L, R, Ls, Rs, C, LFE (MPEG_5_1_B of Core Audio)."""
    data = bytearray(surround.read_bytes())
    tag = data.index(b"chan") + 8
    data[tag : tag + 4] = bytes.fromhex("007a0006")
    return scratch_file(f"own-{surround.name}", bytes(data))


def scratch_file(name: str, data: bytes) -> Path:
    """A file that is no film, or a part of one."""
    path = _folder / name
    path.write_bytes(data)
    return path


LEFT_OUT = "37 of 75 pictures are left out: their times repeat or go back"


def twice() -> Path:
    """A film in which two pictures have each time."""
    return copied("twice.mkv", plain(), "-an", "-bsf:v", "setts=ts=floor(N/2)*80:time_base=1/1000")


def probe(path: Path | str, *, count: bool = True) -> dict[str, Any]:
    """ffprobe's format, and the streams of the first program by kind."""
    command = [
        "ffprobe",
        "-v",
        "error",
        "-show_streams",
        "-show_format",
        "-of",
        "json",
        *(("-count_frames",) if count else ()),
    ]
    told = json.loads(
        subprocess.run([*command, str(path)], check=True, capture_output=True, timeout=at_most(60)).stdout
    )
    kinds: dict[str, Any] = {"format": told["format"]}
    for stream in told["streams"]:
        kinds.setdefault(stream["codec_type"], stream)
    return kinds


def times(path: Path, kind: str) -> list[float]:
    """Presentation times of the packets of one kind, sorted."""
    command = ["ffprobe", "-v", "error", "-select_streams", kind, "-show_entries", "packet=pts_time", "-of", "json"]
    told = json.loads(
        subprocess.run([*command, str(path)], check=True, capture_output=True, timeout=at_most(60)).stdout
    )
    return sorted(float(packet["pts_time"]) for packet in told["packets"])


def pixel(path: Path, x: float, y: float) -> tuple[int, int, int]:
    """The average colour around a place of the first picture. x, y: 0 to 1 from left and top."""
    from PIL import Image

    image = _first_picture(path)
    width, height = image.size
    left, top = int(x * width), int(y * height)
    box = image.crop((left - 3, top - 3, left + 4, top + 4))
    red, green, blue = box.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    return red, green, blue


@functools.cache
def _first_picture(path: Path) -> Any:
    """The first picture of a film, or a JPEG file, as an image of Pillow."""
    from PIL import Image

    if path.suffix != ".jpg":
        still = Path(tempfile.mkdtemp(dir=_folder)) / "still.png"
        command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-frames:v", "1", str(still)]
        subprocess.run(command, check=True, timeout=at_most(60))
        path = still
    with Image.open(path) as image:
        return image.convert("RGB")
