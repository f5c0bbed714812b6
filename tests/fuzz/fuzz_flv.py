"""FLV streams and bodies: documented results or InvalidData, the same for any cuts, memory bounded by one tag."""

from __future__ import annotations

from gateway.formats.flv import muxer
from gateway.formats.flv.demuxer import MediaDemuxer
from gateway.formats.flv.tag import MAX_TRACKS, ScriptTag, TrackStart, Unsupported
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, MediaTrack
from tests.fuzz import captures
from tests.support.flv_reader import FlvFileDemuxer

_RESULTS = (AccessUnit, MediaTrack, TrackStart, Unsupported, ScriptTag)
_MAX_TAG = 4096


def seeds() -> list[bytes]:
    """Bodies as clients sent them, and a stream of tags made of them."""
    media = captures.media()
    stream = b"".join(muxer.tag(m.type_id, m.timestamp, m.payload[:80]) for m in media[:20])
    return [stream, *(m.payload for m in media), *MULTITRACK]


# Sequence headers and frames of additional tracks: one track, many tracks, many tracks with many codecs.
_AVCC = b"\x01\x64\x00\x1f\xff\xe1\x00\x00"
MULTITRACK = (
    b"\x96\x00avc1\x01" + _AVCC,
    b"\x96\x13avc1\x00\x00\x00\x02ab\x01\x00\x00\x01c",
    b"\x95\x21mp4a\x00\x00\x00\x01aac-3\x02\x00\x00\x01b",
)


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module; a frame that was read and written is read as the same frame."""
    for stream in (data, muxer.file_header(True, True) + data):
        whole, single = _read(stream, len(stream) or 1), _read(stream, 1)
        assert repr(whole) == repr(single)  # a NaN in script data equals nothing
    demux = MediaDemuxer()
    step = 1 + (data[0] if data else 0)
    for at in range(0, len(data), step):
        body = data[at : at + step]
        for take in (demux.read_video, demux.read_audio):
            try:
                event = take(at, body)
            except InvalidData:
                continue
            items = [item for _, item in event] if isinstance(event, list) else [event]
            assert all(item is None or isinstance(item, _RESULTS) for item in items)
            assert len(demux.others) <= 2 * (MAX_TRACKS - 1)
            if isinstance(event, AccessUnit):
                again = MediaDemuxer()
                for header in (muxer.track_body(event.track),):
                    if header:
                        (again.read_video if take == demux.read_video else again.read_audio)(0, header)
                back = (again.read_video if take == demux.read_video else again.read_audio)(at, muxer.unit_body(event))
                assert (back.unit if isinstance(back, TrackStart) else back) in (event, None)


def _read(stream: bytes, size: int) -> list[object]:
    """Returns the events, followed by None if the stream was refused. Events of the last piece are then lost."""
    demux = FlvFileDemuxer(max_tag=_MAX_TAG)
    events: list[object] = []
    try:
        for at in range(0, len(stream), size):
            events += demux.receive(stream[at : at + size])
    except InvalidData:
        return [None]
    assert all(isinstance(event, _RESULTS) for event in events)
    return events
