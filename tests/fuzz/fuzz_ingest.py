"""A push, from its message bodies to everything that is made of it: FLV, RTMP, MPEG-TS, CMAF and the API's words."""

from __future__ import annotations

import json
from contextlib import suppress

from gateway.formats.flv.demuxer import parse_script
from gateway.live.flv_intake import FlvIntake
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.pushed_tracks import MAX_PUSHED
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.live.track_publisher import TrackPublisher
from gateway.live.unit_intake import AUDIO_INDEX, VIDEO_INDEX
from gateway.media import codecs
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, TimedData, Tracks
from gateway.packaging.cmaf.packager import CmafPackager, SequenceNumbers
from gateway.packaging.flv_output import FlvRendering
from gateway.packaging.packager import SegmentPlan
from gateway.packaging.rtmp_output import RtmpRendering
from gateway.packaging.segment_window import MAX_BYTES
from gateway.packaging.ts.packager import TsPackager
from tests.fuzz import captures
from tests.support import builders

_WALL = 1.7e9
_AUDIO, _VIDEO, _SCRIPT = 8, 9, 18


def seeds() -> list[bytes]:
    """Returns the first messages of each captured client, three times: the next key frame closes a segment.

    The last two have the media of the first one as additional tracks too, one of them as many tracks in one body.
    """
    pushes = captures.pushes()
    plain = [
        b"".join(_record(m.type_id, m.timestamp + later, m.payload) for later in (0, 800, 1600) for m in push[:18])
        for push in pushes
    ]
    additional = [
        b"".join(
            _record(m.type_id, m.timestamp + later, body)
            for later in (0, 800, 1600)
            for m in pushes[0][:18]
            for body in (m.payload, *_additional(m.type_id, m.payload, many))
        )
        for many in (False, True)
    ]
    return plain + additional


def _additional(kind: int, body: bytes, many: bool) -> list[bytes]:
    """A legacy H.264 or AAC body as two additional tracks; nothing for others."""
    if kind == _VIDEO and len(body) > 5 and body[0] & 15 == 7 and body[1] < 2:
        first, fourcc = bytes((0x80 | body[0] & 0x70 | 6,)), b"avc1"
        data = body[2:] if body[1] else body[5:]
    elif kind == _AUDIO and len(body) > 2 and body[0] >> 4 == 10:
        first, fourcc, data = b"\x95", b"mp4a", body[2:]
    else:
        return []
    packet = body[1]
    if not many:
        return [first + bytes((packet,)) + fourcc + bytes((track,)) + data for track in (1, 2)]
    parts = b"".join(bytes((track,)) + len(data).to_bytes(3, "big") + data for track in (1, 2))
    return [first + bytes((0x10 | packet,)) + fourcc + parts]


def _record(kind: int, time: int, body: bytes) -> bytes:
    return bytes((kind,)) + (time & 0xFFFFFF).to_bytes(3, "big") + len(body).to_bytes(2, "big") + body


class _Ts(TsPackager):
    def on_failed(self, error: Exception) -> None:
        _judge(error)
        super().on_failed(error)


class _Cmaf(CmafPackager):
    def on_failed(self, error: Exception) -> None:
        _judge(error)
        super().on_failed(error)


class _Viewers:
    """The data sent to players of FLV and RTMP."""

    def __init__(self) -> None:
        self._forms = (FlvRendering(), RtmpRendering())

    def on_tracks(self, tracks: Tracks) -> None:
        for form in self._forms:
            form.render_head(tracks, 0)

    def on_unit(self, unit: AccessUnit) -> None:
        for form in self._forms:
            form.render_unit(unit)

    def on_timed(self, timed: TimedData) -> None:
        for form in self._forms:
            form.render_timed(timed)

    def on_end(self, reason: EndReason) -> None:
        pass

    def on_failed(self, error: Exception) -> None:
        raise error


def _judge(error: Exception) -> None:
    """A packager may give up a configuration that cannot be carried, and nothing else."""
    if not isinstance(error, InvalidData):
        raise error


def fuzz(data: bytes) -> None:
    """Messages: type, time, body. Oracle: only InvalidData ends a push, no output fails, what is made is bounded."""
    stream = Stream(builders.spec("f", _WALL, 100_000, 5.0), builders.channel("f"))
    publisher = StreamPublisher(
        stream, PushOrigin("rtmp", "192.0.2.1"), 0.0, lambda reason: None, lambda publisher: None
    )
    ts, parts = (
        _Ts("f", SegmentPlan(0.2, 3), _WALL),
        _Cmaf("f", SegmentPlan(0.2, 3, 0.05), _WALL, SequenceNumbers(prefix=int(_WALL))),
    )
    for sink in (ts, parts, _Viewers()):
        stream.attach(sink)
    renditions: list[Stream] = []

    def publish(source: StreamPublisher, name: str, aligned: bool) -> StreamPublisher:
        rendition = Stream(builders.spec(f"f@{name}", _WALL, 100_000, 5.0), stream.channel)
        rendition.attach(_Viewers())
        renditions.append(rendition)
        origin = PushOrigin("rtmp", "192.0.2.1", keep_time=True, trusted=True)
        return StreamPublisher(rendition, origin, 0.0, lambda reason: None, lambda publisher: None)

    publisher.use_additional(TrackPublisher(publisher, publish))
    parts.follow_tracks(stream)
    with suppress(InvalidData):
        _push(FlvIntake(publisher), data)
    if stream.tracks is not None:
        for track in stream.tracks:
            json.dumps(codecs.describe(track), allow_nan=False)
    assert len(renditions) <= MAX_PUSHED
    assert all(s.gop._bytes <= 100_000 + len(data) for s in (stream, *renditions))
    stream.end(EndReason.PUBLISHER_GONE)
    if ts.ready:
        ts.playlist()
        assert ts.window.bytes <= MAX_BYTES
    if parts.ready:
        parts.manifests.master()
        parts.manifests.manifest()
        for lane in parts.manifests.tracks:
            parts.manifests.playlist(lane)
            assert lane.window.bytes <= MAX_BYTES


def _push(intake: FlvIntake, data: bytes) -> None:
    at, now = 0, 0.0
    while at + 6 <= len(data):
        kind, time = data[at], int.from_bytes(data[at + 1 : at + 4], "big")
        end = at + 6 + int.from_bytes(data[at + 4 : at + 6], "big")
        body = data[at + 6 : end]
        if kind == _VIDEO or kind & 0xC0 == 0x80:
            intake.take_media(VIDEO_INDEX, time, body, _WALL + now, now)
        elif kind == _SCRIPT:
            with suppress(InvalidData):  # the connection drops it, too
                intake.take_script(parse_script(time, body), now)
        else:
            intake.take_media(AUDIO_INDEX, time, body, _WALL + now, now)
        at, now = end, now + 0.02
    intake.finish(now)
