"""Every codec that a publisher can send comes out of an MP4 recording as it went in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import builders
from tests.support.clients import new_ffmpeg
from tests.support.media import Film
from tests.support.recording import RunningArchive, film
from tests.support.tools import need

FILMS = {
    "h264 with B-frames, mp3": Film("codec-mp3", seconds=6, bframes=3, audio="libmp3lame"),
    "h265, aac": Film("codec-h265", seconds=6, video="libx265"),
    "av1, opus": Film("codec-av1", seconds=6, video="libsvtav1", audio="libopus"),
    "vp9, flac": Film("codec-vp9", seconds=6, video="libvpx-vp9", audio="flac"),
    "h264, ac3": Film("codec-ac3", seconds=6, audio="ac3"),
    "mp3 alone": Film("codec-mp3-alone", seconds=6, video=None, audio="libmp3lame"),
}


def packets(file: Path, ffmpeg: str) -> dict[str, list[str]]:
    """Hashes of the coded frames, by kind of stream."""
    command = [ffmpeg, "-nostdin", "-v", "error", "-i", str(file), "-map", "0:v?", "-map", "0:a?", "-c", "copy"]
    text = subprocess.run([*command, "-f", "framehash", "-hash", "md5", "-"], check=True, capture_output=True).stdout
    kinds: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    for line in text.decode().splitlines():
        if line.startswith("#media_type "):
            index, kind = line.removeprefix("#media_type ").split(": ")
            kinds[index] = kind
        elif not line.startswith("#"):
            parts = [p.strip() for p in line.split(",")]
            found.setdefault(kinds[parts[0]], []).append(parts[5])
    return found


@pytest.mark.parametrize("source", FILMS.values(), ids=FILMS)
async def test_recorded_frames_are_identical_to_the_pushed_frames(source: Film, tmp_path: Path) -> None:
    need("ffmpeg")
    ffmpeg = new_ffmpeg()
    made = Film(**{**vars(source), "ffmpeg": ffmpeg})
    async with RunningArchive(tmp_path).open() as studio:
        hub = builders.hub()
        publisher = builders.publish(hub, video_time="2")
        await film(studio.recorder(publisher.stream), publisher, made)
        await studio.finisher.flush()
        hub.drain()
        await hub.drained()
    files = studio.files("**/*.mp4")
    assert len(files) >= 3
    want, got = packets(made.path(), ffmpeg), {}
    for file in files:
        checked = subprocess.run(
            [ffmpeg, "-nostdin", "-v", "error", "-i", str(file), "-f", "null", "-"], capture_output=True, check=True
        )
        assert not checked.stderr, checked.stderr.decode()
        for kind, hashes in packets(file, ffmpeg).items():
            got.setdefault(kind, []).extend(hashes)
    assert {k: len(v) for k, v in got.items()} == {k: len(v) for k, v in want.items()}
    assert got == want
