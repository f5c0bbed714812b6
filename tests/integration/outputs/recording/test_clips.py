"""Clips and exports by the real program: exactly the frames of the time, while live and after, over gaps."""

from __future__ import annotations

import itertools
import re
import socket
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import probe, push, until
from tests.support.gateway import Channel, Gateway, http
from tests.support.media import FRAMES_PER_SECOND, Film, Take, excerpt, framehash_command, parse_framehash
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

FILM = Film("clipped", seconds=12, bframes=2, gop=60)
SHORT = Film("clipped-short", seconds=6, bframes=2, gop=60)
OTHER = Film("clipped-other", seconds=4, gop=60, size="640x360")


gateway = shared_gateway("ffmpeg", "ffprobe", MILLRACE_STREAM__LINGER="1")


def frames(file: Path) -> Take:
    done = subprocess.run(framehash_command(file), check=True, capture_output=True, timeout=at_most(60))
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


def test_a_clip_has_exactly_its_frames_during_and_after_the_push(gateway: Gateway, tmp_path: Path) -> None:
    channel = gateway.channel(isOnDemand=True, ondemand_time="4", playAuth="sign")
    source = digests(FILM.hashes())
    with push(FILM, channel.push) as publisher:
        time.sleep(8)  # in the middle of the film
        made = clip(gateway, channel, last=3)  # `bench/bench_clips.py` measures the time it takes
        live = frames(fetched(made, tmp_path))
        publisher.wait(30)
    video, audio = digests(live)
    start = excerpt(video, source[0], least=3 * FRAMES_PER_SECOND - 1)
    assert len(video) <= 3 * FRAMES_PER_SECOND + 1
    newest = (start + len(video)) / FRAMES_PER_SECOND
    assert newest > 7, "the newest second is in the clip"
    excerpt(audio, source[1], least=130)
    assert live.video[0].time == pytest.approx(0, abs=0.001)
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
    assert not list((gateway.data / "media" / ".unfinished" / "clips").iterdir())


@pytest.mark.nightly
def test_mp4_recordings_are_joined_including_the_growing_one(gateway: Gateway, tmp_path: Path) -> None:
    channel = gateway.channel(isVideo=True, video_time="4")
    source = digests(FILM.hashes())
    with push(FILM, channel.push) as publisher:
        channel.wait_live()
        time.sleep(7)
        made = clip(gateway, channel, last=5)  # contains parts of two recordings
        live = digests(frames(fetched(made, tmp_path)))
        publisher.wait(30)
    start = excerpt(live[0], source[0], least=5 * FRAMES_PER_SECOND - 2)
    assert start + len(live[0]) > 6 * FRAMES_PER_SECOND
    excerpt(live[1], source[1], least=220)
    folder = gateway.data / "media" / channel.id / "mp4"
    until(lambda: len(list(folder.glob("**/*.mp4"))) == 3, "recorded")
    zero = min(int(p.stem.rpartition("-")[2]) for p in folder.glob("**/*.mp4")) / 1000
    # The second recording begins after two GOPs, at frame 120, and is anchored by its own name.
    made = clip(gateway, channel, **{"from": zero + 40 / 30, "to": zero + 8.1})
    take = digests(frames(fetched(made, tmp_path)))
    assert excerpt(take[0], source[0], least=200) == 40
    assert len(take[0]) == pytest.approx(203, abs=4)  # names have the arrival of each file's first picture


