"""HTTP-FLV and WS-FLV playback: renders units as FLV tags that all viewers of a stream share."""

from __future__ import annotations

from gateway.formats.flv import muxer
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.packaging.feed import Feed


class FlvRendering:
    """Renders FLV tags. A viewer's first bytes are the file header."""

    def head(self, tracks: Tracks, dts_ms: int) -> bytes:
        header = muxer.file_header(tracks.video is not None, tracks.audio is not None)
        # The first metadata has timestamp 0. With any other timestamp, ffmpeg's probing detects a subtitle track.
        return header + muxer.metadata_tag(tracks, 0) + muxer.sequence_headers(tracks, dts_ms)

    def change(self, tracks: Tracks, dts_ms: int) -> bytes:
        return muxer.metadata_tag(tracks, dts_ms) + muxer.sequence_headers(tracks, dts_ms)

    def unit(self, unit: AccessUnit) -> bytes:
        return muxer.unit_tag(unit)

    def timed(self, timed: Timed) -> bytes:
        return muxer.timed_tag(timed)


class FlvOutput:
    """The output `flv`: one feed for the viewers of HTTP-FLV and WS-FLV."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed

    async def run(self, stream: Stream) -> None:
        try:
            await stream.over()
        finally:
            self.feed.close(stream.ended or EndReason.OUTPUT_OFF)
