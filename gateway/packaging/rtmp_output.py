"""RTMP playback: renders units as chunks with full headers. All players receive the same bytes."""

from collections.abc import Callable, Sequence

from gateway.formats.flv import muxer
from gateway.live.stream import Stream
from gateway.media.clock import MILLISECONDS
from gateway.media.timed_data import PrivateData
from gateway.media.track import AccessUnit, Kind, TimedData, Tracks
from gateway.packaging.feed import Feed, Rendering, close_at_end
from gateway.protocols.rtmp.chunk_writer import shared_message
from gateway.protocols.rtmp.message import AUDIO as AUDIO_MESSAGE
from gateway.protocols.rtmp.message import CSID, CSID_AUDIO, CSID_DATA, CSID_VIDEO, DATA
from gateway.protocols.rtmp.message import VIDEO as VIDEO_MESSAGE

_VIDEO = Kind.VIDEO


class RtmpRendering:
    """Renders RTMP messages on one message stream, in chunks of the size that is announced to every player."""

    def __init__(self, stream_id: int = 1) -> None:
        self._stream_id = stream_id

    def render_head(self, tracks: Tracks, dts_ms: int, later: Sequence[Tracks] = ()) -> bytes:
        # The first metadata has timestamp 0. With any other timestamp, ffmpeg's probing detects a subtitle track.
        return self._headers(tracks, 0, dts_ms)

    def render_change(self, tracks: Tracks, dts_ms: int) -> bytes:
        return self._headers(tracks, dts_ms, dts_ms)

    def render_still(self, unit: AccessUnit, dts_ms: int) -> bytes:
        return b""

    def _headers(self, tracks: Tracks, metadata_ms: int, dts_ms: int) -> bytes:
        to = self._stream_id
        messages = [shared_message(CSID_DATA, DATA, metadata_ms, muxer.metadata_body(tracks), stream_id=to)]
        for kind, body in muxer.sequence_bodies(tracks):
            messages.append(shared_message(CSID[kind], kind, dts_ms, body, stream_id=to))
        return b"".join(messages)

    def render_unit(self, unit: AccessUnit) -> bytes:
        if unit.track.kind is _VIDEO:
            csid, kind = CSID_VIDEO, VIDEO_MESSAGE
        else:
            csid, kind = CSID_AUDIO, AUDIO_MESSAGE
        body = muxer.unit_body(unit)
        return shared_message(csid, kind, muxer.unit_time(unit), body, stream_id=self._stream_id)

    def render_timed(self, timed: TimedData) -> bytes:
        if isinstance(timed.value, PrivateData):
            return b""
        timed = timed.counted(MILLISECONDS)
        body = muxer.timed_body(timed)
        return shared_message(CSID_DATA, DATA, timed.dts, body, stream_id=self._stream_id)


class RtmpOutput:
    """The output `rtmp`. It is always on; without players it costs nothing.

    make_feed: makes a feed of this output's stream.
    """

    def __init__(self, make_feed: Callable[[Rendering], Feed]) -> None:
        self._make_feed = make_feed
        self._feeds: dict[int, Feed] = {}

    def feed(self, stream_id: int) -> Feed:
        """Returns the feed of the players on this message stream.

        Nearly all players use message stream 1. The caller must limit the ids that one connection can use.
        """
        feed = self._feeds.get(stream_id)
        if feed is None:
            feed = self._feeds[stream_id] = self._make_feed(RtmpRendering(stream_id))
        return feed

    async def run(self, stream: Stream) -> None:
        await close_at_end(stream, lambda: self._feeds.values())
