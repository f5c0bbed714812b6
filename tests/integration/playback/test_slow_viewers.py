"""Viewers with a little more bandwidth than a stream of 42 Mbit/s with key frames of 1.4 MB lose nothing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.formats.flv import muxer
from gateway.formats.flv.tag import VIDEO
from tests.support.clients import Program
from tests.support.flv_reader import FlvReader, Tag
from tests.support.gateway import running
from tests.support.media import FRAMES_PER_SECOND, Film
from tests.support.time_outs import at_most
from tests.support.tools import need

SECONDS = 5
RATE = 5_250_000  # bytes a second
KEY = 1_400_000
SMALL = Film("padded", seconds=SECONDS, audio=None)
TRAILING = b"\x80"


def is_frame(tag: Tag) -> bool:
    return tag.type_id == VIDEO and tag.payload[1] == 1


def padded(path: Path) -> Path:
    """Writes the film with every frame padded by filler data (NAL unit type 12)."""
    data = muxer.file_header(True, False)
    for tag in FlvReader().receive(SMALL.path().read_bytes()):
        body = tag.payload
        if is_frame(tag):
            size = KEY if body[0] >> 4 == 1 else (RATE - KEY) // (FRAMES_PER_SECOND - 1)
            filler = b"\x0c" + b"\xff" * (size - len(body) - 6) + TRAILING
            body += len(filler).to_bytes(4, "big") + filler
        data += muxer.tag(tag.type_id, tag.timestamp, body)
    path.write_bytes(data)
    return path


async def watch(port: int, path: str, rate: float) -> list[Tag]:
    """Returns the tags of a viewer that reads `rate` bytes a second and never reads faster after a delay."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65_536)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    flv, tags, due = FlvReader(max_tag=1 << 24), [], time.monotonic()
    while data := await reader.read(32_768):
        tags += flv.receive(data)
        due = max(due, time.monotonic()) + len(data) / rate
        await asyncio.sleep(due - time.monotonic())
    writer.close()
    return tags


@pytest.mark.parametrize("times", [1.31, pytest.param(2.0, marks=pytest.mark.nightly)])
async def test_a_viewer_with_a_third_more_bandwidth_than_the_stream_loses_nothing(tmp_path: Path, times: float) -> None:
    need("ffmpeg")
    film = padded(tmp_path / "padded.flv")
    with running(MILLRACE_STREAM__LINGER="1") as gateway:
        channel = gateway.channel(isHls=False, isCMAF=False)
        viewer = asyncio.ensure_future(watch(gateway.ports["http"], f"/{channel.id}/live.flv", RATE * times))
        command = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-i", str(film), "-c", "copy", "-f", "flv", channel.push]
        with Program(command) as pushing:
            tags = await asyncio.wait_for(viewer, at_most(60))
            assert pushing.process.poll() == 0, pushing.errors
        frames = [tag for tag in tags if is_frame(tag)]
        assert len(frames) == SECONDS * FRAMES_PER_SECOND
        assert [tag.timestamp for tag in frames] == sorted(tag.timestamp for tag in frames)
        metrics = gateway.api("GET", "/metrics").text
        assert 'millrace_frames_dropped_total{reason="viewer"} 0' in metrics
        assert "millrace_viewer_backlog_bytes 0" in metrics
