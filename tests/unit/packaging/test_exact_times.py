"""Fragments have the times of a transport stream to the tick; players get the pictures when the encoder meant them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.formats.mp4.reader import parse_fragments
from gateway.live.program_intake import ProgramIntake
from gateway.live.sink import EndReason
from gateway.media.track import AccessUnit, Kind, Tracks
from gateway.packaging.cmaf.packager import CmafPackager
from tests.support import builders
from tests.support.builders import Recorder, publish
from tests.support.media import made_once
from tests.support.mp4 import shown_times
from tests.support.segmented import WALL, cmaf
from tests.support.tools import need
from tests.unit.formats.ts.test_program_reader import framehash

_CODING = ["-c:v", "libx264", "-preset", "veryfast", "-g", "48", "-threads", "1", "-pix_fmt", "yuv420p"]
_TONE = ["-f", "lavfi", "-i", "sine=sample_rate=44100"]
# name → (pictures a second, further arguments)
RATES = {
    "25": ("25", []),
    "29.97 with B-frames": ("30000/1001", ["-bf", "2"]),
    "23.976 with B-frames": ("24000/1001", ["-bf", "3"]),
    "59.94": ("60000/1001", []),
    "irregular": ("30", ["-vf", "select='not(eq(mod(n,7),3))'", "-fps_mode", "vfr"]),
}


def stream(name: str) -> Path:
    need("ffmpeg")
    rate, more = RATES[name]
    picture = ["-f", "lavfi", "-i", f"testsrc2=size=160x120:rate={rate}"]
    command = ["ffmpeg", *picture, *_TONE, *_CODING, *more, "-c:a", "aac", "-t", "8", "-f", "mpegts"]
    return made_once("ts", command)


async def packaged(path: Path) -> CmafPackager:
    """Pushes a stream, and packages all of it."""
    hub, sink, packager = builders.hub(), Recorder(), cmaf(size=100)
    publisher = publish(hub)
    publisher.stream.attach(sink)
    intake = ProgramIntake(publisher, cast(Any, None))
    data = path.read_bytes()
    for at in range(0, len(data), 1316):
        intake.receive(data[at : at + 1316], time.monotonic())
    intake.finish(time.monotonic())
    hub.drain()
    await hub.drained()
    for item in sink.items:
        if isinstance(item, Tracks):
            packager.take_tracks(item)
        elif isinstance(item, AccessUnit):
            item.wall = WALL + item.dts / item.track.timescale  # no burst, which would begin epochs
            packager.take(item)
    packager.on_end(EndReason.PUBLISHER_GONE)
    return packager


def shown(packager: CmafPackager, kind: Kind) -> list[int]:
    """Returns the presentation times of a track in its ticks, in order, counted from the first one."""
    window = next(t for t in packager.manifests.tracks if t.kind == kind).window
    return shown_times([fragment for segment in window for fragment in parse_fragments(segment.body())])


@pytest.mark.parametrize("name", RATES)
async def test_pictures_have_the_times_of_the_transport_stream_to_the_tick(name: str) -> None:
    path = stream(name)
    source = sorted(pts for _, pts, _ in framehash(path)[0])
    assert shown(await packaged(path), Kind.VIDEO) == [pts - source[0] for pts in source]


async def test_sound_counts_its_samples() -> None:
    times = shown(await packaged(stream("25")), Kind.AUDIO)
    assert times == [1024 * n for n in range(len(times))] and len(times) > 300
