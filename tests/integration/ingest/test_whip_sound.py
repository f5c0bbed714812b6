"""The AAC of a WHIP push is made on demand, and is complete from the first picture on."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import Program, new_ffmpeg, until
from tests.support.gateway import Channel, Gateway
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most
from tests.support.tools import lacking

FILM = Film("sound-on-demand", seconds=90, gop=75)
_TICK = 1 / os.sysconf("SC_CLK_TCK")
_AAC_SECONDS = 1_024 / 48_000


gateway = shared_gateway("ffmpeg")


@pytest.fixture(scope="module")
def channel(gateway: Gateway) -> Iterator[Channel]:
    """Returns a channel without viewers and without outputs that need sound. ffmpeg pushes to it by WHIP."""
    ffmpeg = new_ffmpeg()
    muxers = subprocess.run([ffmpeg, "-hide_banner", "-muxers"], capture_output=True, text=True, check=False).stdout
    if " whip " not in muxers:
        lacking("an ffmpeg with the WHIP muxer (imageio-ffmpeg with ffmpeg 8)")
    channel = gateway.channel(isHls=False, isCMAF=False)
    command = [
        ffmpeg, "-v", "warning", "-re", "-i", str(FILM.path()), "-c:v", "copy", "-c:a", "libopus", "-ar", "48000",
        "-ac", "2", "-f", "whip", f"{channel.url('whip')}?sign={channel.key}",
    ]  # fmt: skip
    with Program(command) as publisher:
        until(lambda: channel.session()["bitrate"] > 50_000, f"live: {publisher.errors[-800:]}", 20)
        yield channel


def worker_seconds(gateway: Gateway) -> float | None:
    """CPU of the only worker for sound; None if there is none."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command, stat = (entry / "cmdline").read_bytes(), (entry / "stat").read_text()
        except OSError:  # it has ended meanwhile
            continue
        fields = stat.rpartition(")")[2].split()
        if b"sound_worker" in command and int(fields[1]) == gateway.process.pid:
            return (int(fields[11]) + int(fields[12])) * _TICK
    return None


def packets(url: str, seconds: float) -> list[tuple[str, float]]:
    """Kind and time of each packet that ffprobe reads, in the order of the file."""
    command = ["ffprobe", "-v", "error", "-read_intervals", f"%+{seconds}", "-of", "json", "-show_entries"]
    command += ["packet=codec_type,dts_time", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=at_most(40), check=False)
    assert done.returncode == 0, done.stderr[-500:]
    return [(packet["codec_type"], float(packet["dts_time"])) for packet in json.loads(done.stdout)["packets"]]


@pytest.mark.nightly
def test_the_first_viewer_gets_all_sound_after_an_idle_time(gateway: Gateway, channel: Channel) -> None:
    # Sound that came before the first key frame is not published.
    until(lambda: (channel.session()["measured"]["gop"] or 0) > 2.4, "a whole GOP", 45)
    until(lambda: worker_seconds(gateway) is None, "no worker without a viewer", 25)
    session = channel.session()
    assert session["bitrate"] > 50_000
    assert not [finding for finding in session["health"] if "audio" in finding["code"]]
    seen = packets(channel.url("live.flv"), 6)
    pictures = [time for kind, time in seen if kind == "video"]
    sounds = [time for kind, time in seen if kind == "audio"]
    assert -0.001 <= sounds[0] - pictures[0] < 0.08, "the sound begins with the first picture"
    steps = [after - before for before, after in itertools.pairwise(sounds)]
    assert len(sounds) > 200 and max(steps) < 1.5 * _AAC_SECONDS, "no gap in the sound"
    latest = 0.0
    for _, time in seen:
        assert time > latest - 1, "sound and pictures come together"  # the converter may be late on a busy machine
        latest = max(latest, time)
    assert (worker_seconds(gateway) or 0) > 5 * _TICK, "the sound was converted"
    until(lambda: worker_seconds(gateway) is None, "the worker ends some seconds after the last viewer", 25)