def test_an_export_over_a_gap_has_one_continuous_timeline(gateway: Gateway, tmp_path: Path) -> None:
    channel = record(gateway, SHORT, OTHER, isOnDemand=True, ondemand_time="4", videoname="A test")
    first, second = dates(gateway, channel)
    assert second - first > SHORT.seconds
    reply = gateway.api("GET", f"/videostream/{channel.id}/export?from={first + 3}&to={second + 3}")
    assert (reply.status, reply.headers["content-type"]) == (200, "video/mp4")
    name = reply.headers["content-disposition"]
    assert re.fullmatch(r'attachment; filename="A_test-[0-9_-]+\.mp4"; filename\*=UTF-8.{2}A%20test-.*', name)
    path = tmp_path / "export.mp4"
    path.write_bytes(reply.body)
    take = frames(path)
    films = [digests(film.hashes()) for film in (SHORT, OTHER)]
    assert digests(take)[0] == films[0][0][90:] + films[1][0][:90]
    steps = [b.time - a.time for a, b in zip(take.video, take.video[1:], strict=False)]
    assert max(steps) < 0.05, "the gap is closed"
    # Sound follows its picture in both parts: the first packets of the second push begin with its first picture.
    cut = take.video[90].time
    joined = next(f.time for f in take.audio if f.digest == films[1][1][2])
    assert joined - cut == pytest.approx(OTHER.hashes().audio[2].time - OTHER.hashes().video[0].time, abs=0.02)
    assert float(probe(path)["video"]["duration"]) == pytest.approx(6, abs=0.01)


def test_refusals_explain_the_required_change(gateway: Gateway) -> None:
    channel = gateway.channel()
    now = time.time()

    def refused(body: dict[str, Any], status: int, text: str, id: str = channel.id) -> None:
        reply = gateway.api("POST", f"/videostream/{id}/clips", body)
        assert (reply.status, text in reply.json()["error"]) == (status, True), reply.text

    refused({"last": 30}, 409, "isOnDemand")
    refused({"from": now - 30, "to": now - 40}, 400, "after the start")
    refused({"from": now + 30}, 400, "future")
    refused({"from": now - 3600, "to": now}, 400, "export")
    refused({}, 400, "expected a time")
    refused({"last": "much"}, 400, "seconds")
    refused({"last": 5, "from": now}, 400, "either")
    refused({"from": "2020-01-01T00:00:00Z", "to": "2020-01-01T00:01:00+00:00"}, 409, "rewind")
    refused({"last": 30}, 404, "", "00000000-0000-4000-8000-000000000000")
    recorded = gateway.channel(isVideo=True)
    refused({"last": 30}, 404, "nothing", recorded.id)
    old = "from=2020-01-01T00:00:00Z&to=2020-01-01T00:01:00Z"
    for method, asked in itertools.product(("GET", "HEAD"), ("last=30", old)):
        assert gateway.api(method, f"/videostream/{recorded.id}/export?{asked}").status == 404
    assert gateway.api("GET", f"/videostream/{recorded.id}/export?from=x").status == 400


def test_an_export_ends_and_frees_its_slot_when_the_client_disconnects(gateway: Gateway) -> None:
    channel = gateway.channel(isVideo=True, video_time="60")
    noise = "testsrc2=size=640x360:rate=30,noise=alls=80:allf=t"  # more bytes than the sockets hold
    coded = ["-t", "4", "-c:v", "libx264", "-preset", "ultrafast", "-qp", "10", "-pix_fmt", "yuv420p", "-f", "flv"]
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", noise, *coded, channel.push]
    subprocess.run(command, check=True, timeout=at_most(60))
    folder = gateway.data / "media" / channel.id / "mp4"
    until(lambda: len(list(folder.glob("**/*.mp4"))) == 1, "recorded")
    assert next(folder.glob("**/*.mp4")).stat().st_size > 8_000_000
    path = f"/videostream/{channel.id}/export?last=6"
    head = gateway.api("HEAD", path)
    assert (head.status, head.headers["content-type"], head.body) == (200, "video/mp4", b"")
    request = f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {gateway.token}\r\n\r\n"
    for _ in range(4):  # more than a channel may have at once
        with socket.create_connection(("127.0.0.1", gateway.ports["admin"])) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(request.encode())
            assert client.recv(100).startswith(b"HTTP/1.1 200 OK")

        def complete() -> bool:
            reply = gateway.api("GET", path)
            return reply.status == 200 and len(reply.body) == int(reply.headers["content-length"])

        until(complete, "the place is free")
    assert "request failed" not in gateway.log
    assert "Traceback" not in gateway.log
