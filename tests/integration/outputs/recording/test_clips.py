"""Clips and exports by the real program: exactly the frames of the time, while live and after, over gaps."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import probe, push, until
from tests.support.gateway import Channel, Gateway, http, running
from tests.support.media import FRAMES_PER_SECOND, Film, Take, excerpt, framehash_command, parse_framehash
from tests.support.tools import need

FILM = Film("clipped", seconds=12, bframes=2, gop=60)
OTHER = Film("clipped-other", seconds=5, gop=60, size="640x360")
HEVC = Film("clipped-hevc", seconds=6, video="libx265")
SOUND = Film("clipped-sound", seconds=6, video=None)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    need("ffmpeg", "ffprobe")
    with running() as started:
        yield started


def frames(file: Path) -> Take:
    done = subprocess.run(framehash_command(file), check=True, capture_output=True, timeout=60)
    assert not done.stderr, done.stderr.decode()
    return parse_framehash(done.stdout.decode())


def digests(take: Take) -> tuple[list[str], list[str]]:
    return [f.digest for f in take.video], [f.digest for f in take.audio]


def record(gateway: Gateway, *films: Film, **fields: Any) -> Channel:
    """A channel with the recorded pushes of these films."""
    channel = gateway.channel(**fields)
    for n, film in enumerate(films):
        with push(film, channel.push) as publisher:
            publisher.wait(30)
        until(lambda count=n + 1: len(dates(gateway, channel)) >= count or bool(fields.get("isVideo")), "recorded")
        until(lambda: channel.session()["state"] != "live", "the push ended")
    return channel


def dates(gateway: Gateway, channel: Channel) -> list[float]:
    """The starts of the recorded timelines."""
    found = []
    for file in sorted((gateway.data / "media" / channel.id).glob("vod-*.m3u8")):
        for date in re.findall(r"PROGRAM-DATE-TIME:(\S+)", file.read_text()):
            found.append(datetime.fromisoformat(date).timestamp())
    return found


def clip(gateway: Gateway, channel: Channel, **wanted: Any) -> dict[str, Any]:
    reply = gateway.api("POST", f"/videostream/{channel.id}/clips", wanted)
    assert reply.status == 201, f"{reply.text}\n{gateway.log[-3000:]}"
    return reply.json()  # type: ignore[no-any-return]


def fetched(made: dict[str, Any], folder: Path) -> Path:
    reply = http("GET", made["url"])
    assert (reply.status, reply.headers["content-type"]) == (200, "video/mp4")
    assert len(reply.body) == made["size"]
    path = folder / "clip.mp4"
    path.write_bytes(reply.body)
    return path


def test_a_clip_has_exactly_the_frames_of_its_time_while_live_and_after(gateway: Gateway, tmp_path: Path) -> None:
    channel = gateway.channel(isOnDemand=True, ondemand_time="4", playAuth="sign")
    source = digests(FILM.hashes())
    with push(FILM, channel.push) as publisher:
        time.sleep(8)  # in the middle of the film
        began = time.time()
        made = clip(gateway, channel, last=3)
        took = time.time() - began
        live = frames(fetched(made, tmp_path))
        publisher.wait(30)
    video, audio = digests(live)
    start = excerpt(video, source[0], least=3 * FRAMES_PER_SECOND - 1)
    assert len(video) <= 3 * FRAMES_PER_SECOND + 1
    newest = (start + len(video)) / FRAMES_PER_SECOND
    assert newest > 7, "the newest second is in the clip"
    excerpt(audio, source[1], least=130)
    assert live.video[0].time == pytest.approx(0, abs=0.001)
    assert took < 5  # a bound for loaded machines; tests/load measures it
    until(lambda: len(dates(gateway, channel)) == 1, "recorded")
    (zero,) = dates(gateway, channel)
    for first, end in ((75, 273), (0, 60), (60, 121), (301, 302)):
        made = clip(gateway, channel, **{"from": zero + first / 30, "to": zero + end / 30})
        take = frames(fetched(made, tmp_path))
        assert digests(take)[0] == source[0][first:end]
        assert made["seconds"] == pytest.approx((end - first) / 30, abs=0.002)
        assert take.video[0].time == pytest.approx(0, abs=0.001)
        # Sound is cut at the same time: the packet that begins the clip contains its first sample.
        at = source[1].index(digests(take)[1][-1])
        assert FILM.hashes().audio[at].time == pytest.approx(FILM.hashes().video[0].time + end / 30, abs=0.045)
    assert http("GET", made["url"].partition("?")[0]).status == 403
    listed = gateway.api("GET", f"/videostream/{channel.id}/recordings?kind=clip").json()
    assert len(listed) == 5
    assert {item["key"] for item in listed} >= {made["key"]}
    assert not [p for p in (gateway.data / "media" / ".unfinished" / "clips").iterdir()]
