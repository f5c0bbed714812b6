"""Recording by the real program: files that hold every frame, after a kill, on a full disk, over a restart."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import found, probe, pull, push, so_far, take_of, until
from tests.support.fleet import end
from tests.support.gateway import Channel, Gateway, http, running
from tests.support.media import FRAMES_PER_SECOND, Film, Take, excerpt, framehash_command, parse_framehash
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most
from tests.support.tools import lacking, need

FILM = Film("recorded", seconds=14, bframes=2)
WHOLE = Film("recorded-whole", seconds=10, bframes=2)  # three pieces
LONG = Film("recorded-long", seconds=40, bframes=2)  # does not end before a test has seen enough
NO_SOUND = Film("recorded-silent", seconds=3, audio=None)
ONLY_SOUND = Film("recorded-sound", seconds=6, video=None)


gateway = shared_gateway("ffmpeg", "ffprobe", MILLRACE_HLS__ON_DEMAND="true", MILLRACE_STREAM__LINGER="1")


@pytest.fixture(autouse=True)
def tools() -> None:
    need("ffmpeg")
    need("ffprobe")


def files(gateway: Gateway, pattern: str) -> list[Path]:
    """Returns the visible files in the order of their names. pattern: a path that begins with the channel."""
    media = gateway.data / "media"
    return sorted(p for p in media.glob(pattern) if not any(s.startswith(".") for s in p.relative_to(media).parts))


def frames(file: Path | str) -> Take:
    done = subprocess.run(framehash_command(file), check=True, capture_output=True, timeout=at_most(60))
    assert not done.stderr, done.stderr.decode()
    return parse_framehash(done.stdout.decode())


def digests(*takes: Take) -> tuple[list[str], list[str]]:
    return [f.digest for t in takes for f in t.video], [f.digest for t in takes for f in t.audio]


def uncut(video: list[str]) -> list[str]:
    """Drops the last pictures, because a stream that is cut among B-frames lacks some of them."""
    return video[: -FILM.bframes - 1]


def boxes(file: Path) -> list[bytes]:
    data, at, kinds = file.read_bytes(), 0, []
    while at < len(data):
        kinds.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big")
    assert at == len(data)
    return kinds


def wait_shown(channel: Channel, seconds: float) -> None:
    """Returns once a viewer has got these seconds of the stream. The recording has got as far."""
    with pull(channel.url("live.flv"), seconds=None) as viewer:
        until(lambda: len(so_far(viewer).video) >= seconds * FRAMES_PER_SECOND, f"{seconds} s are shown", 60)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="millrace-recording-") as name:
        yield Path(name)


def test_a_push_is_recorded_frame_by_frame_and_plays_again(gateway: Gateway) -> None:
    channel = gateway.channel(isVideo=True, isOnDemand=True, video_time="4", ondemand_time="4")
    pieces, sessions = f"{channel.id}/mp4/**/*.mp4", f"{channel.id}/vod-*.m3u8"
    with push(WHOLE, channel.push) as publisher:
        publisher.wait(40)
    until(lambda: len(files(gateway, pieces)) == 3 and not found(gateway.data, "*.fmp4"), "recorded")
    until(lambda: files(gateway, sessions) and not found(gateway.data, "journal"), "on demand")
    want = digests(WHOLE.hashes())
    movies = files(gateway, pieces)
    assert digests(*[frames(f) for f in movies]) == want
    for movie in movies:
        assert boxes(movie) == [b"ftyp", b"moov", b"mdat"]
        assert abs(float(probe(movie)["video"].get("start_time", 0))) < 0.1
    (index,) = files(gateway, sessions)
    assert digests(frames(index)) == want
    assert digests(frames(channel.url(f"vod/{index.name}"))) == want
    reply = http("GET", channel.url(f"vod/{movies[0].relative_to(gateway.data / 'media' / channel.id)}"))
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, "video/mp4", movies[0].read_bytes())
    listed = gateway.api("GET", f"/videostream/{channel.id}/recordings").json()
    assert len(listed) == 4
    assert http("GET", listed[0]["url"]).status == 200
    # A second push makes its own session and does not change the first one.
    before = {f: f.stat().st_mtime_ns for f in files(gateway, f"{channel.id}/**/*") if f.is_file()}
    with push(NO_SOUND, channel.push) as publisher:
        publisher.wait(30)
    until(lambda: len(files(gateway, sessions)) == 2, "second session")
    assert all(f.stat().st_mtime_ns == t for f, t in before.items())


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.nightly), "2"])
def test_files_of_a_gateway_are_not_readable_by_other_users(workers: str) -> None:
    with running(MILLRACE_SERVE__WORKERS=workers, MILLRACE_STREAM__LINGER="1") as gateway:
        gateway.data.chmod(0o755)
        channel = gateway.channel(isVideo=True, isImage=True, image_time="1", isOnDemand=True)
        with push(NO_SOUND, channel.push) as publisher:
            publisher.wait(30)
        until(lambda: files(gateway, "*/mp4/**/*.mp4") and files(gateway, "*/images/**/*.jpg"), "recorded")
        until(lambda: files(gateway, "*/vod-*.m3u8"), "on demand")
        modes: dict[Path, int] = {}
        for path in found(gateway.data, "*"):
            with contextlib.suppress(FileNotFoundError):  # an unfinished file may be renamed at the same time
                modes[path] = path.lstat().st_mode
        written = {path: mode for path, mode in modes.items() if not stat.S_ISLNK(mode)}
        assert {path.suffix for path in written} >= {".mp4", ".jpg", ".ts", ".m3u8", ".db"}
        assert [f"{path} {mode:o}" for path, mode in written.items() if mode & 0o027] == []


def test_a_stream_with_only_sound_is_recorded(gateway: Gateway) -> None:
    channel = gateway.channel(isVideo=True, isOnDemand=True, video_time="2", ondemand_time="2")
    pieces = f"{channel.id}/mp4/**/*.mp4"
    with push(ONLY_SOUND, channel.push) as publisher:
        publisher.wait(30)
    until(lambda: len(files(gateway, pieces)) == 4 and not found(gateway.data, "*.fmp4"), "recorded")
    assert digests(*[frames(f) for f in files(gateway, pieces)]) == digests(ONLY_SOUND.hashes())


def test_stopping_the_gateway_finishes_open_recordings() -> None:
    with folder() as place:
        gateway = Gateway(place)
        gateway.wait_ready()
        channel = gateway.channel(isVideo=True, isOnDemand=True, video_time="60", ondemand_time="60")
        with push(LONG, channel.push) as publisher:
            channel.wait_live()
            wait_shown(channel, 4)
            assert gateway.stop() == 0
            publisher.kill()
        (movie,), (index,) = files(gateway, "*/mp4/**/*.mp4"), files(gateway, "*/vod-*.m3u8")
        for file in (movie, index):
            video, audio = digests(frames(file))
            excerpt(uncut(video), digests(LONG.hashes())[0], least=100)
            excerpt(audio, digests(LONG.hashes())[1], least=150)
        assert not [p for p in found(gateway.data / "media/.unfinished", "*") if p.is_file()]


def test_a_killed_gateway_loses_only_the_last_moments() -> None:
    with folder() as place:
        gateway = Gateway(place)
        gateway.wait_ready()
        channel = gateway.channel(isVideo=True, isOnDemand=True, video_time="60", ondemand_time="4")
        with push(LONG, channel.push) as publisher:
            channel.wait_live()
            wait_shown(channel, 6)
            os.killpg(gateway.process.pid, signal.SIGKILL)
            gateway.process.wait(at_most(10))
            publisher.kill()
        assert files(gateway, "*/mp4/**/*.mp4") == []
        (place / "again").mkdir()
        again = Gateway(place / "again", MILLRACE_OBJECTS=f"file:///{gateway.data}/media")
        try:
            again.wait_ready()
            until(lambda: files(gateway, "*/mp4/**/*.mp4") and not found(gateway.data, "journal"), "recovered")
            want = digests(LONG.hashes())
            for file in (*files(gateway, "*/mp4/**/*.mp4"), *files(gateway, "*/vod-*.m3u8")):
                video, audio = digests(frames(file))
                assert len(video) >= 130, file
                assert uncut(video) == want[0][: len(uncut(video))]
                assert audio == want[1][: len(audio)]
            assert again.stop() == 0
        finally:
            end(again)


def test_a_full_disk_does_not_affect_viewers_and_is_logged_rarely() -> None:
    with running() as gateway:
        channel = gateway.channel(isVideo=True, isOnDemand=True, video_time="60", ondemand_time="4")
        # Files may not grow beyond this limit, which has the effect of a full disk.
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (150_000, 150_000))
        with push(FILM, channel.push) as publisher:
            channel.wait_live()
            with pull(channel.url("live.flv"), seconds=8) as viewer:
                take = take_of(viewer)
            session = channel.session()
            publisher.kill()
        excerpt(uncut(digests(take)[0]), digests(FILM.hashes())[0], least=200)
        outputs = {o["name"]: o for o in session["outputs"]}
        assert outputs["video"]["state"] in ("retrying", "running")
        assert "large" in (outputs["video"]["error"] or "large")
        lines = [line for line in gateway.log.splitlines() if "too large" in line.lower()]
        assert 0 < len(lines) < 40
        assert http("GET", f"http://127.0.0.1:{gateway.ports['http']}/healthcheck").status == 200


@pytest.mark.nightly
def test_a_recording_is_switched_on_and_off_while_live(gateway: Gateway) -> None:
    channel = gateway.channel(isVideo=False, video_time="60")
    pieces = f"{channel.id}/mp4/**/*.mp4"
    with push(LONG, channel.push) as publisher:
        channel.wait_live()
        wait_shown(channel, 1)
        switch = f"/videostream/{channel.id}/outputs/video"
        assert gateway.api("POST", switch, {"enabled": True}).status == 200
        wait_shown(channel, 5)
        assert gateway.api("POST", switch, {"enabled": False}).status == 200
        until(lambda: files(gateway, pieces), "recorded")
        publisher.kill()
    video, audio = digests(frames(files(gateway, pieces)[0]))
    excerpt(uncut(video), digests(LONG.hashes())[0], least=60)
    excerpt(audio, digests(LONG.hashes())[1], least=90)


@pytest.mark.nightly
def test_recording_resumes_when_a_full_disk_has_space_again() -> None:
    with folder() as place, running_on_disk(place, "3m") as (gateway, disk):
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        channel = gateway.channel(isVideo=True, video_time="60")
        with push(FILM, channel.push) as publisher:
            channel.wait_live()
            until(lambda: "no space left" in str(output(channel.session())["error"]), "in trouble")
            assert output(channel.session())["state"] == "retrying"
            filler.unlink()
            until(lambda: output(channel.session())["state"] == "running", "recording again")
            publisher.wait(40)
        until(lambda: list(disk.glob("*/mp4/**/*.mp4")), "recorded")
        video, _ = digests(frames(next(disk.glob("*/mp4/**/*.mp4"))))
        excerpt(uncut(video), digests(FILM.hashes())[0], least=60)


def output(session: dict[str, Any]) -> dict[str, Any]:
    return dict(next(o for o in session["outputs"] if o["name"] == "video"))


@contextlib.contextmanager
def running_on_disk(place: Path, size: str) -> Iterator[tuple[Gateway, Path]]:
    """A gateway whose media lie on a disk of this size."""
    if os.getuid() != 0:
        lacking("only root can mount a small disk")
    disk = place / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        lacking(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        with running(MILLRACE_OBJECTS=f"file:///{disk}", MILLRACE_RECORDING__KEEP_FREE="0") as gateway:
            yield gateway, disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
