"""RTMP play: units as chunks with full headers, the same bytes for every player."""

from __future__ import annotations

from gateway.formats.flv import muxer
from gateway.hub.stream import EndReason, Stream
from gateway.media.track import Kind, Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.packagers.feed import Feed
from gateway.protocols.rtmp.chunk import shared_message
from gateway.protocols.rtmp.message import CSID, CSID_AUDIO, CSID_DATA, CSID_VIDEO, DATA
from gateway.protocols.rtmp.message import AUDIO as AUDIO_MESSAGE
from gateway.protocols.rtmp.message import VIDEO as VIDEO_MESSAGE

_VIDEO = Kind.VIDEO


class RtmpRendering:
    """Messages on message stream 1, in chunks of the size that every player was told."""

    def __init__(self, chunk_size: int) -> None:
        self._chunk_size = chunk_size

    def head(self, tracks: Tracks, dts_ms: int) -> bytes:
        size = self._chunk_size
        messages = [shared_message(CSID_DATA, DATA, dts_ms, muxer.metadata_body(tracks), size)]
        for kind, body in muxer.sequence_bodies(tracks):
            messages.append(shared_message(CSID[kind], kind, dts_ms, body, size))
        return b"".join(messages)

    change = head

    def unit(self, unit: AccessUnit) -> bytes:
        if unit.track.kind is _VIDEO:
            csid, kind = CSID_VIDEO, VIDEO_MESSAGE
        else:
            csid, kind = CSID_AUDIO, AUDIO_MESSAGE
        return shared_message(csid, kind, muxer.unit_time(unit), muxer.unit_body(unit), self._chunk_size)

    def timed(self, timed: Timed) -> bytes:
        return shared_message(CSID_DATA, DATA, timed.dts, muxer.timed_body(timed), self._chunk_size)


class RtmpOutput:
    """The output `rtmp`: always on, without cost while nobody plays."""

    def __init__(self, stream: Stream, chunk_size: int, flush_seconds: float, stall_seconds: float) -> None:
        self.feed = Feed(stream, RtmpRendering(chunk_size), flush_seconds, stall_seconds)

    async def run(self, stream: Stream) -> None:
        try:
            await stream.over()
        finally:
            self.feed.close(stream.ended or EndReason.OUTPUT_OFF)
