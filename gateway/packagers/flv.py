"""HTTP-FLV and WS-FLV: units as FLV tags, shared by every viewer of a stream."""

from __future__ import annotations

from gateway.formats.flv import muxer
from gateway.hub.stream import EndReason, Stream
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.packagers.feed import Feed, FeedCounts


class FlvRendering:
    """FLV tags; a viewer's first bytes are the file header."""

    def head(self, tracks: Tracks, dts_ms: int) -> bytes:
        header = muxer.file_header(tracks.video is not None, tracks.audio is not None)
        return header + self.change(tracks, dts_ms)

    def change(self, tracks: Tracks, dts_ms: int) -> bytes:
        # Metadata stands at 0 whenever it comes: at any other time ffmpeg takes it for a track of subtitles.
        return muxer.metadata_tag(tracks, 0) + muxer.sequence_headers(tracks, dts_ms)

    def unit(self, unit: AccessUnit) -> bytes:
        return muxer.unit_tag(unit)

    def timed(self, timed: Timed) -> bytes:
        return muxer.timed_tag(timed)


class FlvOutput:
    """The output `flv`: one feed for the viewers of HTTP-FLV and WS-FLV."""

    def __init__(
        self, stream: Stream, flush_seconds: float, stall_seconds: float, counts: FeedCounts | None = None
    ) -> None:
        self.feed = Feed(stream, FlvRendering(), flush_seconds, stall_seconds, counts)

    async def run(self, stream: Stream) -> None:
        try:
            await stream.over()
        finally:
            self.feed.close(stream.ended or EndReason.OUTPUT_OFF)
