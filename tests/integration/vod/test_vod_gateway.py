"""A running gateway makes films, plays them with and without protection, and resumes the jobs of a killed one."""

from __future__ import annotations

import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.support import films
from tests.support.gateway import Gateway, running
from tests.support.time_outs import at_most


def wait(gateway: Gateway, id: str, *states: str, seconds: float = 90) -> dict[str, Any]:
    """The job once it is in one of these states."""
    end = time.monotonic() + at_most(seconds)
    while True:
        job: dict[str, Any] = gateway.api("GET", f"/jobs/{id}").json()
        if job["state"] in states:
            return job
        assert time.monotonic() < end, f"{job}\n{gateway.log[-2000:]}"
        time.sleep(0.1)


def upload(gateway: Gateway, film: Path) -> dict[str, Any]:
    """Uploads like a page or a script: asks for an address, sends the film there, and returns the job."""
    offer = gateway.api("POST", "/uploads", {"name": film.name}).json()
    request = urllib.request.Request(
        offer["url"], data=film.read_bytes(), headers=offer["headers"], method=offer["method"]
    )
    with urllib.request.urlopen(request, timeout=at_most(30)) as reply:
        assert reply.status == 201
    found: dict[str, Any] = next(job for job in gateway.api("GET", "/jobs").json() if job["source"] == offer["key"])
    return found


def test_an_uploaded_film_is_converted_and_plays() -> None:
    with running(MILLRACE_VOD__PRESET="superfast") as gateway:
        job = wait(gateway, upload(gateway, films.plain())["id"], "COMPLETE", "ERROR")
        assert job["state"] == "COMPLETE", job
        told = films.probe(job["outputs"]["hls"])
        assert int(told["video"]["nb_read_frames"]) == 75 and told["audio"]["codec_name"] == "aac"
        for picture in ("poster", "thumbnail"):
            with urllib.request.urlopen(job["outputs"][picture], timeout=at_most(10)) as reply:
                assert reply.headers["Content-Type"] == "image/jpeg" and reply.read(2) == b"\xff\xd8"


def test_protected_films_play_with_the_addresses_of_the_api() -> None:
    with running(MILLRACE_VOD__PRESET="superfast", MILLRACE_PLAYBACK__AUTH="sign") as gateway:
        job = wait(gateway, upload(gateway, films.plain())["id"], "COMPLETE", "ERROR")
        address = job["outputs"]["hls"]
        assert "?sign=" in address
        assert int(films.probe(address)["video"]["nb_read_frames"]) == 75
        try:
            urllib.request.urlopen(address.partition("?")[0], timeout=at_most(10))
            raise AssertionError("an address without a sign was answered")
        except urllib.error.HTTPError as refused:
            assert refused.code == 403
            refused.close()


def test_the_job_of_a_killed_gateway_is_done_by_the_next_one(tmp_path: Path) -> None:
    slow = films.silent("slow.mkv", "testsrc2=size=640x360:rate=30", *films.H264, seconds=12)
    settings = {"MILLRACE_VOD__PRESET": "slow", "MILLRACE_DATA": str(tmp_path / "kept")}
    (tmp_path / "kept").mkdir()
    first = begin(tmp_path / "one", settings)
    id = upload(first, slow)["id"]
    wait(first, id, "PROGRESSING")
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    second = begin(tmp_path / "two", settings)
    try:
        job = wait(second, id, "COMPLETE", "ERROR")
        assert job["state"] == "COMPLETE"
        assert int(films.probe(job["outputs"]["hls"])["video"]["nb_read_frames"]) == 360
        assert list((tmp_path / "kept" / "vod").iterdir()) == []
    finally:
        assert second.stop() == 0


def begin(folder: Path, settings: dict[str, str]) -> Gateway:
    """Starts a gateway over a persistent data folder."""
    folder.mkdir()
    data = Path(settings["MILLRACE_DATA"])
    (data / "ports.json").unlink(missing_ok=True)
    gateway = Gateway(folder, **settings)
    gateway.data = data
    gateway.wait_ready()
    return gateway
