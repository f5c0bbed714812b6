"""Headers and metadata for viewers of FLV and RTMP, at the beginning and at changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.formats.flv.demuxer import parse_script
from gateway.formats.flv.tag import SCRIPT
from gateway.media.track import Tracks
from gateway.packaging.flv_output import BrowserFlvRendering, FlvRendering
from gateway.packaging.rtmp_output import RtmpRendering
from gateway.protocols.rtmp.chunk_reader import ChunkReader
from tests.support.builders import AUDIO, VIDEO, picture
from tests.support.flv_reader import FlvReader

CHANGED = Tracks(VIDEO, AUDIO, 1, {"width": 640.0, "height": 360.0, "encoder": "x"})


def flv(data: bytes) -> list[tuple[int, int, bytes]]:
    begins = data if data.startswith(b"FLV") else b"FLV\x01\x05\0\0\0\x09\0\0\0\0" + data
    return [(tag.type_id, tag.timestamp, tag.payload) for tag in FlvReader().receive(begins)]


def rtmp(data: bytes) -> list[tuple[int, int, bytes]]:
    reader = ChunkReader()
    reader.chunk_size = 65536
    return [(message.type_id, message.timestamp, message.payload) for message in reader.receive(data)]


@pytest.mark.parametrize(("rendering", "read"), [(FlvRendering(), flv), (RtmpRendering(), rtmp)])
def test_a_change_has_the_new_size_and_its_own_time(rendering: FlvRendering, read: type[list]) -> None:
    (kind, time, body), *headers = read(rendering.render_change(CHANGED, 5000))
    (values,) = parse_script(time, body).values
    assert (kind, time) == (SCRIPT, 5000)
    assert (values["width"], values["height"], values["encoder"]) == (1280.0, 720.0, "x")
    assert [at for _, at, _ in headers] == [5000, 5000]


@pytest.mark.parametrize(("rendering", "read"), [(FlvRendering(), flv), (RtmpRendering(), rtmp)])
def test_metadata_at_the_beginning_has_the_time_zero(rendering: FlvRendering, read: type[list]) -> None:
    (kind, time, _), *headers = read(rendering.render_head(CHANGED, 5000))
    assert (kind, time) == (SCRIPT, 0), "ffmpeg's probing takes it for a track of subtitles at any other time"
    assert [at for _, at, _ in headers] == [5000, 5000]


def test_browsers_get_the_picture_after_a_hole_with_the_time_at_which_it_begins() -> None:
    unit = picture(450_000, True, cts=7200, track=replace(VIDEO, timescale=90_000))
    ((_, _, body),) = flv(FlvRendering().render_unit(unit))
    assert [(at, still) for _, at, still in flv(BrowserFlvRendering().render_still(unit, 41))] == [(41, body)]
    assert FlvRendering().render_still(unit, 41) == b""
