"""VP9 as libav writes it into FLV, through our demuxer and muxer, and back into libav."""

from __future__ import annotations

import io

import av
import pytest

from gateway.formats.flv import muxer
from gateway.formats.flv.demuxer import MediaDemuxer
from gateway.formats.flv.tag import VIDEO
from gateway.media.track import AccessUnit, Codec, MediaTrack, Tracks
from tests.support.flv_reader import FlvReader

PICTURES = 20
BOX = b"\x01\0\0\0"


@pytest.fixture(scope="module")
def film() -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="flv") as container:
        stream = container.add_stream("libvpx-vp9", rate=25, options={"deadline": "realtime", "cpu-used": "8"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 320, 180, "yuv420p", 10
        for number in range(PICTURES):
            frame = av.VideoFrame(320, 180, "yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return target.getvalue()


def digests(flv: bytes) -> list[int]:
    with av.open(io.BytesIO(flv), format="flv") as container:
        return [hash(bytes(frame.planes[0])) for frame in container.decode(video=0)]


def with_config(flv: bytes, before: bytes) -> bytes:
    """The film with other bytes before its vpcC record; libav writes BOX."""
    told = flv.index(b"\x90vp09")
    size = int.from_bytes(flv[told - 10 : told - 7], "big")
    body = flv[told : told + 5] + before + flv[told + 5 + len(BOX) : told + size]
    head = flv[: told - 10] + len(body).to_bytes(3, "big") + flv[told - 7 : told]
    return head + body + (len(body) + 11).to_bytes(4, "big") + flv[told + size + 4 :]


@pytest.mark.parametrize("before", [BOX, b"\x01", b""], ids=["box", "version", "record"])
def test_vp9_has_the_form_that_ffmpeg_writes(film: bytes, before: bytes) -> None:
    told = film.index(b"\x90vp09")
    assert film[told + 5 : told + 9] == BOX, "libav writes version and flags; where it does not, ask what players want"
    tracks, units = Tracks(None, None), []
    demux = MediaDemuxer()
    for tag in FlvReader().receive(with_config(film, before)):
        event = demux.read_video(tag.timestamp, tag.payload) if tag.type_id == VIDEO else None
        if isinstance(event, MediaTrack):
            tracks = Tracks(event, None)
        elif isinstance(event, AccessUnit):
            units.append(event)
    assert tracks.video is not None
    assert tracks.video.codec is Codec.VP9
    ours = muxer.file_header(True, False) + muxer.metadata_tag(tracks, 0) + muxer.sequence_headers(tracks, 0)
    ours += b"".join(muxer.unit_tag(unit) for unit in units)
    assert film[told : told + 5 + 12] in ours
    assert len(digests(ours)) == PICTURES
    assert digests(ours) == digests(film)
